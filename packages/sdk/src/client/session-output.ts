/** `sessions.open(...).output(...)`: what a session's runs say, read from anywhere; appended to by who may. */
import { createWriter, type OutputStream } from "../runtime/output-stream.ts";
import type { StreamRecord } from "../runtime/stream-record.ts";
import { validatePayload } from "../schema.ts";
import type { Address } from "./session-address.ts";
import {
  appendRecord,
  listRecords,
  type RecordAppendOptions,
  type RecordListOptions,
  type RecordReadOptions,
  readRecord,
  type SentRecord,
  streamNameOf,
  streamTarget,
} from "./session-records.ts";
import type { Transport } from "./transport.ts";

export interface SessionOutputAppendOptions extends RecordAppendOptions {
  /** Default `application/json`. */
  readonly contentType?: string | undefined;
}
/** Of several records: a key would make them one. */
export type SessionOutputPipeOptions = Omit<SessionOutputAppendOptions, "idempotencyKey">;
export interface SessionOutputReadOptions extends RecordReadOptions {
  /** Of `auth.createPublicToken`, instead of the client's API key. */
  readonly publicAccessToken?: string | undefined;
}
export interface SessionOutputWriter<T = unknown> {
  write(data: T): Promise<SentRecord<T>>;
  /** Waits for what was written. */
  close(): Promise<void>;
}

export interface SessionOutput<T = unknown> {
  readonly id: string;
  /** Throws PayloadSchemaValidationError before anything is sent when the data does not fit the definition's schema. */
  append(data: T, options?: SessionOutputAppendOptions): Promise<SentRecord<T>>;
  /** Appends each value, one after the other; returns how many. */
  pipe(values: Iterable<T> | AsyncIterable<T>, options?: SessionOutputPipeOptions): Promise<number>;
  writer(options?: SessionOutputPipeOptions): SessionOutputWriter<T>;
  /** The next record after `cursor`, null when there is none yet. */
  read(options?: SessionOutputReadOptions): Promise<StreamRecord<T> | null>;
  list(options?: RecordListOptions): Promise<StreamRecord<T>[]>;
}

export function createSessionOutput<T>(
  transport: () => Transport,
  address: Address,
  stream: string | OutputStream<T>,
): SessionOutput<T> {
  const id = streamNameOf(stream, "output");
  const schema = typeof stream === "string" ? undefined : stream.schema;
  const target = streamTarget(transport, address, "output", id);
  const append = async (data: T, options: SessionOutputAppendOptions = {}): Promise<SentRecord<T>> => {
    if (schema !== undefined) await validatePayload(schema, data, id, "stream");
    const body = {
      data,
      content_type: options.contentType,
      correlation_id: options.correlationId,
      idempotency_key: options.idempotencyKey,
    };
    return await appendRecord<T>(target, body, options);
  };
  return Object.freeze({
    id,
    append,
    async pipe(values: Iterable<T> | AsyncIterable<T>, options: SessionOutputPipeOptions = {}) {
      let count = 0;
      for await (const value of values) {
        await append(value, options);
        count += 1;
      }
      return count;
    },
    writer: (options: SessionOutputPipeOptions = {}) => createWriter((data: T) => append(data, options)),
    read: (options: SessionOutputReadOptions = {}) =>
      readRecord<T>(target, options, options.publicAccessToken),
    list: (options: RecordListOptions = {}) => listRecords<T>(target, options),
  } satisfies SessionOutput<T>);
}
