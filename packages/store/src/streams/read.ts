/** Reading stream records (contract 4.2). */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { SessionStreamRow } from "./session-streams.ts";
import { type RecordRow, recordColumns } from "./take.ts";

export interface ListRecords {
  readonly afterSequence: number;
  readonly limit: number;
  readonly correlationId?: string | undefined;
}

/** In order of sequence; one index scan that ends at the limit. */
export async function listRecords(
  db: Queryable,
  stream: Pick<SessionStreamRow, "id">,
  options: ListRecords,
): Promise<RecordRow[]> {
  const { rows } = await sql<RecordRow>`select ${recordColumns} from stream_records r
    where r.stream_id = ${stream.id} and r.sequence > ${options.afterSequence}
      ${options.correlationId === undefined ? sql`` : sql`and r.correlation_id = ${options.correlationId}`}
    order by r.sequence limit ${options.limit}::integer`.execute(db);
  return rows;
}
