/** The objects of contract 7.1 that live copies and what runs in them have, as shapes.ts has the others. */
import {
  base64,
  bool,
  type Fields,
  filled,
  id,
  int,
  isTrue,
  listOf,
  object,
  oneOf,
  shaped,
  text,
  timestamp,
} from "./checks.ts";

const offset = (value: unknown) => int(value) && Number(value) >= 0;

export const materialization: Fields = {
  id,
  project_id: id,
  environment_id: id,
  workspace_id: id,
  deployment_sandbox_id: id,
  "base_version_id?": id,
  "worker_instance_id?": filled,
  state: oneOf(
    "requested",
    "materializing",
    "restoring",
    "running",
    "pausing",
    "paused",
    "capturing",
    "stopping",
    "stopped",
    "lost",
    "failed",
  ),
  claim_attempt: offset,
  fencing_generation: offset,
  dirty_generation: offset,
  "reservation_expires_at?": timestamp,
  "last_heartbeat_at?": timestamp,
  created_at: timestamp,
  updated_at: timestamp,
};

export const stop: Fields = {
  workspace_id: id,
  state: (value) => value === "no_active_materialization" || materialization.state?.(value) === true,
  "materialization?": shaped(materialization),
};

export const exec: Fields = {
  id,
  workspace_id: id,
  "materialization_id?": id,
  command: listOf(filled),
  cwd: text,
  "env_shape?": object,
  filesystem_mode: oneOf("write"),
  state: oneOf("queued", "materializing", "running", "exited", "terminated", "lost", "failed"),
  detached: bool,
  "process_id?": filled,
  "exit_code?": int,
  "signal?": filled,
  "error?": object,
  stdout_cursor: offset,
  stderr_cursor: offset,
  stdin_cursor: offset,
  "stdin_closed_at?": timestamp,
  created_at: timestamp,
  "started_at?": timestamp,
  "exited_at?": timestamp,
  updated_at: timestamp,
};
export const execEnvelope: Fields = { exec: shaped(exec) };
export const createdExec: Fields = { exec: shaped(exec), "is_cached?": isTrue };

export const pty: Fields = {
  id,
  workspace_id: id,
  "materialization_id?": id,
  cwd: text,
  cols: int,
  rows: int,
  filesystem_mode: oneOf("write"),
  state: oneOf("creating", "open", "resizing", "closing", "closed", "lost", "failed"),
  "process_id?": filled,
  output_cursor: offset,
  input_cursor: offset,
  "error?": object,
  created_at: timestamp,
  "started_at?": timestamp,
  "closed_at?": timestamp,
  updated_at: timestamp,
};
export const ptyEnvelope: Fields = { pty: shaped(pty) };
export const createdPty: Fields = { pty: shaped(pty), "is_cached?": isTrue };

export const chunk: Fields = {
  id,
  stream: oneOf("stdout", "stderr", "stdin", "output", "input"),
  offset_start: offset,
  offset_end: offset,
  data: base64,
  observed_at: timestamp,
  created_at: timestamp,
};

/** Contract 7.6: what the last frame of a stream holds. */
export const terminalFrame: Fields = {
  resource_kind: oneOf("workspace_exec", "workspace_pty"),
  resource_id: id,
  stream: oneOf("stdout", "stderr", "output"),
  state: oneOf("exited", "terminated", "failed", "lost", "closed"),
  cursor: offset,
  "error?": object,
};
export const errorFrame: Fields = {
  code: oneOf("workspace_stream_cursor_expired", "workspace_stream_follow_failed"),
  "message?": filled,
  "cursor?": offset,
};
export { expectList, expectShape } from "./checks.ts";
