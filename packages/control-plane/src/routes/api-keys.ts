/** API keys of an environment (contract 11): made and revoked by members, shown once. */
import { ApiError, type ApiKeyScope, permissionOf, rolePermissions } from "@helmr/api";
import { createApiKey, listApiKeys, revokeApiKey } from "@helmr/store";
import type { Member } from "../auth/authorize.ts";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentApiKey } from "../present/api-key.ts";
import { found } from "./found.ts";

/** Contract 11. */
const maxListed = 200;
const dayMs = 86_400_000;

export function apiKeyHandlers({
  db,
  authenticator,
}: Context): Pick<Handlers, "listApiKeys" | "createApiKey" | "revokeApiKey"> {
  return {
    listApiKeys: async ({ scope, query }) => {
      const { filter = "active" } = query;
      const status = filter === "all" ? undefined : filter;
      const rows = await listApiKeys(db, scope, { status, limit: maxListed + 1 });
      const items = rows.slice(0, maxListed).map((row) => presentApiKey(scope, row));
      return { status: 200, body: { items, has_more: rows.length > maxListed } };
    },
    createApiKey: async ({ scope, member, body }) => {
      refuseMoreThanOwn(member, body.permissions);
      const days = body.expires_in_days ?? undefined;
      const { rawKey, ...row } = await createApiKey(db, scope, {
        name: body.name,
        scopes: body.permissions,
        expiresAt: days === undefined ? undefined : new Date(Date.now() + days * dayMs),
      });
      return { status: 201, body: { ...presentApiKey(scope, row), raw_key: rawKey } };
    },
    revokeApiKey: async ({ scope, params }) => {
      found((await revokeApiKey(db, scope, params.apiKeyID)) || undefined, "API key");
      authenticator.forget();
      return { status: 204, body: undefined };
    },
  };
}

/** Nobody gives away what they do not have. */
function refuseMoreThanOwn({ role }: Member, scopes: readonly ApiKeyScope[]): void {
  const missing = scopes.filter((scope) => !rolePermissions[role].has(permissionOf(scope)));
  if (missing.length > 0) {
    throw new ApiError(403, `permissions: the role ${role} does not have ${missing.join(", ")}`);
  }
}
