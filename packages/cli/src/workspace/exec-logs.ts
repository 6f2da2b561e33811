/** What a command wrote, from the first byte that is kept. */
import type { ApiClient } from "../client/api-client.ts";
import type { WorkspaceExec } from "../client/wire.ts";
import { note, writeJsonLine, writeStderr, writeStdout } from "../output.ts";
import { TerminalFilter } from "../terminal-filter.ts";
import { followBytes } from "./byte-stream.ts";
import { codeOf } from "./input-pump.ts";

type StreamName = "stdout" | "stderr";
/** Contract 7.6. */
const retentionBytes = 64 * 1024 * 1024;
const chunksPerPage = 20;

interface Logs {
  readonly follow: boolean;
  /** A line per chunk. */
  readonly json: boolean;
}

/** Stdout to stdout, stderr to stderr: as they are in a pipe, filtered on a terminal. */
export async function writeExecLogs(
  api: ApiClient,
  path: string,
  exec: WorkspaceExec,
  logs: Logs,
): Promise<void> {
  const write = (name: StreamName) => {
    const filter = process[name].isTTY ? new TerminalFilter() : undefined;
    const out = name === "stdout" ? writeStdout : writeStderr;
    return async (data: Buffer, end: number) => {
      if (!logs.json) return out(filter === undefined ? data : filter.push(data));
      await writeJsonLine({ stream: name, offset_end: end, data: data.toString("base64") });
    };
  };
  const one = (name: StreamName) => {
    const end = exec[`${name}_cursor`];
    const read = logs.follow ? followed : recorded;
    return keptFrom(end, name, (cursor) => read(api, `${path}/${name}`, cursor, end, write(name)));
  };
  if (logs.follow) await Promise.all([one("stdout"), one("stderr")]);
  else for (const name of ["stdout", "stderr"] as const) await one(name);
}

type Write = (data: Buffer, end: number) => Promise<void>;

/** From the beginning; where that is not kept any more, from what certainly is. */
async function keptFrom(
  end: number,
  name: StreamName,
  read: (cursor: number) => Promise<void>,
): Promise<void> {
  try {
    return await read(0);
  } catch (error) {
    if (codeOf(error) !== "workspace_stream_cursor_expired") throw error;
  }
  const cursor = Math.max(0, end - retentionBytes);
  note(`the first ${cursor} bytes of ${name} are not kept any more`);
  await read(cursor);
}

async function followed(
  api: ApiClient,
  path: string,
  cursor: number,
  _end: number,
  write: Write,
): Promise<void> {
  for await (const { data, end } of followBytes({ api, path, cursor, signal: api.signal }))
    await write(data, end);
}

async function recorded(
  api: ApiClient,
  path: string,
  from: number,
  end: number,
  write: Write,
): Promise<void> {
  for (let cursor = from; cursor < end; ) {
    const query = { cursor, limit: chunksPerPage };
    const { chunks } = await api.get(path, { query, schema: "workspaceChunkList" });
    if (chunks.length === 0) return;
    for (const chunk of chunks) {
      const data = Buffer.from(chunk.data, "base64").subarray(Math.max(0, cursor - chunk.offset_start));
      await write(data, chunk.offset_end);
      cursor = chunk.offset_end;
    }
  }
}
