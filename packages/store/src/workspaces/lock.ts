/** Taking the lock that a change of a workspace needs (W1). */
import { codedError } from "@helmr/api";
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import type { WorkspaceState } from "../schema-workspaces.ts";
import type { Scope } from "../scope.ts";

export interface LockedWorkspace {
  readonly id: string;
  readonly state: WorkspaceState;
  readonly current_version_id: string | null;
}

/**
 * Locked until the transaction ends: no version comes or goes, no run of it is made. Undefined when the scope has no such
 * workspace.
 */
export async function lockWorkspace(tx: Tx, scope: Scope, id: string): Promise<LockedWorkspace | undefined> {
  const { rows } = await sql<LockedWorkspace>`select w.id, w.state, w.current_version_id from workspaces w
    where w.id = ${id} and w.environment_id = ${scope.environmentId} for update`.execute(tx);
  return rows[0];
}

/**
 * W4, of a locked workspace: throws workspace_not_active, or workspace_in_use while a live copy or a run has it, or will have
 * it in a moment: the queued runs are locked, and one that a claim under way has locked first counts as running.
 */
export async function requireFree(tx: Tx, { id, state }: LockedWorkspace): Promise<void> {
  if (state !== "active") throw codedError("workspace_not_active");
  const { rows } = await sql<{ held: number; queued: number; locked: number }>`
    with locked as (
      select id from runs where workspace_id = ${id} and status = 'queued' for update skip locked
    )
    select (select count(*) from workspace_materializations where workspace_id = ${id} and ended_at is null)
        + (select count(*) from runs where workspace_id = ${id}
          and (status in ('running', 'waiting') or execution_status = 'resume_queued')) as held,
      (select count(*) from runs where workspace_id = ${id} and status = 'queued') as queued,
      (select count(*) from locked) as locked`.execute(tx);
  const [use] = rows;
  if (use === undefined || use.held > 0 || use.queued !== use.locked) throw codedError("workspace_in_use");
}
