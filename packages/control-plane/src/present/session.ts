/** Rows of sessions as the wire shows them (contract 2.1, 3.3). */
import type { Session, SessionRun, SessionStart } from "@helmr/api";
import { isTerminal, type SessionRow, type SessionRunRow, type StartedSession } from "@helmr/store";
import { presentRun } from "./run.ts";

export function presentSession(row: SessionRow): Session {
  const active = row.run_status !== null && !isTerminal(row.run_status);
  return {
    id: row.id,
    project_id: row.project_id,
    environment_id: row.environment_id,
    task_id: row.task_id,
    initial_deployment_id: row.initial_deployment_id,
    active_deployment_id: row.active_deployment_id,
    ...(row.external_id === null ? {} : { external_id: row.external_id }),
    status: row.status,
    activity: activityOf(row),
    can_close: row.status === "open" && !row.due && !active && !row.continues,
    ...(row.current_run_id === null ? {} : { current_run_id: row.current_run_id }),
    ...(row.workspace_id === null ? {} : { workspace_id: row.workspace_id }),
    metadata: row.metadata,
    ...(row.tags.length === 0 ? {} : { tags: row.tags }),
    ...presentResult(row.result),
    ...(row.terminal_reason === null ? {} : { terminal_reason: JSON.parse(row.terminal_reason) as unknown }),
    ...(row.expires_at === null ? {} : { expires_at: row.expires_at.toISOString() }),
    ...(row.expired_at === null ? {} : { expired_at: row.expired_at.toISOString() }),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

/** Precedence of contract 2.1: not open, a continuation to follow, no or an ended run, waiting, queued, running. */
function activityOf(row: SessionRow): Session["activity"] {
  if (row.status !== "open") return "idle";
  if (row.continues) return "queued";
  if (row.run_status === null || isTerminal(row.run_status)) return "idle";
  if (row.run_status === "waiting" || row.run_status === "queued") return row.run_status;
  return "running";
}

const defaultFailure = { name: "TaskFailed", message: "task failed" };

/** The stored envelope, unwrapped; what is no envelope is the result. */
function presentResult(stored: string | null): Pick<Session, "result" | "error"> {
  if (stored === null) return {};
  const value = JSON.parse(stored) as unknown;
  if (typeof value !== "object" || value === null || !("ok" in value)) return { result: value };
  if (value.ok === true) return { result: "value" in value ? value.value : null };
  if (value.ok !== false) return { result: value };
  const error = "error" in value && typeof value.error === "object" ? value.error : null;
  return { error: (error as Record<string, unknown> | null) ?? defaultFailure };
}

export function presentStart(started: StartedSession): SessionStart {
  return {
    session: presentSession(started.session),
    run: presentRun(started.run),
    ...(started.cached ? { is_cached: true } : {}),
  };
}

export function presentSessionRun(row: SessionRunRow): SessionRun {
  return {
    id: row.id,
    run_id: row.id,
    deployment_id: row.deployment_id,
    ...(row.previous_run_id === null ? {} : { previous_run_id: row.previous_run_id }),
    turn_index: row.turn_index,
    status: row.status,
    execution_status: row.execution_status,
    ...(isTerminal(row.status) ? { terminal_outcome: row.status } : {}),
    created_at: row.created_at.toISOString(),
    ...(row.ended_at === null ? {} : { ended_at: row.ended_at.toISOString() }),
  };
}
