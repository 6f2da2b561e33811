/**
 * The lifecycle of a run. No code outside of this folder writes its columns.
 *
 *   status / execution_status      enters by                  leaves by
 *   queued / queued                createRuns                 claimRuns, requestCancel, expireQueuedRuns
 *   queued / retry_scheduled       finishRuns, loseRuns       claimRuns (from available_at on), requestCancel
 *   queued / resume_queued         resolveWait of a parked    claimRuns, requestCancel
 *                                  run, resumeForOperator,
 *                                  loseRuns of one that has
 *                                  a checkpoint
 *   running / leased               claimRuns                  startRun, requestCancel, finishRuns, loseRuns
 *   running / running              startRun, resolveWait      createWait, requestCancel, finishRuns, loseRuns
 *   running / cancelling           requestCancel              finishRuns, loseRuns (both end in cancelled)
 *   waiting / waiting              createWait, startRun of    resolveWait, parkRun, requestCancel, finishRuns, loseRuns
 *                                  one whose wait is pending
 *   waiting / cancelling           requestCancel              finishRuns, loseRuns
 *   waiting / parked               parkRun                    resolveWait, resumeForOperator, requestCancel (ends at
 *                                                             once)
 *   succeeded|failed|cancelled|expired / finished             never: terminal
 *
 * createWait, resolveWait, parkRun and resumeForOperator are in ../waits. A claim of a resume_queued run goes on with its attempt.
 *
 * Without a change of state: appendToRun (logs, metadata, events), heartbeat (lease expiry).
 *
 * Invariants; the property test in ../../test checks them after every step:
 *   I1  A run has a lease exactly while it is running, or waiting without being parked; the lease id is new at each claim
 *       and `fencing` grows.
 *   I2  A write of a worker names lease, fencing and worker; when one is not the run's, nothing is written.
 *   I3  Every transition writes its events in its own transaction; seq is 1, 2, 3, ... without a gap.
 *   I4  A terminal run has exactly one terminal event, and it is its last event.
 *   I5  Of the runs of one workspace at most one is running, waiting or queued to resume (a unique index).
 *   I6  Of the runs of one lane (environment, queue, concurrency key) at most `concurrency_limit` hold a lease: the queue's
 *       row is locked from before they are counted until the claim is committed.
 *   I7  A requested cancel wins over every other outcome.
 *   I8  The sum of run_counts over its shards equals the number of runs per status.
 *   I9  A repeated append item (number not above append_number) has no effect.
 *   I10 checkpoint_id is set exactly while run_checkpoints has a row of the run; it goes with the end of the run and with a
 *       new attempt from the start.
 */

import type { Selectable } from "kysely";
import { type RawBuilder, sql } from "kysely";
import type { RunStatus, RunsTable } from "../schema.ts";

/** A run as readers see it. The payload (up to the request limit of 128 MiB) is read on its own. */
export type RunRow = Omit<
  Selectable<RunsTable>,
  | "payload"
  | "limited"
  | "lane_key"
  | "append_number"
  | "schedule_id"
  | "events_removed_at"
  | "needs_cpu"
  | "needs_memory_mib"
  | "needs_disk_mib"
  | "needs_architecture"
  | "waiting_reason"
  | "trace_context"
>;

/** A run whose lease is lost that often is failed instead of queued again: it may be what kills its workers. */
export const maxLosses = 3;
/** What a run's logs may take in the database; the rest is counted, not kept. */
export const maxStoredLogBytes = 64 * 2 ** 20;
/** Beyond that many events logs and metadata updates leave no more of them: bounds a task that writes byte by byte. */
export const maxRunEvents = 500_000;
/** Contract 13.6. */
export const maxMetadataBytes = 256 * 1024;
/** A payload above that is left out of the event run.created. */
export const maxEventPayloadBytes = 64 * 1024;
/** The worker ends a run at its max duration; one that still holds its lease this much later is failed from here. */
export const maxDurationGraceSeconds = 120;
/** Shards of run_counts: a connection always takes the same, so two of them seldom wait for one row. */
const countShards = 64;

export const terminalStatuses = [
  "succeeded",
  "failed",
  "cancelled",
  "expired",
] as const satisfies RunStatus[];
export const liveStatuses = ["queued", "running", "waiting"] as const satisfies RunStatus[];
export const runStatuses = [...liveStatuses, ...terminalStatuses] as const satisfies RunStatus[];

/**
 * In the select list of a statement: its commit does not wait for the disk. For claims and starts only: after a crash of
 * the server they may not have happened, all of them and what depends on them together. Then the worker's next write names
 * a lease that is unknown and is refused (I2), and the run is queued still. A finish waits, and with it all before it.
 */
export const commitSoon = sql<string>`set_config('synchronous_commit', 'off', true) as commit_soon`;

/** Whether the run has ended. */
export function isTerminal(status: RunStatus): boolean {
  return (terminalStatuses as readonly string[]).includes(status);
}

/** Columns of `RunRow`, for `select` and `returning` lists; `table` is the alias of runs there. */
export function runColumns(table: string): RawBuilder<RunRow> {
  return sql.join(
    runColumnNames.map((column) => sql.ref(`${table}.${column}`)),
    sql`, `,
  ) as RawBuilder<RunRow>;
}

const runColumnNames = [
  "id",
  "environment_id",
  "project_id",
  "session_id",
  "deployment_id",
  "deployment_task_id",
  "deployment_version",
  "workspace_id",
  "worker_group_id",
  "task_id",
  "turn_index",
  "previous_run_id",
  "reason",
  "status",
  "execution_status",
  "queue_name",
  "concurrency_key",
  "priority",
  "metadata",
  "tags",
  "retry_policy",
  "max_duration_seconds",
  "ttl",
  "ttl_expires_at",
  "available_at",
  "attempt_number",
  "lost_count",
  "attempt_id",
  "lease_id",
  "worker_instance_id",
  "fencing",
  "lease_expires_at",
  "cancel_requested_at",
  "cancel_reason",
  "cancel_force",
  "event_seq",
  "checkpoint_id",
  "active_ms",
  "stdout_bytes",
  "stderr_bytes",
  "log_stored_bytes",
  "log_truncated",
  "exit_code",
  "output",
  "failure_kind",
  "failure_detail",
  "api_version",
  "sdk_version",
  "cli_version",
  "created_at",
  "updated_at",
  "started_at",
  "ended_at",
] as const satisfies (keyof RunRow)[];

/**
 * The part of a statement that keeps run_counts (I8): `changes` names a CTE with environment_id, from_status (null for a
 * new run) and to_status.
 */
export function tallyRuns(changes: string): RawBuilder<unknown> {
  const names = sql.join(runStatuses.map((status) => sql.ref(status)));
  const deltas = sql.join(
    runStatuses.map(
      (status) =>
        sql`count(*) filter (where to_status = ${sql.lit(status)}) - count(*) filter (where from_status = ${sql.lit(status)})`,
    ),
  );
  const added = sql.join(
    runStatuses.map((status) => sql`${sql.ref(status)} = t.${sql.ref(status)} + excluded.${sql.ref(status)}`),
  );
  return sql`insert into run_counts as t (environment_id, shard, ${names})
    select environment_id, pg_backend_pid() % ${sql.lit(countShards)}, ${deltas}
    from ${sql.ref(changes)} group by environment_id order by environment_id
    on conflict (environment_id, shard) do update set ${added}`;
}
