/** resolveWait and what calls it for time: how a wait ends, and what becomes of its run. */
import { type RawBuilder, sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { eventValue, insertRunEvents, type NewEvent } from "../events.ts";
import { jsonbText } from "../json.ts";
import { tallyRuns } from "../runs/lifecycle.ts";
import type { WaitStatus } from "../schema-waits.ts";
import { statement } from "../statement.ts";
import { maxEventResultBytes, type WaitRow, waitColumns } from "./lifecycle.ts";

export interface Resolution {
  readonly status: Exclude<WaitStatus, "pending">;
  /** JSON text. */
  readonly result?: string;
}

/** Whose wait ended: `run:<id>` is told, and the run's worker, or the workers when it is queued to resume. */
export interface ResolvedWait {
  readonly waitId: string;
  readonly runId: string;
  readonly workerInstanceId: string | null;
  readonly workerGroupId: string;
}

/**
 * End the pending wait of a run that this transaction has locked (V2). Undefined when it is not pending any more.
 */
export async function resolveWait(
  tx: Tx,
  wait: Pick<WaitRow, "id" | "run_id" | "kind">,
  resolution: Resolution,
): Promise<ResolvedWait | undefined> {
  const rows = await endWait(tx, {
    id: wait.id,
    status: resolution.status,
    result: resolution.result ?? null,
    events: jsonbText([eventValue(resolvedEvent(wait, resolution))]),
  });
  const row = rows[0];
  if (row === undefined) return undefined;
  return {
    waitId: wait.id,
    runId: wait.run_id,
    workerInstanceId: row.worker_instance_id,
    workerGroupId: row.worker_group_id,
  };
}

const endWait = statement<
  { id: string; status: Resolution["status"]; result: string | null; events: string },
  { worker_instance_id: string | null; worker_group_id: string }
>(
  (p) => sql`
    with resolved as (
      update run_waits set status = ${p("status")}, result = ${p("result")}::json, resolved_at = now()
      where id = ${p("id")} and status = 'pending' returning run_id
    ), before as (
      select r.id, r.status, r.execution_status from runs r join resolved w on w.run_id = r.id
    ), changed as (
      update runs r set event_seq = event_seq + 1, updated_at = now(),
        status = case when b.execution_status in ('parked', 'resume_queued') then 'queued' else 'running' end,
        execution_status = case b.execution_status when 'parked' then 'resume_queued' when 'waiting' then 'running'
          else b.execution_status end
      from before b where r.id = b.id
      returning r.id as run_id, r.environment_id, r.event_seq - 1 as base_seq, r.lease_id, r.attempt_id, r.attempt_number,
        r.worker_instance_id, r.worker_group_id, ${p("events")}::jsonb as events, b.status as from_status, r.status as to_status
    ), written as (${insertRunEvents("changed")}),
    tally as (${tallyRuns("changed")})
    select case when lease_id is null then null else worker_instance_id end as worker_instance_id, worker_group_id
    from changed`,
);

/** Contract 6.1. */
export function resolvedEvent(wait: Pick<WaitRow, "id" | "kind">, resolution: Resolution): NewEvent {
  const names = { run_wait_id: wait.id, kind: wait.kind };
  if (resolution.status === "timed_out") return { kind: "run_wait.timed_out", attributes: names };
  if (resolution.status === "cancelled") return { kind: "run_wait.cancelled", attributes: names };
  const bytes = resolution.result === undefined ? 0 : Buffer.byteLength(resolution.result);
  if (bytes > maxEventResultBytes) {
    return { kind: "run_wait.completed", attributes: { ...names, payload_bytes: bytes } };
  }
  const payload = resolution.result === undefined ? null : (JSON.parse(resolution.result) as unknown);
  return { kind: "run_wait.completed", attributes: { ...names, payload } };
}

/**
 * Lock the runs of the pending waits that the condition on `w` names, in order of id, then read the waits again: what is
 * returned is still pending.
 */
export async function lockPendingWaits(tx: Tx, condition: RawBuilder<unknown>): Promise<WaitRow[]> {
  await sql`select from runs where id = any (array(
      select w.run_id from run_waits w where w.status = 'pending' and ${condition})) order by id for update`.execute(
    tx,
  );
  const { rows } = await sql<WaitRow>`select ${waitColumns} from run_waits w
    where w.status = 'pending' and ${condition} order by w.run_id`.execute(tx);
  return rows;
}

/** How a wait whose time has come ends: a timer is complete, the others have timed out. */
export function dueResolution(wait: Pick<WaitRow, "kind">): Resolution {
  return { status: wait.kind === "timer" ? "completed" : "timed_out" };
}

/**
 * End up to `limit` waits whose time has come, those of `waitIds` only when given. A run that is locked just now is left
 * to the next call.
 */
export async function expireWaits(
  db: Queryable,
  { limit, waitIds }: { readonly limit: number; readonly waitIds?: readonly string[] },
): Promise<ResolvedWait[]> {
  const named = waitIds === undefined ? sql`` : sql`and w.id = any (${waitIds}::uuid[])`;
  return await transaction(db, async (tx) => {
    const { rows } = await sql<WaitRow>`
      with due as materialized (
        select w.id, w.run_id from run_waits w where w.status = 'pending' and w.timeout_at <= now() ${named}
        order by w.timeout_at limit ${limit}::integer
      ), locked as materialized (
        select r.id from runs r where r.id = any (array(select run_id from due)) order by r.id for update skip locked
      )
      select ${waitColumns} from run_waits w join due on due.id = w.id join locked on locked.id = w.run_id
      where w.status = 'pending'`.execute(tx);
    const resolved: ResolvedWait[] = [];
    for (const wait of rows) {
      const one = await resolveWait(tx, wait, dueResolution(wait));
      if (one !== undefined) resolved.push(one);
    }
    return resolved;
  });
}

/** When the next of these waits (of all, without) is due; undefined when none is. */
export async function nextWaitDue(db: Queryable, waitIds?: readonly string[]): Promise<Date | undefined> {
  const named = waitIds === undefined ? sql`` : sql`and id = any (${waitIds}::uuid[])`;
  const { rows } = await sql<{ due: Date | null }>`
    select timeout_at as due from run_waits where status = 'pending' and timeout_at is not null ${named}
    order by timeout_at limit 1`.execute(db);
  return rows[0]?.due ?? undefined;
}
