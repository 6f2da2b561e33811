/** Rows of API keys as the wire shows them (contract 11): never the key. */
import type { ApiKey } from "@helmr/api";
import type { ApiKeyRow, Scope } from "@helmr/store";

export function presentApiKey(scope: Scope, row: ApiKeyRow): ApiKey {
  return {
    id: row.id,
    name: row.name,
    key_prefix: row.key_prefix,
    project_id: scope.projectId,
    environment_id: scope.environmentId,
    ...(row.scopes.length === 0 ? {} : { permissions: [{ scopes: [...row.scopes] }] }),
    status: row.status,
    created_at: row.created_at.toISOString(),
    last_used_at: row.last_used_at?.toISOString() ?? null,
    expires_at: row.expires_at?.toISOString() ?? null,
    revoked_at: row.revoked_at?.toISOString() ?? null,
  };
}
