/** C5: old output goes as new output comes. */
import { streamRetentionBytes } from "@helmr/api";
import { sql } from "kysely";
import type { Tx } from "../database.ts";
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
