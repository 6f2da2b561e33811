/** Execs, ptys and their chunks on the wire (contract 7.1). */
import type { Exec, Pty, WorkspaceChunk } from "@helmr/api";
import type { ChunkRow, ExecRow, PtyRow } from "@helmr/store";

export function presentExec(row: ExecRow): Exec {
  return {
    id: row.id,
    workspace_id: row.workspace_id,
    ...(row.materialization_id === null ? {} : { materialization_id: row.materialization_id }),
    command: row.command,
    cwd: row.cwd,
    ...(row.env_shape === null ? {} : { env_shape: row.env_shape }),
    filesystem_mode: "write",
    state: row.state,
    detached: row.detached,
    ...(row.process_id === null ? {} : { process_id: row.process_id }),
    ...(row.exit_code === null ? {} : { exit_code: row.exit_code }),
    ...(row.signal === null ? {} : { signal: row.signal }),
    ...errorOf(row),
    stdout_cursor: row.stdout_cursor,
    stderr_cursor: row.stderr_cursor,
    stdin_cursor: row.stdin_cursor,
    ...time("stdin_closed_at", row.stdin_closed_at),
    created_at: row.created_at.toISOString(),
    ...time("started_at", row.started_at),
    ...time("exited_at", row.exited_at),
    updated_at: row.updated_at.toISOString(),
  };
}

export function presentPty(row: PtyRow): Pty {
  return {
    id: row.id,
    workspace_id: row.workspace_id,
    ...(row.materialization_id === null ? {} : { materialization_id: row.materialization_id }),
    cwd: row.cwd,
    cols: row.cols,
    rows: row.rows,
    filesystem_mode: "write",
    state: row.state,
    ...(row.process_id === null ? {} : { process_id: row.process_id }),
    output_cursor: row.output_cursor,
    input_cursor: row.input_cursor,
    ...errorOf(row),
    created_at: row.created_at.toISOString(),
    ...time("started_at", row.started_at),
    ...time("closed_at", row.closed_at),
    updated_at: row.updated_at.toISOString(),
  };
}

export function presentChunk(row: ChunkRow): WorkspaceChunk {
  return {
    id: row.id,
    stream: row.stream,
    offset_start: row.offset_start,
    offset_end: row.offset_end,
    data: row.data.toString("base64"),
    observed_at: row.observed_at.toISOString(),
    created_at: row.created_at.toISOString(),
  };
}

/** Its message is always a text. */
export function errorOf({ error }: { readonly error: Record<string, unknown> | null }): {
  readonly error?: { readonly message: string } & Record<string, unknown>;
} {
  return error === null ? {} : { error: { ...error, message: String(error.message) } };
}

function time<Name extends string>(name: Name, value: Date | null): { [N in Name]?: string } {
  return (value === null ? {} : { [name]: value.toISOString() }) as { [N in Name]?: string };
}
