/** resumeForOperator: somebody wants to work in a parked run's workspace, so its guest comes back, still waiting. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { eventValue, insertRunEvents } from "../events.ts";
import { jsonbText } from "../json.ts";
import { tallyRuns } from "../runs/lifecycle.ts";

/**
 * waiting/parked -> queued/resume_queued with the wait pending still; the run is locked by the caller. When it has started
 * it waits again, and is parked again when nobody works in it any more.
 */
export async function resumeForOperator(tx: Tx, runId: string): Promise<void> {
  const events = jsonbText([
    eventValue({ kind: "run.resume_requested", attributes: { reason: "workspace" } }),
  ]);
  await sql`
    with changed as (
      update runs r set status = 'queued', execution_status = 'resume_queued', event_seq = event_seq + 1,
        available_at = now(), updated_at = now()
      where id = ${runId} and execution_status = 'parked'
      returning r.id as run_id, r.environment_id, r.event_seq - 1 as base_seq, r.lease_id, r.attempt_id, r.attempt_number,
        ${events}::jsonb as events, 'waiting' as from_status, 'queued' as to_status
    ), written as (${insertRunEvents("changed")})
    ${tallyRuns("changed")}`.execute(tx);
}
