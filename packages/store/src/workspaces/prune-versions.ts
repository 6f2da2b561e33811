/** Versions that go: what runs left behind beyond the number that is kept, and all of a workspace that is deleted. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { discardArtifacts } from "../deletion/artifacts.ts";

/** A save adds one: this many at once also get rid of what a smaller number to keep leaves. */
const versionsPerSave = 10;

/**
 * Remove the oldest system versions of a locked workspace (W1) beyond `keep`, but none that is current or that a checkpoint
 * needs (W3). Part of each save: a save pays for what it adds, and idle workspaces cost nothing.
 */
export async function pruneVersions(tx: Tx, workspaceId: string, keep: number): Promise<number> {
  const { rows } = await sql<{ id: string }>`
    select v.id from (
      select id, created_at from workspace_versions where workspace_id = ${workspaceId} and kind = 'system'
      order by created_at desc, id desc offset ${keep}::integer) v
    where v.id is distinct from (select current_version_id from workspaces where id = ${workspaceId})
      and not exists (select from run_checkpoints k where k.workspace_version_id = v.id)
    order by v.created_at limit ${versionsPerSave}::integer`.execute(tx);
  const ids = rows.map(({ id }) => id);
  if (ids.length > 0) await removeVersions(tx, workspaceId, ids);
  return ids.length;
}

/** Of a locked workspace (W1). W5: the artifacts that its other versions have are not noted. */
export async function removeVersions(tx: Tx, workspaceId: string, ids: readonly string[]): Promise<void> {
  await sql`with noted as (${discardArtifacts(sql`
      select distinct a.digest from workspace_version_artifacts a where a.version_id = any (${ids}::uuid[])
        and not exists (select from workspace_version_artifacts o join workspace_versions v on v.id = o.version_id
          where o.digest = a.digest and v.workspace_id = ${workspaceId} and v.id <> all (${ids}::uuid[]))
      order by a.digest`)}
    ) delete from workspace_versions where id = any (${ids}::uuid[])`.execute(tx);
}
