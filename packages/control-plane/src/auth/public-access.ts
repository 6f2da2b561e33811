/**
 * Who may call the routes of browsers and webhooks (contract 4.3, 5.1). Every refusal has its code.
 *
 *   401 token_scope_denied  no bearer, or one that is no such token; a secret that is not the token's
 *   403 token_scope_denied  a public access token of another scope, used up or revoked
 *   410 token_expired       a public access token that is expired
 *   404 token_not_found     the secret is right and the token is gone
 *
 * Whether it is the right session, stream and correlation id, and whether a use is left, is decided with the use itself
 * (store/src/public-access-tokens.ts).
 */
import { ApiError, codedError, type RouteAccess } from "@helmr/api";
import {
  type ActingScope,
  type Actor,
  findPublicAccessToken,
  findTokenScope,
  type PublicAccessGrant,
  publicAccessTokenPattern,
  refuseUnusable,
} from "@helmr/store";
import type { FastifyRequest } from "fastify";
import { type AuthorizeOptions, lookUp, whence } from "./authorize.ts";

export type PublicAccess = PublicAccessGrant & { readonly scope: ActingScope };

type Options = Pick<AuthorizeOptions, "db" | "failing" | "tokenSecrets">;

function denied(message: string): () => ApiError {
  return () => new ApiError(401, message, "token_scope_denied");
}

const noBearer = denied("a public access token is required as bearer");
const unknownToken = denied("the public access token is unknown");
const wrongSecret = denied("the secret is not this token's");

export async function authorizePublicAccess(
  options: Options,
  request: FastifyRequest,
  { scopeType }: RouteAccess & { kind: "public-access" },
): Promise<{ readonly actor: Actor; readonly publicAccess: PublicAccess }> {
  const bearer = bearerOf(request);
  if (bearer === undefined) throw noBearer();
  const grant = await lookUp(
    options,
    request,
    bearer,
    async (token) =>
      publicAccessTokenPattern.test(token) ? await findPublicAccessToken(options.db, token) : undefined,
    unknownToken,
  );
  if (grant.scopeType !== scopeType) {
    throw codedError("token_scope_denied", `the public access token is not for ${scopeType}`);
  }
  refuseUnusable(grant.state);
  const actor: Actor = {
    kind: "public_access_token",
    id: grant.id,
    label: "public access token",
    ...whence(request),
  };
  return { actor, publicAccess: { ...grant, scope: { ...grant.scope, actor } } };
}

export async function authorizeToken(
  options: Options,
  request: FastifyRequest,
  { secretIn }: RouteAccess & { kind: "token" },
): Promise<{ readonly actor: Actor; readonly scope: ActingScope }> {
  const { tokenID = "", callbackSecret = "" } = request.params as Record<string, string | undefined>;
  const id = tokenID.toLowerCase();
  const secret = secretIn === "path" ? callbackSecret : bearerOf(request);
  if (secret === undefined) throw noBearer();
  const { isCallbackSecret, isPublicAccessToken } = options.tokenSecrets;
  const isRight = secretIn === "path" ? isCallbackSecret : isPublicAccessToken;
  const find = async () => (isRight(id, secret) ? id : undefined);
  await lookUp(options, request, secret, find, secretIn === "path" ? wrongSecret : unknownToken);
  const scope = await findTokenScope(options.db, id);
  if (scope === undefined) throw codedError("token_not_found");
  const actor: Actor =
    secretIn === "path"
      ? { kind: "callback_url", id, label: "callback URL", ...whence(request) }
      : { kind: "public_access_token", id, label: "public access token", ...whence(request) };
  return { actor, scope: { ...scope, actor } };
}

function bearerOf(request: FastifyRequest): string | undefined {
  return /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
}
