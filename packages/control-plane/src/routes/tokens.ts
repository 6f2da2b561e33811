/** Tokens (contract 5): made, read, completed and cancelled; completed also from outside, by their secrets. */
import { codedError } from "@helmr/api";
import {
  type ActingScope,
  type CompleteToken,
  cancelToken,
  completeToken,
  createToken,
  getToken,
  listTokens,
} from "@helmr/store";
import type { Context } from "../context.ts";
import { tellResolved } from "../hints.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentCreatedToken, presentToken } from "../present/token.ts";

const defaultLimit = 100;
/** Contract 5.1. */
const defaultTimeoutMs = 7 * 86_400_000;

type TokenHandlers = Pick<
  Handlers,
  | "createToken"
  | "listTokens"
  | "getToken"
  | "completeToken"
  | "cancelToken"
  | "completeTokenPublicly"
  | "callBackToken"
>;

export function tokenHandlers({ db, bus, tokenSecrets }: Context): TokenHandlers {
  const complete = async (scope: ActingScope, id: string, completion: CompleteToken) => {
    const { status, token, resolved } = await completeToken(db, scope, id, completion);
    tellResolved(bus, resolved);
    return { status: 200, body: { status, token: presentToken(token) } } as const;
  };
  return {
    createToken: async ({ scope, body }) => {
      const { token, cached } = await createToken(db, scope, {
        timeoutMs: body.timeout ?? defaultTimeoutMs,
        tags: body.tags ?? [],
        metadata: body.metadata ?? {},
        idempotencyKey: body.idempotency_key,
      });
      return { status: cached ? 200 : 201, body: presentCreatedToken(token, tokenSecrets) };
    },
    listTokens: async ({ scope, query }) => {
      const limit = query.limit ?? defaultLimit;
      const rows = await listTokens(db, scope, {
        status: query.status ?? query.state,
        cursor: query.cursor ?? query.after,
        limit: limit + 1,
      });
      const page = rows.slice(0, limit);
      const last = rows.length > limit ? page.at(-1) : undefined;
      const next = last === undefined ? {} : { next_cursor: last.id };
      return { status: 200, body: { tokens: page.map(presentToken), ...next } };
    },
    getToken: async ({ scope, params }) => ({
      status: 200,
      body: presentToken((await getToken(db, scope, params.tokenID)) ?? notFound()),
    }),
    completeToken: ({ scope, params, body }) => complete(scope, params.tokenID, { dataJson: jsonOf(body) }),
    cancelToken: async ({ scope, params }) => {
      const { token, resolved } = await cancelToken(db, scope, params.tokenID);
      tellResolved(bus, resolved);
      return { status: 200, body: presentToken(token) };
    },
    completeTokenPublicly: ({ scope, params, body }) =>
      complete(scope, params.tokenID, { dataJson: jsonOf(body), byPublicAccess: true }),
    callBackToken: ({ scope, params, body }) => complete(scope, params.tokenID, { dataJson: jsonOf(body) }),
  };
}

function notFound(): never {
  throw codedError("token_not_found");
}

function jsonOf(body: { readonly data?: unknown }): string {
  return JSON.stringify(body.data ?? null);
}
