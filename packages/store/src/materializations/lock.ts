/** Locking a workspace with the run that has it and its live copy, in the order of lifecycle.ts. */
import { ApiError } from "@helmr/api";
import { type Selectable, sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import type { ExecutionStatus, RunStatus, Schema } from "../schema.ts";
import type { Scope } from "../scope.ts";
import { activeRun, hasNoWriter, type MaterializationRow } from "./lifecycle.ts";

/** The run that has the workspace: running, waiting, or queued to resume. */
export interface HoldingRun {
  readonly id: string;
  readonly status: RunStatus;
  readonly execution_status: ExecutionStatus;
  readonly lease_id: string | null;
  readonly fencing: number;
  readonly worker_instance_id: string | null;
  readonly worker_group_id: string;
}

export interface LockedWorkspace {
  readonly workspace: Selectable<Schema["workspaces"]>;
  readonly run: HoldingRun | undefined;
  readonly live: MaterializationRow | undefined;
  /** An exec or pty is active. */
  readonly hasWriter: boolean;
  /** A run has waited too long for what is done in the live copy (see `isRunOverdue`). */
  readonly isRunOverdue: boolean;
}

/** From the event that says what the run waits for. */
const maxWaitSeconds = 60;
/** A run that waited for a copy takes the workspace within that time after its end, where a worker has room for it. */
const takeOverSeconds = 10;

/**
 * Of workspace `w`: a due run has waited for more than a minute while its live copy was used, and can have the workspace as
 * soon as nothing new begins there. A workspace without a live copy is kept for it for some seconds.
 */
const isRunOverdue = sql<boolean>`case when exists (select from workspace_materializations m
    where m.id = w.last_materialization_id and m.run_id is null
      and (m.ended_at is null or m.ended_at > now() - ${sql.lit(takeOverSeconds)} * interval '1 second'))
  then exists (select from runs q where q.workspace_id = w.id and q.status = 'queued' and q.available_at <= now()
    and (q.ttl_expires_at is null or q.ttl_expires_at > now())
    and exists (select from run_events e where e.run_id = q.id and e.kind = 'run.waiting_for_workspace'
      and e.at <= now() - ${sql.lit(maxWaitSeconds)} * interval '1 second'))
  else false end`;

/** Another run has the workspace than the one that was locked: again from the start. */
class HolderChangedError extends Error {
  override readonly name = "HolderChangedError";
}
const maxTries = 5;

/** Run `work` with the workspace locked; undefined when the scope has no such workspace. */
export async function inWorkspace<T>(
  db: Queryable,
  scope: Pick<Scope, "environmentId">,
  workspaceId: string,
  work: (tx: Tx, locked: LockedWorkspace) => Promise<T>,
): Promise<T | undefined> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await transaction(db, async (tx) => {
        const locked = await lockWorkspace(tx, scope, workspaceId);
        return locked === undefined ? undefined : await work(tx, locked);
      });
    } catch (error) {
      if (!(error instanceof HolderChangedError)) throw error;
      if (tries >= maxTries) throw new ApiError(503, "the workspace's run is changing its state; try again");
    }
  }
}

async function lockWorkspace(
  tx: Tx,
  { environmentId }: Pick<Scope, "environmentId">,
  workspaceId: string,
): Promise<LockedWorkspace | undefined> {
  const { rows: runs } = await sql<HoldingRun>`
    select r.id, r.status, r.execution_status, r.lease_id, r.fencing, r.worker_instance_id, r.worker_group_id from runs r
    where r.workspace_id = ${workspaceId} and r.environment_id = ${environmentId} and ${activeRun} for update`.execute(
    tx,
  );
  const { rows: workspaces } = await sql<LockedWorkspace["workspace"]>`
    select w.* from workspaces w where w.id = ${workspaceId} and w.environment_id = ${environmentId}
    for no key update`.execute(tx);
  const workspace = workspaces[0];
  if (workspace === undefined) return undefined;
  // With the workspace locked: which run has it now.
  const { rows: live } = await sql<MaterializationRow>`
    select m.* from workspace_materializations m where m.workspace_id = ${workspaceId} and m.ended_at is null
    for update`.execute(tx);
  const { rows: facts } = await sql<Nullable<HoldingRun> & { has_writer: boolean; is_run_overdue: boolean }>`
    select r.id, r.status, r.execution_status, r.lease_id, r.fencing, r.worker_instance_id,
      r.worker_group_id, not ${hasNoWriter} as has_writer, ${isRunOverdue} as is_run_overdue
    from workspaces w left join runs r on r.workspace_id = w.id and ${activeRun} where w.id = ${workspaceId}`.execute(
    tx,
  );
  const [now] = facts;
  if (now?.id !== (runs[0]?.id ?? null)) throw new HolderChangedError("another run has the workspace");
  const run = now.id === null ? undefined : (now as HoldingRun);
  return {
    workspace,
    run,
    live: live[0],
    hasWriter: now.has_writer,
    isRunOverdue: now.is_run_overdue,
  };
}

type Nullable<T> = { readonly [Key in keyof T]: T[Key] | null };
