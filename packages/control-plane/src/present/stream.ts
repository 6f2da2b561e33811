/** Streams and their records on the wire (contract 2.3, 3.3, 4.1). */
import type { SessionStream, StreamAppend, StreamRecord } from "@helmr/api";
import type { AppendedRecord, RecordRow, SessionStreamRow } from "@helmr/store";

export function presentStream(row: SessionStreamRow): SessionStream {
  return {
    id: row.id,
    session_id: row.session_id,
    name: row.name,
    direction: row.direction,
    sequence: row.sequence,
    created_at: row.created_at.toISOString(),
  };
}

export function presentRecord(row: RecordRow): StreamRecord {
  return {
    id: row.id,
    stream_id: row.stream_id,
    sequence: row.sequence,
    data: JSON.parse(row.data) as unknown,
    ...(row.correlation_id === null ? {} : { correlation_id: row.correlation_id }),
    content_type: row.content_type,
    created_at: row.created_at.toISOString(),
  };
}

export function presentAppend({ record, status, continuation }: AppendedRecord): StreamAppend {
  return {
    record: presentRecord(record),
    idempotency_status: status,
    ...(continuation === undefined ? {} : { continuation_status: continuation }),
  };
}
