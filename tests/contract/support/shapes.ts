/**
 * The objects of the contract, written down by hand: every key, whether it may be absent, and what it holds. A key that is
 * not listed fails, as in a strict client.
 */
import {
  anything,
  base64,
  bool,
  digits,
  type Fields,
  filled,
  filledList,
  id,
  int,
  isTrue,
  listOf,
  object,
  oneOf,
  orNull,
  shaped,
  text,
  timestamp,
  uuidText,
} from "./checks.ts";
import { pendingWait } from "./stream-shapes.ts";

/** Contract 2.1 */
export const session: Fields = {
  id,
  project_id: id,
  environment_id: id,
  task_id: filled,
  initial_deployment_id: id,
  active_deployment_id: id,
  "external_id?": filled,
  status: oneOf("open", "closed", "cancelled", "expired"),
  activity: oneOf("idle", "queued", "running", "waiting"),
  can_close: bool,
  "current_run_id?": id,
  "workspace_id?": id,
  "metadata?": object,
  "tags?": filledList(filled),
  "result?": anything,
  "error?": object,
  "timed_out?": isTrue,
  "terminal_reason?": anything,
  "expires_at?": timestamp,
  "expired_at?": timestamp,
  created_at: timestamp,
  updated_at: timestamp,
};

/** Contract 2.2 */
export const run: Fields = {
  id,
  project_id: id,
  environment_id: id,
  deployment_id: id,
  deployment_task_id: id,
  session_id: id,
  version: filled,
  deployment_version: filled,
  api_version: oneOf("2026-06-06"),
  "sdk_version?": filled,
  "cli_version?": filled,
  task_id: filled,
  status: oneOf("queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired"),
  "metadata?": object,
  "attempt_number?": int,
  exit_code: orNull(int),
  "output?": anything,
  created_at: timestamp,
  updated_at: timestamp,
  "pending_wait?": shaped(pendingWait),
};

/** Contract 3.1, 3.3 */
export const sessionStart: Fields = {
  session: shaped(session),
  run: shaped(run),
  "is_cached?": isTrue,
  "timed_out?": isTrue,
};
export const sessionRun: Fields = {
  id,
  run_id: id,
  deployment_id: id,
  "previous_run_id?": id,
  turn_index: int,
  status: filled,
  execution_status: filled,
  "terminal_outcome?": filled,
  created_at: timestamp,
  "ended_at?": timestamp,
};

/** Contract 6 */
export const runCounts: Fields = {
  queued: int,
  running: int,
  waiting: int,
  succeeded: int,
  failed: int,
  cancelled: int,
  expired: int,
};
export const runCancel: Fields = {
  run: shaped(run),
  operation: shaped({
    id,
    run_id: id,
    kind: oneOf("cancel"),
    status: filled,
    "reason?": text,
    created_at: timestamp,
    "applied_at?": timestamp,
  }),
};
export const event: Fields = {
  id: digits,
  "run_id?": id,
  "deployment_id?": id,
  "run_lease_id?": uuidText,
  "attempt_id?": uuidText,
  "attempt_number?": int,
  trace: shaped({
    trace_id: (value) => typeof value === "string" && /^[0-9a-f]{32}$/.test(value),
    span_id: (value) => typeof value === "string" && /^[0-9a-f]{16}$/.test(value),
    traceparent: (value) =>
      typeof value === "string" && /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(value),
  }),
  category: filled,
  severity: filled,
  source: filled,
  kind: filled,
  message: filled,
  at: timestamp,
  occurred_at: timestamp,
  redaction_class: filled,
  attributes: object,
};
export const eventPage: Fields = { events: listOf(shaped(event)), cursor: int, "next_cursor?": int };
export const runLogs: Fields = {
  stdout_base64: base64,
  stderr_base64: base64,
  cursor: digits,
  stdout_bytes: int,
  stderr_bytes: int,
  truncated: bool,
};
export const runLogFrame: Fields = {
  id: digits,
  run_id: id,
  run_lease_id: uuidText,
  attempt_number: int,
  stream: oneOf("stdout", "stderr"),
  content_base64: base64,
  bytes: int,
  observed_seq: int,
  at: timestamp,
};

/** Contract 9.2 */
export const task: Fields = {
  id,
  task_id: filled,
  "file_path?": filled,
  "export_name?": filled,
  "handler_entrypoint?": filled,
  "bundle_digest?": filled,
  bundle_format_version: int,
  "queue_name?": filled,
  "concurrency_limit?": int,
  "ttl?": filled,
  created_at: timestamp,
};
export const deployment: Fields = {
  id,
  version: filled,
  api_version: oneOf("2026-06-06"),
  "sdk_version?": filled,
  "cli_version?": filled,
  bundle_format_version: int,
  worker_protocol_version: filled,
  project_id: id,
  environment_id: id,
  content_hash: filled,
  deployment_source: shaped({ digest: filled, "size_bytes?": int, "media_type?": filled }),
  "build_manifest_digest?": filled,
  "deployment_manifest_digest?": filled,
  status: oneOf("queued", "building", "deployed", "failed"),
  "error?": object,
  tasks: orNull(listOf(shaped(task))),
  created_at: timestamp,
  building_at: orNull(timestamp),
  built_at: orNull(timestamp),
  deployed_at: orNull(timestamp),
  failed_at: orNull(timestamp),
};
export const sandbox: Fields = {
  id,
  deployment_id: id,
  sandbox_id: filled,
  fingerprint: filled,
  image_artifact_id: filled,
  image_artifact_format: filled,
  rootfs_digest: filled,
  image_digest: filled,
  image_format: filled,
  workspace_mount_path: filled,
  "resource_floor?": shaped({ milli_cpu: int, memory_mib: int }),
  disk_floor_mib: int,
  "network_policy?": object,
  runtime_abi: filled,
  guestd_abi: filled,
  adapter_abi: filled,
  filesystem_format: filled,
  "default_uid?": int,
  "default_gid?": int,
  default_workdir: filled,
  contract_version: int,
  created_at: timestamp,
};

/** Contract 10 */
export const secret: Fields = {
  project_id: id,
  environment_id: id,
  name: filled,
  created_at: timestamp,
  updated_at: timestamp,
};

export { expectList, expectShape } from "./checks.ts";
