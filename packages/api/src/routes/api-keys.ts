/** API keys (contract 11): members make them, below an environment's prefix only. */
import * as wire from "../wire/index.ts";
import { get, post, remove } from "./route.ts";

const manageApiKeys = {
  access: { kind: "environment-member", permission: "api_keys.manage" },
} as const;

export const apiKeyRoutes = {
  listApiKeys: {
    ...get,
    ...manageApiKeys,
    path: "/api-keys",
    summary: "List API keys, newest first",
    query: wire.apiKeyListQuery,
    responses: { 200: wire.apiKeyList },
  },
  createApiKey: {
    ...post,
    ...manageApiKeys,
    path: "/api-keys",
    summary: "Create an API key; it is shown this once",
    body: wire.apiKeyCreateRequest,
    responses: { 201: wire.createdApiKey },
  },
  revokeApiKey: {
    ...remove,
    ...manageApiKeys,
    path: "/api-keys/:apiKeyID",
    summary: "Revoke an API key",
    params: wire.apiKeyParams,
    responses: { 204: null },
  },
} as const;
