/**
 * Input of execs (stdin) and ptys: written where the stream stands (C3), kept, and queued for the worker, in one statement: a
 * key press costs one round trip. Only when it wrote nothing is it asked why.
 */
import { type ApiError, codedError, streamRetentionBytes, type WorkspaceCommand } from "@helmr/api";
import { type RawBuilder, sql } from "kysely";
import { type Queryable, retryConflicts } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import type { Scope } from "../scope.ts";
import type { ChunkRow } from "./chunks.ts";
import {
  type CommandTarget,
  isExecOver,
  isPtyOver,
  maxWaitingCommands,
  maxWaitingInputBytes,
} from "./lifecycle.ts";
import { tooFarBehind, waitingCommands } from "./outbox.ts";
import { type CommandKey, getExec, getPty } from "./read.ts";

export interface WrittenInput {
  readonly chunk: ChunkRow;
  /** Absent: the chunk was there already. */
  readonly target?: CommandTarget;
}

export interface Input {
  /** Bytes of the stream before these. */
  readonly offset: number;
  readonly data: Buffer;
}

interface Stream {
  readonly table: "workspace_execs" | "workspace_ptys";
  readonly name: "stdin" | "input";
  readonly cursor: "stdin_cursor" | "input_cursor";
  /** Of row `t`: it takes input. */
  readonly isOpen: RawBuilder<boolean>;
  readonly command: WorkspaceCommand;
}

/** Undefined without such an exec. Throws the codes of contract 7.5, and 503 while the worker is far behind. */
export async function writeStdin(
  db: Queryable,
  scope: Scope,
  key: CommandKey,
  input: Input,
): Promise<WrittenInput | undefined> {
  const written = await write(db, scope, key, input, {
    table: "workspace_execs",
    name: "stdin",
    cursor: "stdin_cursor",
    isOpen: sql`t.state in ('queued', 'materializing', 'running') and t.stdin_closed_at is null`,
    command: { kind: "exec.stdin", exec_id: key.id, offset: input.offset },
  });
  if (written !== undefined) return written;
  const exec = await getExec(db, scope, key);
  if (exec === undefined) return undefined;
  const again = await repeated(db, key.id, "stdin", input);
  if (again !== undefined) return { chunk: again };
  if (isExecOver(exec.state)) throw codedError("workspace_exec_terminal");
  if (exec.stdin_closed_at !== null) throw codedError("workspace_exec_stdin_closed");
  throw refusal(exec.stdin_cursor, input);
}

/** Undefined without such a pty. As `writeStdin`. */
export async function writePtyInput(
  db: Queryable,
  scope: Scope,
  key: CommandKey,
  input: Input,
): Promise<WrittenInput | undefined> {
  const written = await write(db, scope, key, input, {
    table: "workspace_ptys",
    name: "input",
    cursor: "input_cursor",
    isOpen: sql`t.state in ('open', 'resizing')`,
    command: { kind: "pty.input", pty_id: key.id, offset: input.offset },
  });
  if (written !== undefined) return written;
  const pty = await getPty(db, scope, key);
  if (pty === undefined) return undefined;
  const again = await repeated(db, key.id, "input", input);
  if (again !== undefined) return { chunk: again };
  if (isPtyOver(pty.state)) throw codedError("workspace_pty_terminal");
  if (pty.state !== "open" && pty.state !== "resizing") throw codedError("workspace_pty_not_open");
  throw refusal(pty.input_cursor, input);
}

/** It was open and at this offset a moment ago, or stands elsewhere. */
function refusal(cursor: number, { offset }: Input): ApiError {
  if (cursor !== offset) {
    return codedError(
      "workspace_stream_offset_conflict",
      `the stream stands at ${cursor}, not at ${offset}; read its cursor and write from there`,
    );
  }
  return tooFarBehind();
}

async function write(
  db: Queryable,
  scope: Scope,
  { workspaceId, id }: CommandKey,
  { offset, data }: Input,
  stream: Stream,
): Promise<WrittenInput | undefined> {
  const table = sql.table(stream.table);
  const cursor = sql.ref(stream.cursor);
  const keptFrom = offset + data.length - streamRetentionBytes;
  const trimmed =
    keptFrom <= 0
      ? sql``
      : sql`, trimmed as (delete from workspace_stream_chunks c using written w
          where c.resource_id = w.id and c.stream = ${stream.name} and c.offset_start < ${keptFrom} and c.offset_end <= ${keptFrom})`;
  const isOpen = sql`t.id = ${id} and t.workspace_id = ${workspaceId} and t.environment_id = ${scope.environmentId}
    and t.${cursor} = ${offset} and ${stream.isOpen}`;
  const { rows } = await retryConflicts(() =>
    sql<ChunkRow & { materialization_id: string; worker_instance_id: string | null }>`
    with m as (
      update workspace_materializations m set command_seq = m.command_seq + 1 from ${table} t
      where ${isOpen} and m.id = t.materialization_id and m.ended_at is null
        and (select coalesce(sum(octet_length(c.data)), 0) from workspace_commands c
          where c.materialization_id = t.materialization_id) < ${sql.lit(maxWaitingInputBytes)}
        and ${waitingCommands} < ${sql.lit(maxWaitingCommands)}
      returning m.id, m.command_seq, m.worker_instance_id
    ), written as (
      update ${table} t set ${cursor} = ${offset + data.length}, updated_at = now() from m where ${isOpen}
      returning t.id, t.workspace_id
    ), queued as (
      insert into workspace_commands (materialization_id, seq, body, data)
      select m.id, m.command_seq, ${jsonbText(stream.command)}::jsonb, ${data} from m, written
    ), chunk as (
      insert into workspace_stream_chunks (resource_id, stream, offset_start, offset_end, id, workspace_id, data, observed_at)
      select w.id, ${stream.name}, ${offset}, ${offset + data.length}, ${uuidv7()}::uuid, w.workspace_id, ${data}, now()
      from written w returning *
    )${trimmed}
    select chunk.id, chunk.stream, chunk.offset_start, chunk.offset_end, chunk.observed_at, chunk.created_at,
      m.id as materialization_id, m.worker_instance_id from chunk, m`.execute(db),
  );
  const row = rows[0];
  if (row === undefined) return undefined;
  const { materialization_id: materializationId, worker_instance_id: workerInstanceId, ...chunk } = row;
  return { chunk: { ...chunk, data }, target: { materializationId, workerInstanceId } };
}

/** C3: the chunk that was written at this offset before, when it has the same bytes. */
async function repeated(
  db: Queryable,
  resourceId: string,
  stream: "stdin" | "input",
  { offset, data }: Input,
): Promise<ChunkRow | undefined> {
  const { rows } = await sql<ChunkRow>`
    select id, stream, offset_start, offset_end, data, observed_at, created_at from workspace_stream_chunks
    where resource_id = ${resourceId} and stream = ${stream} and offset_start = ${offset} and data = ${data}`.execute(
    db,
  );
  return rows[0];
}
