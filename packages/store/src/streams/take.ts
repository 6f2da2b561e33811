/** How a run reads an input stream on: the next record after what its session has taken. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";

export interface RecordRow {
  readonly stream_id: string;
  readonly sequence: number;
  readonly id: string;
  /** JSON text. */
  readonly data: string;
  readonly correlation_id: string | null;
  readonly content_type: string;
  readonly created_at: Date;
}

export const recordColumns = sql`r.stream_id, r.sequence, r.id, r.data, r.correlation_id, r.content_type, r.created_at`;

export interface ReadOn {
  /** Only records with it; undefined: all. */
  readonly correlationId?: string | undefined;
  /** Undefined: after what the session's ended runs have taken. */
  readonly afterSequence?: number | undefined;
}

/**
 * The first record to read on with, taken for the current attempt (V5), and where the reading stands. The stream's row is
 * locked by the caller.
 */
export async function takeRecord(
  tx: Tx,
  streamId: string,
  options: ReadOn,
): Promise<{ readonly afterSequence: number; readonly record: RecordRow | undefined }> {
  const afterSequence =
    options.afterSequence ?? (await committedSequence(tx, streamId, options.correlationId));
  const { rows } = await sql<RecordRow>`select ${recordColumns} from stream_records r
    where r.stream_id = ${streamId} and r.sequence > ${afterSequence}
      ${options.correlationId === undefined ? sql`` : sql`and r.correlation_id = ${options.correlationId}`}
    order by r.sequence limit 1`.execute(tx);
  const record = rows[0];
  if (record !== undefined) await noteTaken(tx, streamId, options.correlationId, record.sequence);
  return { afterSequence, record };
}

/** Where an attempt from the start begins to read. */
export async function committedSequence(
  tx: Tx,
  streamId: string,
  correlationId: string | undefined,
): Promise<number> {
  // A reader of one correlation id goes on after what readers of all have taken, too.
  const { rows } = await sql<{
    sequence: number | null;
  }>`select max(committed_sequence) as sequence from stream_cursors
    where stream_id = ${streamId} and correlation_id in ('', ${correlationId ?? ""})`.execute(tx);
  return rows[0]?.sequence ?? 0;
}

/** The current attempt has read up to there. */
export async function noteTaken(
  tx: Tx,
  streamId: string,
  correlationId: string | undefined,
  sequence: number,
): Promise<void> {
  await sql`insert into stream_cursors (stream_id, correlation_id, taken_sequence)
    values (${streamId}, ${correlationId ?? ""}, ${sequence})
    on conflict (stream_id, correlation_id) do update set taken_sequence = excluded.taken_sequence`.execute(
    tx,
  );
}

/** What a wait on the stream gives: JSON text of the record as the SDK reads it. */
export function recordValue(record: RecordRow): string {
  const { data: _data, stream_id: _stream, ...rest } = record;
  const head = JSON.stringify({
    id: rest.id,
    sequence: rest.sequence,
    content_type: rest.content_type,
    created_at: rest.created_at.toISOString(),
    ...(rest.correlation_id === null ? {} : { correlation_id: rest.correlation_id }),
  });
  // The data's text is kept as it was sent.
  return `${head.slice(0, -1)},"data":${record.data}}`;
}
