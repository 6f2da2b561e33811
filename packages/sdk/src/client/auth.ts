/** `client.auth` (contract 5.2): bearer tokens that may be given to browsers. */
import { InvalidResponseError } from "../errors.ts";
import { type Address, addressOf, type SessionAddress } from "./session-address.ts";
import { streamNameOf } from "./session-records.ts";
import type { ScopeOptions, Transport } from "./transport.ts";
import { numberOrNull, textOrNull, type WireObject, wireObject, wireText } from "./wire.ts";

export type PublicTokenScopeType = "session.input.send" | "session.output.read";
export interface PublicTokenScope {
  readonly type: PublicTokenScopeType;
  readonly session: SessionAddress;
  /** By name, or as a task module declares it. */
  readonly stream: string | { readonly id: string; readonly direction: "input" | "output" };
  /** Only records with it. */
  readonly correlationId?: string | undefined;
}
export interface CreatePublicTokenOptions extends ScopeOptions {
  readonly scope: PublicTokenScope;
  /** Default in 30 days. */
  readonly expiresAt?: string | Date | undefined;
  /** Default: as many as are wanted. */
  readonly maxUses?: number | undefined;
}
export interface PublicToken {
  readonly id: string;
  /** Given this once. */
  readonly publicAccessToken: string;
  readonly scope: {
    readonly type: PublicTokenScopeType;
    readonly session: Address;
    readonly stream: string;
    readonly correlationId?: string;
  };
  readonly expiresAt: string;
  readonly maxUses?: number;
  readonly createdAt: string;
}
export interface AuthApi {
  /** A bearer token for one stream of one session. With a session token as `apiKey`, pass projectId and environmentId. */
  createPublicToken(options: CreatePublicTokenOptions): Promise<PublicToken>;
}

/** Builds the API on a transport that is asked for at each call. */
export function createAuthApi(transport: () => Transport): AuthApi {
  return Object.freeze({
    async createPublicToken(options: CreatePublicTokenOptions) {
      const { projectId, environmentId, signal, expiresAt, maxUses } = options;
      if ((projectId === undefined) !== (environmentId === undefined))
        throw new TypeError("projectId and environmentId go together: pass both, or none with an API key");
      const body = {
        project_id: projectId,
        environment_id: environmentId,
        scope: wireScope(options.scope),
        expires_at: expiresAt instanceof Date ? expiresAt.toISOString() : expiresAt,
        max_uses: maxUses,
      };
      const path = "/public-access-tokens";
      return publicToken(await transport().json({ method: "POST", path, body, scope: { signal } }));
    },
  });
}

function wireScope({ type, session, stream, correlationId }: PublicTokenScope) {
  const address = addressOf(session);
  const direction = type === "session.output.read" ? "output" : "input";
  return {
    type,
    session:
      "id" in address
        ? { type: "id", id: address.id }
        : { type: "external_id", external_id: address.externalId },
    stream: streamNameOf(stream, direction),
    correlation_id: correlationId,
  };
}

function publicToken(value: unknown): PublicToken {
  const what = "public access token";
  const token = wireObject(value, what);
  const scope = wireObject(token.scope, `${what}: scope`);
  const type = wireText(scope, "type", `${what}: scope`);
  const correlationId = textOrNull(scope, "correlation_id");
  const maxUses = numberOrNull(token, "max_uses");
  return Object.freeze({
    id: wireText(token, "id", what),
    publicAccessToken: wireText(token, "public_access_token", what),
    scope: Object.freeze({
      type: type as PublicTokenScopeType,
      session: sessionOf(wireObject(scope.session, `${what}: session`)),
      stream: wireText(scope, "stream", `${what}: scope`),
      ...(correlationId === null ? {} : { correlationId }),
    }),
    expiresAt: wireText(token, "expires_at", what),
    ...(maxUses === null ? {} : { maxUses }),
    createdAt: wireText(token, "created_at", what),
  });
}

/** A blank address would name no session: contract 14, 16. */
function sessionOf(session: WireObject): Address {
  const byId = session.type === "id";
  const name = textOrNull(session, byId ? "id" : "external_id")?.trim();
  if (name === undefined || name === "")
    throw new InvalidResponseError("public access token: the server named no session");
  return Object.freeze(byId ? { id: name } : { externalId: name });
}
