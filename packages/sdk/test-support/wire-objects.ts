/** Objects as the server sends them (contract 2 and 6.1). */
export const wireSession = {
  id: "0198a0de-0000-7000-8000-000000000001",
  project_id: "project",
  environment_id: "environment",
  task_id: "hello",
  initial_deployment_id: "deployment-1",
  active_deployment_id: "deployment-2",
  status: "open",
  activity: "running",
  can_close: false,
  current_run_id: "run-1",
  workspace_id: "workspace",
  created_at: "2026-06-06T10:00:00.000Z",
  updated_at: "2026-06-06T10:00:01.000Z",
};

export const wireRun = {
  id: "run-1",
  project_id: "project",
  environment_id: "environment",
  deployment_id: "deployment-1",
  deployment_task_id: "deployment-task",
  session_id: wireSession.id,
  version: "20260606.1",
  deployment_version: "20260606.1",
  api_version: "2026-06-06",
  task_id: "hello",
  status: "running",
  metadata: {},
  attempt_number: 1,
  exit_code: null,
  created_at: "2026-06-06T10:00:00.000Z",
  updated_at: "2026-06-06T10:00:01.000Z",
};
export const finishedRun = { ...wireRun, status: "succeeded", exit_code: 0, output: { greeting: "hi" } };

/** A run event record; `message` is the event's name. */
export function wireEvent(seq: number, name: string, attributes: Record<string, unknown> = {}) {
  return {
    id: String(seq),
    run_id: "run-1",
    trace: { trace_id: "", span_id: "", traceparent: "" },
    category: "lifecycle",
    severity: "info",
    source: "test",
    kind: name,
    message: name,
    at: "2026-06-06T10:00:02.000Z",
    occurred_at: "2026-06-06T10:00:02.000Z",
    redaction_class: "none",
    attributes,
  };
}

/** The record as one frame of the event stream. */
export function frame(seq: number, name: string, attributes: Record<string, unknown> = {}): string {
  return `id: ${seq}\nevent: run_event\ndata: ${JSON.stringify(wireEvent(seq, name, attributes))}\n\n`;
}
