/** Workspaces, commands, terminals and chunks as the server sends them (contract 7.1). */
const at = "2026-06-06T10:00:00.000Z";

export const wireWorkspace = {
  id: "w1",
  project_id: "project",
  environment_id: "environment",
  deployment_sandbox_id: "ds",
  sandbox_id: "node",
  sandbox_fingerprint: "f",
  state: "active",
  desired_state: "active",
  dirty_state: "clean",
  last_activity_at: at,
  created_at: at,
  updated_at: at,
};
export const wireMaterialization = {
  id: "m1",
  project_id: "project",
  environment_id: "environment",
  workspace_id: "w1",
  deployment_sandbox_id: "ds",
  state: "requested",
  claim_attempt: 0,
  fencing_generation: 1,
  dirty_generation: 2,
  created_at: at,
  updated_at: at,
};
export const wireExec = {
  id: "e1",
  workspace_id: "w1",
  command: ["ls", "-l"],
  cwd: "",
  filesystem_mode: "write",
  state: "materializing",
  detached: false,
  stdout_cursor: 0,
  stderr_cursor: 0,
  stdin_cursor: 0,
  created_at: at,
  updated_at: at,
};
export const wirePty = {
  id: "p1",
  workspace_id: "w1",
  cwd: "",
  cols: 80,
  rows: 24,
  filesystem_mode: "write",
  state: "creating",
  output_cursor: 0,
  input_cursor: 0,
  created_at: at,
  updated_at: at,
};
export const wireVersion = {
  id: "v1",
  workspace_id: "w1",
  kind: "user",
  state: "ready",
  content_digest: "sha256:0",
  size_bytes: 5,
  artifact_encoding: "helmr.tree.v1",
  artifact_entry_count: 2,
  created_at: at,
};

export function wireChunk(offset: number, data: Uint8Array | string, stream = "stdout") {
  const bytes = Buffer.from(data);
  return {
    id: `c${offset}`,
    stream,
    offset_start: offset,
    offset_end: offset + bytes.length,
    data: bytes.toString("base64"),
    observed_at: at,
    created_at: at,
  };
}

/** One frame of the event stream. */
export function workspaceFrame(event: string, data: unknown, id = 0): string {
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
export const chunkFrame = (offset: number, data: Uint8Array | string): string => {
  const chunk = wireChunk(offset, data);
  return workspaceFrame("workspace_stream_chunk", chunk, chunk.offset_end);
};
export const endFrame = (state: string, more: object = {}): string =>
  workspaceFrame("workspace_stream_terminal", {
    resource_kind: "workspace_exec",
    resource_id: "e1",
    stream: "stdout",
    state,
    cursor: 7,
    ...more,
  });
