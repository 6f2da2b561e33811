/**
 * `streams.input(id)`: what others send to the session, read by its runs (contract 13.6).
 *
 * Each record is taken once: reads go on after the last one this run took, per stream and correlation id; a run begins
 * after what the session's earlier runs took. The place lives in the process's memory, so it is saved with it.
 */
import { fail, show } from "../authoring/checks.ts";
import type { PayloadSchema } from "../schema.ts";
import { requireRun } from "./bridge-access.ts";
import { type Duration, durationSeconds } from "./duration.ts";
import { readRecord, type StreamRecord, type WireRecord } from "./stream-record.ts";
import { blockingWait, type WaitHandle, type WaitResult, waitError, waitHandle } from "./wait-handle.ts";
import { correlationOf, labelsOf, sequenceOf, type WaitOptions } from "./wait-options.ts";

export interface InputReadOptions {
  /** Only records with it. */
  readonly correlationId?: string;
  /** Read on after this record instead of after the last one taken. */
  readonly afterSequence?: number;
}
export interface InputWaitOptions extends InputReadOptions, WaitOptions {
  /** Default: none. */
  readonly timeout?: Duration;
  /** The same, from the last record of the stream that this run took; whichever is over first ends the wait. */
  readonly idleTimeout?: Duration;
}
/** Ends the loop of `on`. */
export interface InputSubscription {
  stop(): void;
  /** Resolves when the loop has ended; rejects when a handler or the reading failed. */
  readonly done: Promise<void>;
}

export interface InputStream<T> {
  readonly id: string;
  readonly direction: "input";
  readonly schema?: PayloadSchema<unknown, T>;
  /** The next record's data, waited for as long as it takes: the run parks meanwhile. */
  wait(options?: InputWaitOptions): WaitHandle<T>;
  /** The same without parking: for short waits of a task that does other things meanwhile. */
  once(options?: InputWaitOptions): WaitHandle<T>;
  /** Calls `handler` with each record, one after the other, until stopped, timed out, or the run ends. */
  on(handler: (data: T, record: StreamRecord<T>) => unknown, options?: InputWaitOptions): InputSubscription;
  /** The next record's data without taking it; undefined when there is none yet. */
  peek(options?: InputReadOptions): Promise<T | undefined>;
}

/** One long poll; a lost one is asked again. */
const pollMs = 15_000;
/** Sequence of the last record taken, by stream and correlation id. */
const positions = new Map<string, number>();
const lastTakenMs = new Map<string, number>();

interface Read {
  readonly stream: string;
  readonly correlationId: string | undefined;
  readonly afterSequence: number | undefined;
}

export function createInputStream<T>(
  id: string,
  schema: PayloadSchema<unknown, T> | undefined,
): InputStream<T> {
  const name = (method: string) => `streams.input(${JSON.stringify(id)}).${method}`;
  const take = async (read: Read, record: WireRecord): Promise<StreamRecord<T>> => {
    positions.set(keyOf(read), record.sequence);
    lastTakenMs.set(id, Date.now());
    return await readRecord<T>(id, schema, record);
  };
  const once = async (
    what: string,
    options: InputWaitOptions,
    signal?: AbortSignal,
  ): Promise<WaitResult<StreamRecord<T>>> => {
    const read = readOf(id, options, what);
    const timeoutMs = timeoutOf(id, options, what);
    const record = await pollNext(what, read, timeoutMs, signal);
    if (record === undefined) return { ok: false, error: waitError(what, "timed_out") };
    return { ok: true, data: await take(read, record) };
  };
  return Object.freeze({
    id,
    direction: "input",
    ...(schema === undefined ? {} : { schema }),
    wait(options: InputWaitOptions = {}): WaitHandle<T> {
      const what = name("wait");
      const labels = labelsOf(options, `${what}(options)`);
      const read = readOf(id, options, what);
      timeoutOf(id, options, what);
      return waitHandle<T>(async () => {
        const timeoutMs = timeoutOf(id, options, what);
        const answer = await blockingWait(what, {
          wait_for: { kind: "stream", ...wireRead(read), ...wireTimeout(timeoutMs) },
          ...labels,
        });
        if (answer.status !== "completed") return { ok: false, error: waitError(what, answer.status) };
        return await settled(take(read, answer.result as WireRecord));
      });
    },
    once(options: InputWaitOptions = {}): WaitHandle<T> {
      const what = name("once");
      readOf(id, options, what);
      return waitHandle<T>(async () => {
        const result = await once(what, options);
        return result.ok ? { ok: true, data: result.data.data } : result;
      });
    },
    on(
      handler: (data: T, record: StreamRecord<T>) => unknown,
      options: InputWaitOptions = {},
    ): InputSubscription {
      const what = name("on");
      if (typeof handler !== "function") fail(`${what}(handler)`, `must be a function, got ${show(handler)}`);
      const stopping = new AbortController();
      const signal = AbortSignal.any([stopping.signal, requireRun(what).signal]);
      const loop = async (): Promise<void> => {
        while (!signal.aborted) {
          const result = await once(what, options, signal);
          if (!result.ok) return;
          await handler(result.data.data, result.data);
        }
      };
      const done = loop();
      // Who does not ask for `done` hears of a failure as of any unhandled rejection.
      return Object.freeze({ stop: () => stopping.abort(), done });
    },
    async peek(options: InputReadOptions = {}): Promise<T | undefined> {
      const what = name("peek");
      const read = readOf(id, options, what);
      const [record] = await readStream(what, read, { take: false, waitMs: 0 });
      return record && (await readRecord<T>(id, schema, record)).data;
    },
  } satisfies InputStream<T>);
}

function readOf(stream: string, options: InputReadOptions, what: string): Read {
  const correlationId = correlationOf(options.correlationId, `${what}(options).correlationId`);
  const afterSequence = sequenceOf(options.afterSequence, `${what}(options).afterSequence`);
  return { stream, correlationId, afterSequence };
}

/** Where this run stands: what readers of all have taken counts for readers of one correlation id, too. */
function wireRead(read: Read): Record<string, unknown> {
  const own = positions.get(keyOf(read));
  const all = positions.get(keyOf({ ...read, correlationId: undefined }));
  const taken = own === undefined && all === undefined ? undefined : Math.max(own ?? 0, all ?? 0);
  const after = read.afterSequence ?? taken;
  return {
    stream: read.stream,
    ...(read.correlationId === undefined ? {} : { correlation_id: read.correlationId }),
    ...(after === undefined ? {} : { after_sequence: after }),
  };
}

function keyOf({ stream, correlationId }: Pick<Read, "stream" | "correlationId">): string {
  return `${stream}\0${correlationId ?? ""}`;
}

/** Milliseconds from now; undefined: no limit. */
function timeoutOf(stream: string, options: InputWaitOptions, what: string): number | undefined {
  const limits: number[] = [];
  if (options.timeout !== undefined)
    limits.push(durationSeconds(options.timeout, `${what}(options).timeout`) * 1000);
  if (options.idleTimeout !== undefined) {
    const idleMs = durationSeconds(options.idleTimeout, `${what}(options).idleTimeout`) * 1000;
    limits.push(Math.max(1, (lastTakenMs.get(stream) ?? Date.now()) + idleMs - Date.now()));
  }
  return limits.length === 0 ? undefined : Math.min(...limits);
}

function wireTimeout(timeoutMs: number | undefined): Record<string, unknown> {
  return timeoutMs === undefined ? {} : { timeout_ms: timeoutMs };
}

async function pollNext(
  what: string,
  read: Read,
  timeoutMs: number | undefined,
  signal: AbortSignal | undefined,
): Promise<WireRecord | undefined> {
  const endMs = timeoutMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + timeoutMs;
  while (signal?.aborted !== true) {
    const leftMs = endMs - Date.now();
    const [record] = await readStream(what, read, {
      take: true,
      waitMs: Math.max(0, Math.min(pollMs, leftMs)),
    });
    if (record !== undefined || leftMs <= 0) return record;
  }
  return undefined;
}

async function readStream(
  what: string,
  read: Read,
  { take, waitMs }: { readonly take: boolean; readonly waitMs: number },
): Promise<readonly WireRecord[]> {
  const bridge = requireRun(what);
  const params = { ...wireRead(read), direction: "input", take, limit: 1, wait_ms: Math.round(waitMs) };
  return ((await bridge.call("stream.read", params)) as { records: readonly WireRecord[] }).records;
}

/** A record that does not fit the schema is taken, and the wait's error. */
async function settled<T>(record: Promise<StreamRecord<T>>): Promise<WaitResult<T>> {
  try {
    return { ok: true, data: (await record).data };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? error : new Error(String(error)) };
  }
}
