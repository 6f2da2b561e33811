/**
 * The registry of public errors: every coded answer, its status and its default message. A test holds it to
 * docs/errors.md in both directions. Uncoded errors carry a message only.
 */
import { z } from "zod";

/** Codes of contract 1.3 and 7. */
export const errorRegistry = {
  task_archived: { status: 409, message: "the task is archived; deploy a version that declares it" },
  task_not_deployed: {
    status: 409,
    message: "the task is not in the current deployment; deploy and promote a version that declares it",
  },
  sandbox_not_deployed: {
    status: 409,
    message:
      "the task's sandbox is not in the current deployment; deploy and promote a version that declares it",
  },
  workspace_sandbox_incompatible: {
    status: 409,
    message: "the workspace belongs to another sandbox; start a task of the workspace's own sandbox",
  },
  workspace_resource_floor_unsatisfied: {
    status: 409,
    message:
      "the task's sandbox has less cpu, memory or disk than the workspace was made with; raise its resources",
  },
  session_fingerprint_mismatch: {
    status: 409,
    message: "a session with this external_id was started with other parameters",
  },
  idempotency_fingerprint_mismatch: {
    status: 409,
    message: "this idempotency_key was used with other parameters; use a new key",
  },
  idempotency_external_id_mismatch: {
    status: 409,
    message: "this idempotency_key started a session with another external_id; use a new key",
  },
  session_terminal: { status: 409, message: "the session is not open any more; start a new one" },
  session_expired: { status: 410, message: "the session is expired; start a new one" },
  session_has_no_current_run: { status: 409, message: "the session has no current run" },
  close_run_active: {
    status: 409,
    message: "the session has an active run; wait for it or cancel the session",
  },
  session_expires_at_not_extendable: {
    status: 400,
    message:
      "expires_at can only be moved to a later time, and only where the session has one that is not over yet",
  },
  stream_not_found: {
    status: 404,
    message: "stream not found: declare it with streams.input or streams.output in a task module, and deploy",
  },
  stream_direction_mismatch: { status: 404, message: "the stream is declared in the other direction" },
  token_not_found: { status: 404, message: "token not found" },
  token_expired: { status: 410, message: "the token is expired" },
  token_cancelled: { status: 409, message: "the token was cancelled" },
  token_completion_conflict: { status: 409, message: "the token was completed with other data" },
  token_scope_denied: { status: 403, message: "the token does not allow this" },
  workspace_not_active: {
    status: 409,
    message: "the workspace is not active: it is archived, being deleted, or needs recovery",
  },
  workspace_writer_active: {
    status: 409,
    message: "another command or terminal is active in this workspace; wait for it, or end it",
  },
  workspace_in_use: {
    status: 409,
    message: "a run or a live copy uses the workspace; wait for the run, or stop the workspace",
  },
  workspace_not_live: {
    status: 409,
    message: "the workspace has no live copy; materialize it, or read source=current",
  },
  workspace_live_failed: { status: 409, message: "the live copy could not do it" },
  workspace_exec_terminal: { status: 409, message: "the command has ended" },
  workspace_exec_stdin_closed: { status: 409, message: "the command's stdin is closed" },
  workspace_pty_terminal: { status: 409, message: "the terminal is closed" },
  workspace_pty_not_open: { status: 409, message: "the terminal is not open; wait until its state is open" },
  workspace_stream_offset_conflict: {
    status: 409,
    message: "the offset is not where the stream stands; read its cursor and write from there",
  },
  workspace_stream_cursor_expired: {
    status: 410,
    message:
      "the stream's older output is gone (64 MiB are kept, for some days after its end); read on from a later cursor",
  },
  workspace_materialization_not_runnable: {
    status: 409,
    message: "no worker can bring the workspace up as it is",
  },
  workspace_version_missing: { status: 409, message: "the workspace's version is not there any more" },
  workspace_version_not_ready: { status: 409, message: "the workspace's version is not saved completely" },
  workspace_version_artifact_missing: {
    status: 409,
    message: "files of the workspace's version are missing in the object store; restore an earlier version",
  },
  workspace_version_artifact_corrupt: {
    status: 409,
    message: "files of the workspace's version are damaged in the object store; restore an earlier version",
  },
  deployment_sandbox_artifact_missing: {
    status: 409,
    message: "the image of the workspace's sandbox is not there any more; deploy the project again",
  },
  deployment_sandbox_artifact_corrupt: {
    status: 409,
    message: "the image of the workspace's sandbox is damaged; deploy the project again",
  },
  workspace_materialization_prerequisite_failed: {
    status: 409,
    message: "what the workspace needs to come up failed",
  },
  /** The one "error" with a 2xx status: the same start is in flight, ask again (contract 3.1). */
  idempotency_pending: { status: 202, message: "session_start_pending" },
  coordination_unavailable: { status: 503, message: "coordination is unavailable; try again" },
} as const satisfies Record<string, { readonly status: number; readonly message: string }>;

export type ErrorCode = keyof typeof errorRegistry;
export const errorCodes = Object.keys(errorRegistry) as [ErrorCode, ...ErrorCode[]];

/** Every error body. `code` only where the registry has one. */
export const errorEnvelope = z.strictObject({ error: z.string(), code: z.enum(errorCodes).optional() });
export type ErrorEnvelope = z.infer<typeof errorEnvelope>;

/** An answer other than success: thrown by handlers, turned into status and envelope in one place. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: ErrorCode | undefined;
  constructor(status: number, message: string, code?: ErrorCode) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The coded error with its registered status; `message` says more than the default where the caller knows more. */
export function codedError(code: ErrorCode, message?: string): ApiError {
  const registered = errorRegistry[code];
  return new ApiError(registered.status, message ?? registered.message, code);
}
