/** Reading live copies. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { Scope } from "../scope.ts";
import type { MaterializationRow } from "./lifecycle.ts";

/** Undefined when the scope has no such live copy of this workspace. */
export async function getMaterialization(
  db: Queryable,
  scope: Scope,
  { workspaceId, id }: { readonly workspaceId: string; readonly id: string },
): Promise<MaterializationRow | undefined> {
  const { rows } = await sql<MaterializationRow>`
    select m.* from workspace_materializations m where m.id = ${id} and m.workspace_id = ${workspaceId}
      and m.environment_id = ${scope.environmentId}`.execute(db);
  return rows[0];
}

/** The workspace's live copy, whatever its state; undefined when it has none. */
export async function getLiveMaterialization(
  db: Queryable,
  scope: Scope,
  workspaceId: string,
): Promise<MaterializationRow | undefined> {
  const { rows } = await sql<MaterializationRow>`
    select m.* from workspace_materializations m where m.workspace_id = ${workspaceId}
      and m.environment_id = ${scope.environmentId} and m.ended_at is null`.execute(db);
  return rows[0];
}
