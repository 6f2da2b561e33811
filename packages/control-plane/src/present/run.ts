/** Rows of runs, their operations and logs as the wire shows them (contract 2.2, 6). */
import type { PendingWait, Run, RunLogFrame, RunLogs, RunOperation } from "@helmr/api";
import type { RunLogRow, RunOperationRow, RunRow, RunLogs as StoredRunLogs, WaitRow } from "@helmr/store";

/** `wait`: the one that it is waiting in. */
export function presentRun(row: RunRow, wait?: WaitRow): Run {
  return {
    id: row.id,
    project_id: row.project_id,
    environment_id: row.environment_id,
    deployment_id: row.deployment_id,
    deployment_task_id: row.deployment_task_id,
    session_id: row.session_id,
    version: row.deployment_version,
    deployment_version: row.deployment_version,
    api_version: row.api_version,
    ...(row.sdk_version === null ? {} : { sdk_version: row.sdk_version }),
    ...(row.cli_version === null ? {} : { cli_version: row.cli_version }),
    task_id: row.task_id,
    status: row.status,
    metadata: row.metadata,
    ...(row.attempt_number === 0 ? {} : { attempt_number: row.attempt_number }),
    exit_code: row.exit_code,
    ...(row.output === null ? {} : { output: JSON.parse(row.output) as unknown }),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
    ...(wait === undefined || row.status !== "waiting" ? {} : { pending_wait: presentWait(wait) }),
  };
}

function presentWait(row: WaitRow): PendingWait {
  return {
    id: row.id,
    kind: row.kind,
    created_at: row.created_at.toISOString(),
    ...(row.timeout_at === null ? {} : { timeout_at: row.timeout_at.toISOString() }),
    params: row.params,
    metadata: row.metadata,
    ...(row.tags.length === 0 ? {} : { tags: row.tags }),
  };
}

export function presentOperation(row: RunOperationRow): RunOperation {
  return {
    id: row.id,
    run_id: row.run_id,
    kind: row.kind,
    status: row.status,
    ...(row.reason === null ? {} : { reason: row.reason }),
    created_at: row.created_at.toISOString(),
    ...(row.applied_at === null ? {} : { applied_at: row.applied_at.toISOString() }),
  };
}

export function presentLogs(logs: StoredRunLogs): RunLogs {
  return {
    stdout_base64: logs.stdout.toString("base64"),
    stderr_base64: logs.stderr.toString("base64"),
    cursor: String(logs.cursor),
    stdout_bytes: logs.stdoutBytes,
    stderr_bytes: logs.stderrBytes,
    truncated: logs.truncated,
  };
}

export function presentLogChunk(row: RunLogRow): RunLogFrame {
  return {
    id: String(row.seq),
    run_id: row.run_id,
    run_lease_id: row.run_lease_id,
    attempt_number: row.attempt_number,
    stream: row.stream,
    content_base64: row.content.toString("base64"),
    bytes: row.content.length,
    observed_seq: row.observed_seq,
    at: row.at.toISOString(),
  };
}
