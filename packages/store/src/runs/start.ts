/**
 * startRuns: guests are up and their tasks about to start, or restored: one that was restored for somebody who works in its
 * workspace waits still.
 */
import { sql } from "kysely";
import { type Queryable, retryConflicts } from "../database.ts";
import { eventValue, insertRunEvents } from "../events.ts";
import { jsonbText } from "../json.ts";
import { statement } from "../statement.ts";
import type { LeaseRef, RunRef } from "./finish.ts";
import { commitSoon, tallyRuns } from "./lifecycle.ts";

export interface StartInput extends LeaseRef {
  /** Limits that the worker's host cannot enforce: an event `run_lease.note` each. */
  readonly notes: readonly string[];
  readonly guest: { readonly pooled: boolean; readonly startMs: number };
}

/** `lost`: the lease is not (or no longer) this worker's; nothing was written. */
export type StartResult = ({ readonly status: "started" } & RunRef) | { readonly status: "lost" };

/**
 * leased -> running, with event run_lease.started, several runs in one statement; results in the order of the input. A
 * repeated start, and one after a cancel request, is acknowledged and leaves the execution status.
 */
export async function startRuns(db: Queryable, inputs: readonly StartInput[]): Promise<StartResult[]> {
  const starts = jsonbText(inputs.map(inputRow));
  const rows = await retryConflicts(() => writeStarts(db, { starts }));
  const held = new Map(rows.map((row) => [row.lease_id, row]));
  return inputs.map(({ leaseId }): StartResult => {
    const row = held.get(leaseId);
    if (row === undefined) return { status: "lost" };
    const { runId, environmentId, sessionId } = row;
    return { status: "started", runId, environmentId, sessionId };
  });
}

const writeStarts = statement<{ starts: string }, RunRef & { readonly lease_id: string }>(
  (p) => sql`
    with input as materialized (
      select * from jsonb_to_recordset(${p("starts")}::jsonb) as x (lease_id uuid, fencing bigint, worker_instance_id uuid, events jsonb)
    ), held as materialized (
      select r.id, r.lease_id, r.environment_id, r.session_id, r.started_at, i.events, r.checkpoint_id is not null
        and (select w.id from run_waits w where w.run_id = r.id and w.status = 'pending' limit 1) is not null as is_waiting
      from runs r
      join input i on i.lease_id = r.lease_id and i.fencing = r.fencing and i.worker_instance_id = r.worker_instance_id
      where r.lease_id = any (array(select lease_id from input)) order by r.id for update of r
    ), changed as (
      update runs r set started_at = now(), updated_at = now(),
        status = case when h.is_waiting then 'waiting' else r.status end,
        execution_status = case when execution_status <> 'leased' then execution_status
          when h.is_waiting then 'waiting' else 'running' end,
        event_seq = event_seq + jsonb_array_length(h.events)
      from held h where r.id = h.id and r.id = any (array(select id from held)) and h.started_at is null
      returning r.id as run_id, r.event_seq - jsonb_array_length(h.events) as base_seq, r.lease_id, r.attempt_id,
        r.attempt_number, h.events, r.environment_id, r.status as to_status
    ), written as (${insertRunEvents("changed")}),
    waiting as (select environment_id, 'running' as from_status, to_status from changed where to_status = 'waiting'),
    tally as (${tallyRuns("waiting")})
    select id as "runId", environment_id as "environmentId", session_id as "sessionId", lease_id, ${commitSoon}
    from held`,
);

function inputRow({ leaseId, fencing, workerInstanceId, guest, notes }: StartInput): Record<string, unknown> {
  const attributes = { pooled: guest.pooled, start_ms: guest.startMs };
  return {
    lease_id: leaseId,
    fencing,
    worker_instance_id: workerInstanceId,
    events: [
      eventValue({ kind: "run_lease.started", source: "worker", attributes }),
      ...notes.map((note) =>
        eventValue({ kind: "run_lease.note", source: "worker", severity: "warn", attributes: { note } }),
      ),
    ],
  };
}

/** One run; undefined when the lease is lost. */
export async function startRun(db: Queryable, input: StartInput): Promise<RunRef | undefined> {
  const [result] = await startRuns(db, [input]);
  return result?.status === "started" ? result : undefined;
}
