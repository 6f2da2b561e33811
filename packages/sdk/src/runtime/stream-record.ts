/** Stream records as tasks read them. */
import { type PayloadSchema, validatePayload } from "../schema.ts";

/** One record of a stream: `sequence` counts from 1 per stream. */
export interface StreamRecord<T = unknown> {
  readonly id: string;
  readonly sequence: number;
  readonly data: T;
  readonly correlationId?: string;
  readonly contentType: string;
  readonly createdAt: string;
}

/** As the bridge gives them. */
export interface WireRecord {
  readonly id: string;
  readonly sequence: number;
  readonly data: unknown;
  readonly correlation_id?: string;
  readonly content_type: string;
  readonly created_at: string;
}

/** Throws PayloadSchemaValidationError when the data does not fit the stream's schema. */
export async function readRecord<T>(
  stream: string,
  schema: PayloadSchema | undefined,
  record: WireRecord,
): Promise<StreamRecord<T>> {
  const data =
    schema === undefined ? record.data : await validatePayload(schema, record.data, stream, "stream");
  return Object.freeze({
    id: record.id,
    sequence: record.sequence,
    data: data as T,
    ...(record.correlation_id === undefined ? {} : { correlationId: record.correlation_id }),
    contentType: record.content_type,
    createdAt: record.created_at,
  });
}
