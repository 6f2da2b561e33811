/** What time does to live copies. Called by the dispatcher's loops and when a worker registers anew, in pages. */
import { codedError } from "@helmr/api";
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { endMaterialization, type MaterializationEnd } from "./end.ts";
import {
  type EndedMaterialization,
  hasNoWriter,
  hasSandbox,
  heldByRun,
  type MaterializationRow,
} from "./lifecycle.ts";
import { inWorkspace } from "./lock.ts";
import { attachToRun, type RequestedMaterialization } from "./request.ts";
import { type StopResult, stopLocked } from "./stop.ts";

export interface ExpireMaterializations {
  readonly limit: number;
  /** A requested copy that no worker took for so long fails. */
  readonly lostAfterMs: number;
  /**
   * All copies of its own of this worker: it registers anew, so it has none of them. Those that somebody has locked are
   * waited for, as long as a statement may take: nobody comes by again.
   */
  readonly workerInstanceId?: string | undefined;
}

interface Expiring extends MaterializationRow {
  readonly run_status: string | null;
  readonly held: boolean;
  readonly has_sandbox: boolean;
  /** The run waits for a worker that restores it. */
  readonly is_to_resume: boolean | null;
}

/**
 * Up to `limit` live copies end: silent workers' are lost, those of runs that let go of their lease are over with it, and
 * requested ones, or those of parked runs to resume, that nobody takes fail, as do those whose sandbox is gone.
 */
export async function expireMaterializations(
  db: Queryable,
  input: ExpireMaterializations,
): Promise<EndedMaterialization[]> {
  const { rows } = await sql<{ id: string; workspace_id: string }>`
    select m.id, m.workspace_id from workspace_materializations m where m.ended_at is null and ${isOver(input)}
    order by m.id limit ${input.limit}::integer`.execute(db);
  const ended: EndedMaterialization[] = [];
  for (const each of rows) {
    const one = await transaction(db, (tx) => expire(tx, input, each));
    if (one !== undefined) ended.push(one);
  }
  return ended;
}

function isOver({ lostAfterMs, workerInstanceId }: ExpireMaterializations) {
  if (workerInstanceId !== undefined) {
    return sql<boolean>`m.run_id is null and m.worker_instance_id = ${workerInstanceId}`;
  }
  const silence = sql`${lostAfterMs}::float8 * interval '1 millisecond'`;
  return sql<boolean>`(
    (m.run_id is null and m.state <> 'requested' and m.reservation_expires_at <= now())
    or (m.state = 'requested' and (m.updated_at <= now() - ${silence} or not ${hasSandbox}))
    or (m.run_id is not null and m.state <> 'restoring' and not ${heldByRun})
    or (m.state = 'restoring' and not exists (select from runs r where r.id = m.run_id
      and (r.status = 'running' or r.execution_status in ('resume_queued', 'waiting'))))
    or (m.state = 'restoring' and m.updated_at <= now() - ${silence} and exists (select from runs r where r.id = m.run_id
      and r.execution_status = 'resume_queued')))`;
}

/** The condition is asked again under the locks: whoever came first has ended it, or extended it. */
async function expire(
  tx: Tx,
  input: ExpireMaterializations,
  { id, workspace_id }: { readonly id: string; readonly workspace_id: string },
): Promise<EndedMaterialization | undefined> {
  const ifLocked = input.workerInstanceId === undefined ? sql`skip locked` : sql``;
  const locked =
    await sql`select from workspaces where id = ${workspace_id} for no key update ${ifLocked}`.execute(tx);
  if (locked.rows.length === 0) return undefined;
  const { rows } = await sql<Expiring>`
    select m.*, (select r.status from runs r where r.id = m.run_id) as run_status, ${heldByRun} as held,
      ${hasSandbox} as has_sandbox,
      (select r.execution_status = 'resume_queued' from runs r where r.id = m.run_id) as is_to_resume
    from workspace_materializations m where m.id = ${id} and m.ended_at is null and ${isOver(input)}
    for update of m ${ifLocked}`.execute(tx);
  const row = rows[0];
  return row === undefined ? undefined : await endMaterialization(tx, row, endOf(row));
}

const nobodyTookIt =
  "no worker took the live copy: start a worker that has room for live copies, or look into the log of those that are there";

const nobodyRestoredIt =
  "no worker took the parked run whose guest this is: start a worker that can restore it, or look into the run's events";

function endOf(row: Expiring): MaterializationEnd {
  if (row.state === "restoring" && row.is_to_resume === true) {
    return {
      state: "failed",
      error: { code: "workspace_materialization_not_runnable", message: nobodyRestoredIt },
    };
  }
  if (row.state === "requested" && !row.has_sandbox) {
    const code = "deployment_sandbox_artifact_missing";
    return { state: "failed", error: { code, message: codedError(code).message } };
  }
  if (row.state === "requested") {
    const error = (row.error ?? {}) as { message?: string };
    const message = error.message ?? nobodyTookIt;
    return { state: "failed", error: { code: "workspace_materialization_not_runnable", message } };
  }
  if (row.run_id === null) return { state: "lost" };
  // The run ended as it should, or its worker was lost with the guest.
  const isRunOver =
    row.run_status === "succeeded" || row.run_status === "cancelled" || row.run_status === "failed";
  return isRunOver || row.run_status === null ? { state: "stopped" } : { state: "lost" };
}

/** Up to `limit` requested copies whose workspace a run has by now become that run's. */
export async function attachRequested(db: Queryable, limit: number): Promise<RequestedMaterialization[]> {
  const { rows } = await sql<{ workspace_id: string; environment_id: string }>`
    select m.workspace_id, m.environment_id from workspace_materializations m
    where m.state = 'requested' and exists (select from runs r where r.workspace_id = m.workspace_id
      and (r.status in ('running', 'waiting') or r.execution_status = 'resume_queued'))
    order by m.created_at limit ${limit}::integer`.execute(db);
  const attached: RequestedMaterialization[] = [];
  for (const { workspace_id, environment_id } of rows) {
    const one = await inWorkspace(
      db,
      { environmentId: environment_id },
      workspace_id,
      async (tx, { live, run }) =>
        live?.state === "requested" && run !== undefined ? await attachToRun(tx, live, run) : undefined,
    );
    if (one !== undefined) attached.push({ ...one, created: false });
  }
  return attached;
}

/** Up to `limit` copies that nothing has used for long are told to stop. */
export async function stopIdle(db: Queryable, limit: number): Promise<StopResult[]> {
  const { rows } = await sql<{ id: string; environment_id: string }>`
    select w.id, w.environment_id from workspaces w where w.auto_stop_at <= now()
    order by w.auto_stop_at limit ${limit}::integer`.execute(db);
  const stopped: StopResult[] = [];
  for (const { id, environment_id } of rows) {
    const one = await inWorkspace(db, { environmentId: environment_id }, id, async (tx, locked) => {
      const { workspace, live } = locked;
      if (workspace.auto_stop_at === null || workspace.auto_stop_at.getTime() > Date.now()) return undefined;
      await sql`update workspaces set auto_stop_at = null where id = ${id}`.execute(tx);
      if (live?.run_id !== null || live.state !== "running" || locked.hasWriter) return undefined;
      return await stopLocked(tx, locked);
    });
    if (one !== undefined) stopped.push(one);
  }
  return stopped;
}

/** Of workspace `w`: a run is due that waits for nothing but its live copy. */
const isWaitedFor = sql<boolean>`exists (select from runs r where r.workspace_id = w.id and r.status = 'queued'
  and r.available_at <= now() and (r.ttl_expires_at is null or r.ttl_expires_at > now()))`;

/** This worker's copies that nobody uses and that a run waits for are told to stop. */
export async function yieldToRuns(db: Queryable, workerInstanceId: string): Promise<StopResult[]> {
  const { rows } = await sql<{ id: string; environment_id: string }>`
    select w.id, w.environment_id from workspace_materializations m join workspaces w on w.id = m.workspace_id
    where m.worker_instance_id = ${workerInstanceId} and m.ended_at is null and m.run_id is null and m.state = 'running'
      and ${hasNoWriter} and ${isWaitedFor}`.execute(db);
  const stopped: StopResult[] = [];
  for (const { id, environment_id } of rows) {
    const one = await inWorkspace(db, { environmentId: environment_id }, id, async (tx, locked) => {
      const { live } = locked;
      if (live?.run_id !== null || live.state !== "running" || locked.hasWriter) return undefined;
      return await stopLocked(tx, locked);
    });
    if (one !== undefined) stopped.push(one);
  }
  return stopped;
}

/** Copies of their own that are up, that nothing uses, and whose stop is not planned: repairs a lost note (`noteIdle`). */
export async function planIdleStops(
  db: Queryable,
  { limit, idleStopMs }: { readonly limit: number; readonly idleStopMs: number },
): Promise<number> {
  const { numAffectedRows } = await sql`
    update workspaces set auto_stop_at = now() + ${idleStopMs}::float8 * interval '1 millisecond'
    where id = any (array(
      select w.id from workspace_materializations m join workspaces w on w.id = m.workspace_id
      where m.ended_at is null and m.run_id is null and m.state = 'running' and w.auto_stop_at is null
        and ${hasNoWriter} order by w.id limit ${limit}::integer for no key update of w skip locked))`.execute(
    db,
  );
  return Number(numAffectedRows ?? 0n);
}

/** After the end of an exec or pty: the idle time begins, unless something else runs there or the copy is a run's. */
export async function noteIdle(
  db: Queryable,
  { workspaceId, idleStopMs }: { readonly workspaceId: string; readonly idleStopMs: number },
): Promise<void> {
  await sql`update workspaces w set last_activity_at = now(),
      auto_stop_at = case when ${hasNoWriter} and exists (select from workspace_materializations m
          where m.workspace_id = w.id and m.ended_at is null and m.run_id is null and m.state = 'running')
        then now() + ${idleStopMs}::float8 * interval '1 millisecond' end
    where w.id = ${workspaceId}`.execute(db);
}
