/** Tokens and public access tokens (contract 5). */
import * as wire from "../wire/index.ts";
import { environment, get, post } from "./route.ts";

const complete = {
  ...post,
  params: wire.tokenParams,
  body: wire.tokenCompleteRequest,
  responses: { 200: wire.tokenCompletion },
  errors: [409, 410],
} as const;

export const tokenRoutes = {
  createToken: {
    ...post,
    ...environment("tokens.create"),
    path: "/tokens",
    summary: "Create a token that somebody outside completes",
    body: wire.tokenCreateRequest,
    responses: { 201: wire.createdToken, 200: wire.createdToken },
    errors: [409],
  },
  listTokens: {
    ...get,
    ...environment("tokens.read"),
    path: "/tokens",
    summary: "List tokens, oldest first",
    query: wire.tokenListQuery,
    responses: { 200: wire.tokenList },
  },
  getToken: {
    ...get,
    ...environment("tokens.read"),
    path: "/tokens/:tokenID",
    summary: "Read a token",
    params: wire.tokenParams,
    responses: { 200: wire.token },
  },
  completeToken: {
    ...complete,
    ...environment("tokens.complete"),
    path: "/tokens/:tokenID/complete",
    summary: "Complete a token",
  },
  cancelToken: {
    ...post,
    ...environment("tokens.cancel"),
    path: "/tokens/:tokenID/cancel",
    summary: "Cancel a token",
    params: wire.tokenParams,
    bodyIgnored: true,
    responses: { 200: wire.token },
    errors: [409, 410],
  },
  completeTokenPublicly: {
    ...complete,
    access: { kind: "token", secretIn: "bearer" },
    rateLimit: "public_completion",
    cors: true,
    path: "/v1/tokens/:tokenID/complete",
    summary: "Complete a token with its public access token",
  },
  callBackToken: {
    ...complete,
    access: { kind: "token", secretIn: "path" },
    rateLimit: "public_completion",
    path: "/v1/tokens/:tokenID/callback/:callbackSecret",
    params: wire.tokenCallbackParams,
    summary: "Complete a token by its callback URL",
  },
  createPublicAccessToken: {
    ...post,
    access: { kind: "body-environment", permissions: ["session.input.send", "session.streams.read"] },
    path: "/public-access-tokens",
    summary: "Create a bearer token for one stream of a session",
    body: wire.publicAccessTokenCreateRequest,
    responses: { 201: wire.publicAccessToken },
    errors: [410],
  },
} as const;
