/** Reading stream records (contract 4.2). */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { StreamDirection } from "../schema-waits.ts";
import type { Scope } from "../scope.ts";
import { getSession, type SessionKey } from "../sessions/read-sessions.ts";
import { findSessionStream, requireDeclared, type SessionStreamRow } from "./session-streams.ts";
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

/**
 * Those of a session's stream. Undefined when there is no such session; throws stream_not_found,
 * stream_direction_mismatch.
 */
export async function readSessionStream(
  db: Queryable,
  scope: Scope,
  key: SessionKey,
  stream: { readonly name: string; readonly direction: StreamDirection },
  options: ListRecords,
): Promise<RecordRow[] | undefined> {
  const session = await getSession(db, scope, key);
  if (session === undefined) return undefined;
  await requireDeclared(db, session, stream.name, stream.direction);
  const row = await findSessionStream(db, session.id, stream.name, stream.direction);
  return row === undefined ? [] : await listRecords(db, row, options);
}
