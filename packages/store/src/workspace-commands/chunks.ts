/** Reading the streams of execs and ptys (contract 7.6), and how far their readers have come. */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { ExecState, PtyState, WorkspaceStream } from "../schema-workspaces.ts";
import type { Scope } from "../scope.ts";
import { isExecOver, isPtyOver } from "./lifecycle.ts";
import type { CommandKey } from "./read.ts";

export type OutputStream = "stdout" | "stderr" | "output";

export interface ChunkRow {
  readonly id: string;
  readonly stream: WorkspaceStream;
  readonly offset_start: number;
  readonly offset_end: number;
  readonly data: Buffer;
  readonly observed_at: Date;
  readonly created_at: Date;
}

export interface StreamPosition {
  /** Bytes so far. */
  readonly cursor: number;
  /** Where what is kept of them begins. */
  readonly retained: number;
  readonly state: ExecState | PtyState;
  /** C6: nothing follows what the page has, when the page is not full. */
  readonly isOver: boolean;
  readonly error: Record<string, unknown> | null;
  /** An attached reader holds back the process. */
  readonly isAttached: boolean;
}

export interface ChunkPage extends StreamPosition {
  readonly chunks: readonly ChunkRow[];
  /** There may be more already. */
  readonly isFull: boolean;
}

export interface ReadChunks {
  readonly stream: OutputStream;
  /** Chunks that end after it. One that begins before it is given whole. */
  readonly cursor: number;
  readonly limit: number;
  /** Fewer chunks when they are larger, but always one. */
  readonly maxBytes: number;
}

type Row = { readonly [Key in keyof ChunkRow]: ChunkRow[Key] | null } & {
  readonly row_state: ExecState | PtyState;
  readonly row_cursor: number;
  readonly row_retained: number;
  readonly row_error: Record<string, unknown> | null;
  readonly detached: boolean;
};

/** One page with the stream's position, of one instant; undefined without such an exec or pty. */
export async function readChunks(
  db: Queryable,
  scope: Scope,
  { workspaceId, id }: CommandKey,
  { stream, cursor, limit, maxBytes }: ReadChunks,
): Promise<ChunkPage | undefined> {
  const { rows } = await sql<Row>`
    select t.state as row_state, t.${sql.ref(`${stream}_cursor`)} as row_cursor,
      t.${sql.ref(`${stream}_retained`)} as row_retained, t.error as row_error, ${detached(stream)} as detached, c.*
    from ${tableOf(stream)} t left join lateral (
      select k.* from (
        select c.id, c.stream, c.offset_start, c.offset_end, c.data, c.observed_at, c.created_at,
          row_number() over (order by c.offset_start) as number,
          sum(c.offset_end - c.offset_start) over (order by c.offset_start) as bytes
        from workspace_stream_chunks c where c.resource_id = t.id and c.stream = ${stream} and c.offset_end > ${cursor}
          and c.offset_start >= coalesce((select b.offset_start from workspace_stream_chunks b where b.resource_id = t.id
            and b.stream = ${stream} and b.offset_start <= ${cursor} order by b.offset_start desc limit 1), 0)
        order by c.offset_start limit ${limit}::integer) k
      where k.number = 1 or k.bytes <= ${maxBytes}
    ) c on true
    where t.id = ${id} and t.workspace_id = ${workspaceId} and t.environment_id = ${scope.environmentId}
    order by c.offset_start`.execute(db);
  const first = rows[0];
  if (first === undefined) return undefined;
  const chunks = rows.flatMap((row) => (row.id === null ? [] : [chunkOf(row)]));
  const end = chunks.at(-1)?.offset_end ?? cursor;
  return {
    cursor: first.row_cursor,
    retained: first.row_retained,
    state: first.row_state,
    isOver:
      stream === "output" ? isPtyOver(first.row_state as PtyState) : isExecOver(first.row_state as ExecState),
    error: first.row_error,
    isAttached: !first.detached,
    chunks,
    isFull: end < first.row_cursor && chunks.length > 0,
  };
}

function chunkOf(row: Row): ChunkRow {
  const { id, stream, offset_start, offset_end, data, observed_at, created_at } = row as ChunkRow;
  return { id, stream, offset_start, offset_end, data, observed_at, created_at };
}

/** An attached reader has handed on everything before `cursor`. */
export async function noteRead(
  db: Queryable,
  id: string,
  { stream, cursor }: { readonly stream: OutputStream; readonly cursor: number },
): Promise<void> {
  const read = sql.ref(`${stream}_read`);
  await sql`update ${tableOf(stream)} set ${read} = greatest(${read}, ${cursor}::bigint),
    ${sql.ref(`${stream}_read_at`)} = now() where id = ${id}`.execute(db);
}

function tableOf(stream: OutputStream): RawBuilder<unknown> {
  return sql.table(stream === "output" ? "workspace_ptys" : "workspace_execs");
}

function detached(stream: OutputStream): RawBuilder<boolean> {
  return stream === "output" ? sql<boolean>`false` : sql<boolean>`t.detached`;
}
