/** Wire objects as the server sends them (contract 2, 6, 9). */
const created_at = "2026-06-06T12:00:00.000000Z";
const uuid = (n: number): string => `01990000-0000-7000-8000-${String(n).padStart(12, "0")}`;
export const ids = {
  project: uuid(1),
  environment: uuid(2),
  deployment: uuid(3),
  session: uuid(4),
  run: uuid(5),
  task: uuid(6),
};

export const run = (fields: Record<string, unknown> = {}) => ({
  id: ids.run,
  project_id: ids.project,
  environment_id: ids.environment,
  deployment_id: ids.deployment,
  deployment_task_id: ids.task,
  session_id: ids.session,
  version: "20260606.1",
  deployment_version: "20260606.1",
  api_version: "2026-06-06",
  task_id: "hello",
  status: "succeeded",
  metadata: {},
  attempt_number: 1,
  exit_code: 0,
  created_at,
  updated_at: created_at,
  ...fields,
});

export const session = (fields: Record<string, unknown> = {}) => ({
  id: ids.session,
  project_id: ids.project,
  environment_id: ids.environment,
  task_id: "hello",
  initial_deployment_id: ids.deployment,
  active_deployment_id: ids.deployment,
  status: "open",
  activity: "queued",
  can_close: false,
  current_run_id: ids.run,
  created_at,
  updated_at: created_at,
  ...fields,
});

export const event = (id: number, kind: string, fields: Record<string, unknown> = {}) => ({
  id: String(id),
  trace: { trace_id: "", span_id: "", traceparent: "" },
  category: "lifecycle",
  severity: "info",
  source: "server",
  kind,
  message: kind,
  at: created_at,
  occurred_at: created_at,
  redaction_class: "none",
  attributes: {},
  ...fields,
});

export const logFrame = (id: number, stream: "stdout" | "stderr", content: Uint8Array) => ({
  id: String(id),
  run_id: ids.run,
  run_lease_id: uuid(9),
  attempt_number: 1,
  stream,
  content_base64: Buffer.from(content).toString("base64"),
  bytes: content.length,
  observed_seq: id,
  at: created_at,
});

export const task = {
  id: ids.task,
  task_id: "hello",
  file_path: "tasks/hello.ts",
  export_name: "hello",
  bundle_format_version: 2,
  queue_name: "task/hello",
  created_at,
};

export const deployment = (fields: Record<string, unknown> = {}) => ({
  id: ids.deployment,
  version: "20260606.1",
  api_version: "2026-06-06",
  bundle_format_version: 2,
  worker_protocol_version: "helmr.worker.v1",
  project_id: ids.project,
  environment_id: ids.environment,
  content_hash: `sha256:${"0".repeat(64)}`,
  deployment_source: { digest: `sha256:${"0".repeat(64)}` },
  status: "queued",
  tasks: [],
  created_at,
  building_at: null,
  built_at: null,
  deployed_at: null,
  failed_at: null,
  ...fields,
});
