/** `streams.output(id)`: what the session's runs say, record by record (contract 13.6). */
import { fail, show } from "../authoring/checks.ts";
import { type PayloadSchema, validatePayload } from "../schema.ts";
import { requireRun } from "./bridge-access.ts";
import { readRecord, type StreamRecord, type WireRecord } from "./stream-record.ts";
import { correlationOf, sequenceOf } from "./wait-options.ts";

export interface OutputAppendOptions {
  /** Default `application/json`. */
  readonly contentType?: string;
  readonly correlationId?: string;
}
export interface OutputReadOptions {
  /** The sequence after which to read. Default 0: from the beginning. */
  readonly cursor?: number;
  readonly correlationId?: string;
}
export interface OutputWriter<T> {
  write(data: T): Promise<StreamRecord<T>>;
  /** Waits for what was written. */
  close(): Promise<void>;
}

export interface OutputStream<T> {
  readonly id: string;
  readonly direction: "output";
  readonly schema?: PayloadSchema<T, unknown>;
  /** Resolves when the record is stored. At most 256 KiB as JSON. */
  append(data: T, options?: OutputAppendOptions): Promise<StreamRecord<T>>;
  /** Appends each value, one after the other; returns how many. */
  pipe(values: Iterable<T> | AsyncIterable<T>, options?: OutputAppendOptions): Promise<number>;
  writer(options?: OutputAppendOptions): OutputWriter<T>;
  read(options?: OutputReadOptions): Promise<StreamRecord<T> | null>;
  list(options?: OutputReadOptions & { readonly limit?: number }): Promise<StreamRecord<T>[]>;
}

const maxRecordBytes = 256 * 1024;
const defaultLimit = 100;

export function createOutputStream<T>(
  id: string,
  schema: PayloadSchema<T, unknown> | undefined,
): OutputStream<T> {
  const name = (method: string) => `streams.output(${JSON.stringify(id)}).${method}`;

  const append = async (what: string, data: T, options: OutputAppendOptions): Promise<StreamRecord<T>> => {
    const bridge = requireRun(what);
    // Checked, and sent as it was given: readers apply the schema themselves.
    if (schema !== undefined) await validatePayload(schema, data, id, "stream");
    const params = { stream: id, data_json: jsonOf(data, what), ...wireOptions(options, what) };
    const { record } = (await bridge.call("stream.append", params)) as { record: WireRecord };
    return await readRecord<T>(id, undefined, record);
  };
  const list = async (
    what: string,
    options: OutputReadOptions,
    limit: number,
  ): Promise<StreamRecord<T>[]> => {
    const bridge = requireRun(what);
    const cursor = sequenceOf(options.cursor, `${what}(options).cursor`) ?? 0;
    const correlationId = correlationOf(options.correlationId, `${what}(options).correlationId`);
    const { records } = (await bridge.call("stream.read", {
      stream: id,
      direction: "output",
      after_sequence: cursor,
      ...(correlationId === undefined ? {} : { correlation_id: correlationId }),
      take: false,
      limit,
      wait_ms: 0,
    })) as { records: readonly WireRecord[] };
    return await Promise.all(records.map((record) => readRecord<T>(id, undefined, record)));
  };
  return Object.freeze({
    id,
    direction: "output",
    ...(schema === undefined ? {} : { schema }),
    append: (data: T, options: OutputAppendOptions = {}) => append(name("append"), data, options),
    async pipe(values: Iterable<T> | AsyncIterable<T>, options: OutputAppendOptions = {}): Promise<number> {
      let count = 0;
      for await (const value of values) {
        await append(name("pipe"), value, options);
        count += 1;
      }
      return count;
    },
    writer: (options: OutputAppendOptions = {}) =>
      createWriter((data: T) => append(name("writer"), data, options)),
    async read(options: OutputReadOptions = {}): Promise<StreamRecord<T> | null> {
      return (await list(name("read"), options, 1))[0] ?? null;
    },
    list(options: OutputReadOptions & { readonly limit?: number } = {}): Promise<StreamRecord<T>[]> {
      const { limit = defaultLimit } = options;
      if (!Number.isInteger(limit) || limit < 1 || limit > 500) {
        fail(`${name("list")}(options).limit`, `must be a whole number from 1 to 500, got ${show(limit)}`);
      }
      return list(name("list"), options, limit);
    },
  } satisfies OutputStream<T>);
}

/** Writes follow each other in the order of the calls, awaited or not. */
export function createWriter<T, R extends StreamRecord<T>>(
  append: (data: T) => Promise<R>,
): OutputWriter<T> & { write(data: T): Promise<R> } {
  let last: Promise<unknown> = Promise.resolve();
  let isClosed = false;
  return {
    write(data) {
      if (isClosed) return Promise.reject(new Error("the writer is closed"));
      const written = last.then(() => append(data));
      last = written.catch(() => undefined);
      return written;
    },
    async close() {
      isClosed = true;
      await last;
    },
  };
}

function wireOptions(options: OutputAppendOptions, what: string): Record<string, unknown> {
  const correlationId = correlationOf(options.correlationId, `${what}(options).correlationId`);
  return {
    ...(options.contentType === undefined ? {} : { content_type: options.contentType }),
    ...(correlationId === undefined ? {} : { correlation_id: correlationId }),
  };
}

function jsonOf(data: unknown, what: string): string {
  const json = JSON.stringify(data) as string | undefined;
  if (json === undefined) fail(`${what}(data)`, `must be JSON, got ${show(data)}`);
  const bytes = new TextEncoder().encode(json).length;
  if (bytes > maxRecordBytes) {
    throw new RangeError(`${what}(data): takes ${bytes} bytes as JSON; the limit is ${maxRecordBytes}`);
  }
  return json;
}
