/** C5, C7: old output goes as new output comes, and all of it long after the end. */
import { streamRetentionBytes } from "@helmr/api";
import { sql } from "kysely";
import type { Queryable, Tx } from "../database.ts";
import type { Changes } from "./append-items.ts";
import type { OutputStream } from "./chunks.ts";

/** Remove the chunks that lie wholly before what is kept, of the streams that these changes made longer. */
export async function trimStreams(
  tx: Tx,
  { commands }: Changes,
  keptBytes: number = streamRetentionBytes,
): Promise<void> {
  for (const { id, streams } of commands.values()) {
    for (const stream of ["stdout", "stderr", "output"] as const) {
      const state = streams[stream];
      const keptFrom = (state?.cursor ?? 0) - keptBytes;
      if (state !== undefined && keptFrom > state.retained) await trimStream(tx, id, stream, keptFrom);
    }
  }
}

async function trimStream(tx: Tx, id: string, stream: OutputStream, keptFrom: number): Promise<void> {
  const table = sql.table(stream === "output" ? "workspace_ptys" : "workspace_execs");
  const retained = sql.ref(`${stream}_retained`);
  await sql`
    with gone as (
      delete from workspace_stream_chunks where resource_id = ${id} and stream = ${stream}
        and offset_start < ${keptFrom}::bigint and offset_end <= ${keptFrom}::bigint returning offset_end
    )
    update ${table} set ${retained} = greatest(${retained}, coalesce((select max(offset_end) from gone), 0))
    where id = ${id}`.execute(tx);
}

/** A chunk has up to a mebibyte. */
const pageChunks = 200;

const streamTables = [
  { table: "workspace_execs", endedAt: "exited_at", streams: ["stdout", "stderr"] },
  { table: "workspace_ptys", endedAt: "closed_at", streams: ["output"] },
] as const;

/**
 * C7: remove a page of the streams of execs and ptys, up to `limit` of each, that ended longer than `keepMs` ago. Resolves to
 * whether there may be more.
 */
export async function removeOldStreams(
  db: Queryable,
  input: { readonly limit: number; readonly keepMs: number },
): Promise<boolean> {
  let isMore = false;
  for (const each of streamTables) isMore = (await removePage(db, input, each)) || isMore;
  return isMore;
}

/** Readers are told at once that the output is gone, also while chunks of it are left for the next page. */
async function removePage(
  db: Queryable,
  { limit, keepMs }: { readonly limit: number; readonly keepMs: number },
  { table, endedAt, streams }: (typeof streamTables)[number],
): Promise<boolean> {
  const retained = streams.map((name) => sql`${sql.ref(`${name}_retained`)} = ${sql.ref(`${name}_cursor`)}`);
  const { rows } = await sql<{ commands: number; chunks: number }>`
    with due as materialized (
      select id from ${sql.table(table)} where ${sql.ref(endedAt)} is not null and streams_removed_at is null
        and ${sql.ref(endedAt)} <= now() - ${keepMs}::float8 * interval '1 millisecond'
      order by ${sql.ref(endedAt)} limit ${limit}::integer for update skip locked
    ), gone as (
      delete from workspace_stream_chunks where ctid = any (array(
        select c.ctid from due join workspace_stream_chunks c on c.resource_id = due.id limit ${pageChunks}::integer))
      returning 1
    ), counted as (
      select (select count(*) from due) as commands, (select count(*) from gone) as chunks
    ), emptied as (
      update ${sql.table(table)} set ${sql.join(retained)},
        streams_removed_at = case when (select chunks from counted) < ${pageChunks}::integer then now() end
      where id = any (array(select id from due))
    )
    select commands, chunks from counted`.execute(db);
  const { commands = 0, chunks = 0 } = rows[0] ?? {};
  return commands === limit || chunks === pageChunks;
}
