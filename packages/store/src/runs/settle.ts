/**
 * settleRuns: what finish, loss, cancel and expiry have in common: locked runs leave their state, several per statement.
 *
 * The callers lock the rows, decide in JavaScript (decide.ts) and hand the decisions here, in the same transaction.
 */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { eventValue, insertRunEvents, type NewEvent } from "../events.ts";
import { jsonbText } from "../json.ts";
import type { RunStatus } from "../schema.ts";
import { statement } from "../statement.ts";
import { leaveWaits } from "./leave-waits.ts";
import { tallyRuns } from "./lifecycle.ts";

/** Where a run goes, and what is written about it. */
export type Decision = Settlement | Requeue;

export interface Settlement {
  readonly status: "succeeded" | "failed" | "cancelled" | "expired";
  readonly exitCode?: number;
  /** JSON text. */
  readonly outputJson?: string;
  readonly failureKind?: string;
  readonly failureDetail?: Readonly<Record<string, unknown>>;
  readonly lost?: boolean;
  /** The last one is the terminal event (I4). */
  readonly events: readonly NewEvent[];
}

export interface Requeue {
  readonly status: "queued";
  /** resume_queued: from the checkpoint; the others: from the start, and a checkpoint is discarded. */
  readonly executionStatus: "queued" | "retry_scheduled" | "resume_queued";
  readonly delayMs: number;
  readonly lost?: boolean;
  /** The attempt did not happen: its number is used again. */
  readonly released?: boolean;
  readonly events: readonly NewEvent[];
}

/** Columns that a decision needs; read with `for update` before it is made. */
export interface LockedRun {
  readonly id: string;
  readonly environment_id: string;
  readonly session_id: string;
  readonly status: RunStatus;
  readonly execution_status: string;
  readonly attempt_number: number;
  readonly lost_count: number;
  readonly retry_policy: unknown;
  readonly max_duration_seconds: number;
  readonly ttl: string | null;
  readonly lease_id: string | null;
  readonly fencing: number;
  readonly worker_instance_id: string | null;
  readonly started_at: Date | null;
  readonly cancel_requested_at: Date | null;
  readonly cancel_reason: string | null;
  readonly checkpoint_id: string | null;
  readonly worker_group_id: string;
}

export const lockedColumns = sql`r.id, r.environment_id, r.session_id, r.status, r.execution_status, r.attempt_number,
  r.lost_count, r.retry_policy, r.max_duration_seconds, r.ttl, r.lease_id, r.fencing, r.worker_instance_id, r.started_at,
  r.cancel_requested_at, r.cancel_reason, r.checkpoint_id, r.worker_group_id`;

/** Apply decisions to runs that this transaction has locked. */
export async function settleRuns(
  tx: Tx,
  settled: readonly { readonly run: LockedRun; readonly decision: Decision }[],
): Promise<void> {
  if (settled.length === 0) return;
  await writeDecisions(tx, {
    decisions: jsonbText(settled.map(({ run, decision }) => decisionRow(run, decision))),
  });
}

const writeDecisions = statement<{ decisions: string }, never>(
  (p) => sql`
    with input as materialized (
      select * from jsonb_to_recordset(${p("decisions")}::jsonb) as x (run_id uuid, from_status text, status text,
        execution_status text, delay_ms double precision, exit_code integer, output text, failure_kind text,
        failure_detail jsonb, lost integer, released integer, started boolean, events jsonb)
    ), changed as (
      update runs r set status = i.status, execution_status = i.execution_status, exit_code = i.exit_code,
        output = i.output::json, failure_kind = i.failure_kind, failure_detail = i.failure_detail,
        lost_count = r.lost_count + i.lost, attempt_number = r.attempt_number - i.released, lease_id = null, lease_expires_at = null,
        available_at = case when i.status = 'queued' then now() + i.delay_ms * interval '1 millisecond' else r.available_at end,
        ttl_expires_at = case when i.started then null else r.ttl_expires_at end,
        ended_at = case when i.status = 'queued' then null else now() end,
        checkpoint_id = case when i.execution_status = 'resume_queued' then r.checkpoint_id end,
        active_ms = case when i.execution_status = 'resume_queued' then r.active_ms else 0 end,
        event_seq = r.event_seq + jsonb_array_length(i.events), updated_at = now()
      from input i where r.id = i.run_id and r.id = any (array(select run_id from input))
      returning r.id as run_id, r.environment_id, r.session_id, r.execution_status,
        r.event_seq - jsonb_array_length(i.events) as base_seq,
        (i.events->0->>'lease_id')::uuid as lease_id, r.attempt_id, nullif(r.attempt_number, 0) as attempt_number,
        i.events, i.from_status, i.status as to_status
    ), written as (${insertRunEvents("changed")}),
    tally as (${tallyRuns("changed")}),
    ${leaveWaits("changed")},
    operations as (
      update run_operations o set status = 'applied', applied_at = now() from changed c
      where o.run_id = c.run_id and o.status = 'pending' and c.to_status = 'cancelled'
        and o.run_id = any (array(select run_id from input))
    )
    select from changed`,
);

function decisionRow(run: LockedRun, decision: Decision): Record<string, unknown> {
  const end = decision.status === "queued" ? undefined : decision;
  // The first event names the lease, which the row has no more when it is returned.
  const [first, ...rest] = decision.events.map(eventValue);
  return {
    run_id: run.id,
    from_status: run.status,
    status: decision.status,
    execution_status: decision.status === "queued" ? decision.executionStatus : "finished",
    delay_ms: decision.status === "queued" ? decision.delayMs : 0,
    exit_code: end?.exitCode ?? null,
    output: end?.outputJson ?? null,
    failure_kind: end?.failureKind ?? null,
    failure_detail: end?.failureDetail ?? null,
    lost: decision.lost ? 1 : 0,
    // A claim to resume went on with the attempt: there is no number to give back.
    released: decision.status === "queued" && decision.released && run.checkpoint_id === null ? 1 : 0,
    started: run.started_at !== null,
    events: [{ ...first, lease_id: run.lease_id }, ...rest],
  };
}
