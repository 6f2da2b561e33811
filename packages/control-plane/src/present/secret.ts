/** Rows of secrets as the wire shows them (contract 10): never a value. */
import type { Secret } from "@helmr/api";
import type { Scope, SecretRow } from "@helmr/store";

export function presentSecret(scope: Scope, row: SecretRow): Secret {
  return {
    project_id: scope.projectId,
    environment_id: scope.environmentId,
    name: row.name,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}
