/** What a worker says of its live copies: they are up, they are over. */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { jsonbText } from "../json.ts";
import type { LeaseRef } from "../runs/finish.ts";
import { endMaterialization, type MaterializationEnd } from "./end.ts";
import { holdInWorkspace } from "./hold.ts";
import {
  type EndedMaterialization,
  type MaterializationRef,
  type MaterializationRow,
  maxFailedStarts,
} from "./lifecycle.ts";
import { isFinalFailure } from "./request.ts";

export interface StartMaterialization extends MaterializationRef {
  /** A copy that nothing uses is stopped that much later. */
  readonly idleStopMs: number;
}

/** materializing -> running; one that is to stop stays so. Repeating it is acknowledged. Undefined: lost. */
export async function startMaterialization(
  db: Queryable,
  input: StartMaterialization,
): Promise<Pick<MaterializationRow, "id" | "workspace_id" | "run_id"> | undefined> {
  return await transaction(db, async (tx) => {
    const row = await holdInWorkspace(tx, input);
    if (row === undefined) return undefined;
    if (row.state !== "materializing" && row.state !== "restoring") return row;
    await sql`
      with queued as (
        update workspace_execs set state = 'queued', updated_at = now()
        where materialization_id = ${row.id} and state = 'materializing'
      ), up as (
        update workspace_materializations set state = 'running', updated_at = now() where id = ${row.id}
      )
      update workspaces w set last_activity_at = now(), auto_stop_at = case when ${row.run_id === null}::boolean
          and not exists (select from workspace_execs e where e.workspace_id = w.id
            and e.state in ('queued', 'materializing', 'running'))
          and not exists (select from workspace_ptys p where p.workspace_id = w.id
            and p.state in ('creating', 'open', 'resizing', 'closing'))
        then now() + ${input.idleStopMs}::float8 * interval '1 millisecond' end
      where id = ${row.workspace_id}`.execute(tx);
    return row;
  });
}

export interface FinishMaterialization extends MaterializationRef {
  readonly outcome:
    | { readonly status: "stopped" }
    | {
        readonly status: "failed";
        readonly code?: string | undefined;
        readonly message: string;
        readonly unsaved: boolean;
      };
}

/**
 * The worker has let go of the copy. A start that failed is tried again, after a pause and on whichever worker, unless that
 * cannot help. Undefined: lost.
 */
export async function finishMaterialization(
  db: Queryable,
  input: FinishMaterialization,
): Promise<EndedMaterialization | undefined> {
  const { outcome } = input;
  return await transaction(db, async (tx) => {
    const row = await holdInWorkspace(tx, input);
    if (row === undefined) return undefined;
    if (outcome.status === "failed" && isTriedAgain(row, outcome.code)) {
      await sql`update workspace_materializations set state = 'requested', worker_instance_id = null, lease_id = null,
          reservation_expires_at = null, updated_at = now(), error = ${jsonbText(errorOf(outcome))}::jsonb
        where id = ${row.id}`.execute(tx);
      return {
        materializationId: row.id,
        workspaceId: row.workspace_id,
        runId: null,
        workerInstanceId: row.worker_instance_id,
        workerGroupId: row.worker_group_id,
        state: "requested",
        execIds: [],
        ptyIds: [],
        requestIds: [],
      };
    }
    const end: MaterializationEnd =
      outcome.status === "stopped"
        ? { state: "stopped" }
        : { state: "failed", error: errorOf(outcome), unsaved: outcome.unsaved };
    return await endMaterialization(tx, row, end);
  });
}

function isTriedAgain(row: MaterializationRow, code: string | undefined): boolean {
  return (
    row.run_id === null &&
    row.state === "materializing" &&
    row.claim_attempt < maxFailedStarts &&
    !isFinalFailure(code)
  );
}

function errorOf({ code, message }: { code?: string | undefined; message: string }) {
  return { ...(code === undefined ? {} : { code }), message };
}

/**
 * Take back copies whose claim never reached their worker (it hung up meanwhile): requested again, and not counted as tried.
 * One that is to stop by now ends with the next sweep: nothing was done in it.
 */
export async function releaseMaterializations(db: Queryable, leaseIds: readonly string[]): Promise<void> {
  if (leaseIds.length === 0) return;
  await sql`
    with over as (
      update workspace_materializations set reservation_expires_at = now()
      where lease_id = any (${leaseIds}::uuid[]) and state = 'stopping' and run_id is null and ended_at is null
    )
    update workspace_materializations set state = 'requested', worker_instance_id = null, lease_id = null,
      reservation_expires_at = null, claim_attempt = claim_attempt - 1, updated_at = now()
    where lease_id = any (${leaseIds}::uuid[]) and state = 'materializing' and run_id is null
      and ended_at is null`.execute(db);
}

/** The worker that has this copy, which is not up, gives it back: as `releaseMaterializations`. False: it has not. */
export async function handBackMaterialization(
  db: Queryable,
  { leaseId, fencing, workerInstanceId }: LeaseRef,
): Promise<boolean> {
  const { rows } = await sql`select from workspace_materializations where lease_id = ${leaseId}
    and fencing_generation = ${fencing} and worker_instance_id = ${workerInstanceId} and run_id is null
    and ended_at is null`.execute(db);
  if (rows.length > 0) await releaseMaterializations(db, [leaseId]);
  return rows.length > 0;
}
