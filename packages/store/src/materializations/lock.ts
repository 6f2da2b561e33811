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
}

export interface LockedWorkspace {
  readonly workspace: Selectable<Schema["workspaces"]>;
  readonly run: HoldingRun | undefined;
  readonly live: MaterializationRow | undefined;
  /** An exec or pty is active. */
  readonly hasWriter: boolean;
}

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
    select r.id, r.status, r.execution_status, r.lease_id, r.fencing, r.worker_instance_id from runs r
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
  const { rows: facts } = await sql<Nullable<HoldingRun> & { has_writer: boolean }>`
    select r.id, r.status, r.execution_status, r.lease_id, r.fencing, r.worker_instance_id,
      not ${hasNoWriter} as has_writer
    from workspaces w left join runs r on r.workspace_id = w.id and ${activeRun} where w.id = ${workspaceId}`.execute(
    tx,
  );
  const [now] = facts;
  if (now?.id !== (runs[0]?.id ?? null)) throw new HolderChangedError("another run has the workspace");
  const run = now.id === null ? undefined : (now as HoldingRun);
  return { workspace, run, live: live[0], hasWriter: now.has_writer };
}

type Nullable<T> = { readonly [Key in keyof T]: T[Key] | null };
