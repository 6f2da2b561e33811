/**
 * finishSucceeded: the usual end, without reading first. A success of a run that nobody asked to cancel needs no decision,
 * so it is one statement instead of four (begin, lock, write, commit): 0.2 ms of processor time a run less at small batches.
 * What it does not finish (lost leases, cancel requests) goes the way of decide.ts.
 */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import { eventValue, insertRunEvents } from "../events.ts";
import { jsonbText } from "../json.ts";
import { statement } from "../statement.ts";
import { completedEvent } from "./decide.ts";
import type { LeaseRef, RunRef } from "./finish.ts";
import { leaveWaits } from "./leave-waits.ts";
import { tallyRuns } from "./lifecycle.ts";

export interface SucceededInput extends LeaseRef {
  readonly outputJson?: string | undefined;
}

/** The runs that are finished now, by lease. */
export async function finishSucceeded(
  db: Queryable,
  inputs: readonly SucceededInput[],
): Promise<Map<string, RunRef>> {
  const outcomes = jsonbText(
    inputs.map((input) => ({
      lease_id: input.leaseId,
      fencing: input.fencing,
      worker_instance_id: input.workerInstanceId,
      output: input.outputJson ?? null,
    })),
  );
  const events = jsonbText([eventValue(completedEvent)]);
  const rows = await writeSucceeded(db, { outcomes, events });
  return new Map(rows.map(({ leaseId, ...ref }) => [leaseId, ref]));
}

const writeSucceeded = statement<{ outcomes: string; events: string }, RunRef & { readonly leaseId: string }>(
  (p) => sql`
    with input as materialized (
      select * from jsonb_to_recordset(${p("outcomes")}::jsonb) as x (lease_id uuid, fencing bigint, worker_instance_id uuid, output text)
    ), held as materialized (
      select r.id, r.lease_id, i.output from runs r
      join input i on i.lease_id = r.lease_id and i.fencing = r.fencing and i.worker_instance_id = r.worker_instance_id
      where r.lease_id = any (array(select lease_id from input)) and r.cancel_requested_at is null
      order by r.id for update of r
    ), changed as (
      update runs r set status = 'succeeded', execution_status = 'finished', exit_code = 0, output = h.output::json,
        lease_id = null, lease_expires_at = null, ttl_expires_at = null, ended_at = now(), updated_at = now(),
        checkpoint_id = null, active_ms = 0, event_seq = event_seq + 1
      from held h where r.id = h.id and r.id = any (array(select id from held)) and r.status = 'running'
      returning r.id as run_id, r.environment_id, r.session_id, r.event_seq - 1 as base_seq, h.lease_id, r.attempt_id,
        r.attempt_number, ${p("events")}::jsonb as events, 'running' as from_status, 'succeeded' as to_status,
        r.execution_status
    ), written as (${insertRunEvents("changed")}),
    tally as (${tallyRuns("changed")}),
    ${leaveWaits("changed")}
    select run_id as "runId", environment_id as "environmentId", session_id as "sessionId", lease_id as "leaseId"
    from changed`,
);
