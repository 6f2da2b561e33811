/** `client.tokens` (contract 5): what somebody outside completes, once. */
import { InvalidResponseError } from "../errors.ts";
import type { Token } from "../runtime/run-tokens.ts";
import { type ApiRequest, pathSegment, type ScopeOptions, type Transport } from "./transport.ts";
import { objectOrEmpty, textList, textOrNull, wireList, wireObject, wireText } from "./wire.ts";

/** `"10m"`, `"7d"`; a number is milliseconds; the parts of an object are summed. */
export type TokenTimeout =
  | string
  | number
  | {
      readonly milliseconds?: number;
      readonly seconds?: number;
      readonly minutes?: number;
      readonly hours?: number;
      readonly duration?: string;
    };

export interface TokenCreateOptions extends ScopeOptions {
  /** Default 7 days. */
  readonly timeout?: TokenTimeout | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /** Sent as it is: the same key with the same options is one token. */
  readonly idempotencyKey?: string | undefined;
}
export interface TokenListOptions extends ScopeOptions {
  readonly status?: Token["status"] | undefined;
  /** The id of a token: those after it. */
  readonly cursor?: string | undefined;
  /** 1 to 500, default 100. */
  readonly limit?: number | undefined;
}
export interface TokenCompleteOptions extends ScopeOptions {
  /** Instead of the client's API key; default that of the token, when it has one. */
  readonly publicAccessToken?: string | undefined;
}
export interface TokenPage {
  readonly tokens: readonly Token[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
}
export interface TokenCompletion {
  readonly status: "completed" | "already_completed";
  readonly token: Token;
}
/** A token's id, or the token. */
export type TokenReference = string | Pick<Token, "id" | "publicAccessToken">;

export interface TokensApi {
  create(options?: TokenCreateOptions): Promise<Token>;
  retrieve(token: TokenReference, options?: ScopeOptions): Promise<Token>;
  /** One page, oldest first. */
  list(options?: TokenListOptions): Promise<Token[]>;
  /** The same with the cursor of the next page. */
  listPage(options?: TokenListOptions): Promise<TokenPage>;
  /** What waits for it goes on with `data`. Completed with the same data before: `already_completed`. */
  complete(token: TokenReference, data?: unknown, options?: TokenCompleteOptions): Promise<TokenCompletion>;
  cancel(token: TokenReference, options?: ScopeOptions): Promise<Token>;
}

/** Builds the API on a transport that is asked for at each call. */
export function createTokensApi(transport: () => Transport): TokensApi {
  const listPage = async (options: TokenListOptions = {}): Promise<TokenPage> => {
    const query = [
      ["status", options.status] as const,
      ["cursor", options.cursor] as const,
      ["limit", options.limit] as const,
    ];
    const answer = await transport().json({ method: "GET", path: "/tokens", query, scope: options });
    const tokens = wireList(answer, "tokens").map(tokenOf);
    return Object.freeze({ tokens, nextCursor: textOrNull(wireObject(answer, "tokens"), "next_cursor") });
  };
  return Object.freeze({
    async create(options: TokenCreateOptions = {}) {
      const { timeout, tags, metadata, idempotencyKey: idempotency_key } = options;
      const body = { timeout, tags, metadata, idempotency_key };
      return tokenOf(await transport().json({ method: "POST", path: "/tokens", body, scope: options }));
    },
    async retrieve(token: TokenReference, options: ScopeOptions = {}) {
      return tokenOf(await transport().json({ method: "GET", path: pathOf(token), scope: options }));
    },
    async list(options?: TokenListOptions) {
      return [...(await listPage(options)).tokens];
    },
    listPage,
    async complete(token: TokenReference, data?: unknown, options: TokenCompleteOptions = {}) {
      const answer = wireObject(
        await transport().json(completeRequest(token, data, options)),
        "token completion",
      );
      const status = wireText(answer, "status", "token completion");
      if (status !== "completed" && status !== "already_completed")
        throw new InvalidResponseError(`token completion: unknown status ${JSON.stringify(status)}`);
      return Object.freeze({ status, token: tokenOf(answer.token) });
    },
    async cancel(token: TokenReference, options: ScopeOptions = {}) {
      const path = `${pathOf(token)}/cancel`;
      return tokenOf(await transport().json({ method: "POST", path, body: {}, scope: options }));
    },
  } satisfies TokensApi);
}

/** Contract 5.1: with a public access token the browsers' route, which takes no project and environment. */
function completeRequest(token: TokenReference, data: unknown, options: TokenCompleteOptions): ApiRequest {
  const given = typeof token === "string" ? undefined : token.publicAccessToken;
  const publicAccessToken = options.publicAccessToken ?? given;
  const head = { method: "POST", body: { data } } as const;
  const path = `${pathOf(token)}/complete`;
  if (publicAccessToken === undefined) return { ...head, path, scope: options };
  return { ...head, path: `/v1${path}`, scope: { signal: options.signal }, publicAccessToken };
}

function pathOf(token: TokenReference): string {
  return `/tokens/${pathSegment(typeof token === "string" ? token : token?.id, "token id")}`;
}

const statuses = ["pending", "completed", "expired", "cancelled"] as const;

function tokenOf(value: unknown): Token {
  const token = wireObject(value, "token");
  const status = token.status === undefined ? "pending" : statuses.find((known) => known === token.status);
  if (status === undefined) {
    throw new InvalidResponseError(
      `token: unknown status ${JSON.stringify(token.status)}; is this SDK older than the server?`,
    );
  }
  const callbackUrl = textOrNull(token, "callback_url");
  const publicAccessToken = textOrNull(token, "public_access_token");
  return Object.freeze({
    id: wireText(token, "id", "token"),
    status,
    ...(callbackUrl === null ? {} : { callbackUrl }),
    ...(publicAccessToken === null ? {} : { publicAccessToken }),
    timeoutAt: textOrNull(token, "timeout_at"),
    ...(Object.hasOwn(token, "data") ? { data: token.data } : {}),
    tags: textList(token, "tags"),
    metadata: objectOrEmpty(token, "metadata"),
  });
}
