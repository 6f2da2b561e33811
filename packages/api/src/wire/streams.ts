/** Streams of sessions and their records (contract 2.3, 3.3, 4). */
import { z } from "zod";
import { isWritableJson } from "../json.ts";
import { sessionExternalQuery, sessionParams } from "./sessions.ts";
import { correlationId, cursor, idempotencyKey, longLimit, streamName } from "./values.ts";

export const streamDirections = ["input", "output"] as const;

export const streamRecord = z.strictObject({
  id: z.string(),
  stream_id: z.string(),
  /** 1-based, without gaps, per stream. */
  sequence: z.int(),
  data: z.unknown(),
  correlation_id: z.string().optional(),
  content_type: z.string(),
  created_at: z.string(),
});
export type StreamRecord = z.infer<typeof streamRecord>;
export const streamRecordList = z.strictObject({ records: z.array(streamRecord) });
export const streamRecordRead = z.strictObject({ record: streamRecord.nullable() });

export const sessionStream = z.strictObject({
  id: z.string(),
  session_id: z.string(),
  name: z.string(),
  direction: z.enum(streamDirections),
  /** Of the last record, 0 before the first. */
  sequence: z.int(),
  metadata: z.record(z.string(), z.unknown()).optional(),
  created_at: z.string(),
});
export type SessionStream = z.infer<typeof sessionStream>;
export const sessionStreamList = z.strictObject({ streams: z.array(sessionStream) });

/** Any JSON value that can be written as it was sent; absent is null where the reader says so. */
export const anyJson = z
  .unknown()
  .refine((value) => value === undefined || isWritableJson(value), {
    error: "must not be nested deeper than 200 levels, or hold numbers beyond the range of a double",
  })
  .optional();

export const streamAppendRequest = z.strictObject({
  data: anyJson,
  content_type: z
    .string()
    .trim()
    .min(1, "must not be empty")
    .max(256, "must be at most 256 characters")
    .refine((text) => !/\p{Cc}/u.test(text), "must not contain control characters")
    .optional(),
  correlation_id: correlationId.optional(),
  idempotency_key: idempotencyKey.optional(),
});
export type StreamAppendRequest = z.output<typeof streamAppendRequest>;

/** `continuation_status`: of input that nobody waited for. */
export const streamAppend = z.strictObject({
  record: streamRecord,
  idempotency_status: z.enum(["created", "duplicate"]),
  continuation_status: z.enum(["accepted_run_pending", "created", "duplicate"]).optional(),
});
export type StreamAppend = z.infer<typeof streamAppend>;

export const sessionStreamParams = z.object({ ...sessionParams.shape, stream: streamName });
export const streamParams = z.object({ stream: streamName });

const position = {
  /** Records with a greater sequence; `cursor` is the same. */
  after_sequence: cursor.optional(),
  cursor: cursor.optional(),
  correlation_id: correlationId.optional(),
};
export const streamReadQuery = z.object(position);
export const streamListQuery = z.object({ ...position, limit: longLimit.optional() });
export type StreamListQuery = z.output<typeof streamListQuery>;
export const streamReadExternalQuery = z.object({ ...sessionExternalQuery.shape, ...position });
export const streamListExternalQuery = z.object({
  ...sessionExternalQuery.shape,
  ...streamListQuery.shape,
});
