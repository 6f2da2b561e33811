/**
 * Following a stream of the server (SSE) across lost connections (contract 6.2, 6.3, 9.3, 12).
 *
 * F1  nothing doubles: a frame whose id is not above the last one taken is dropped;
 * F2  nothing is lost: every connection resumes with `Last-Event-ID`, and the follow ends only after a connection that began
 *     when the record was over already (or at the terminal frame, where the stream has one) has ended by itself;
 * F3  it ends: reconnects are 1 s apart, and five minutes without an answer are an error.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { EventSourceMessage } from "eventsource-parser";
import { CliError, exitCodes } from "../errors.ts";
import { type ApiClient, isTransient } from "./api-client.ts";
import { frames } from "./frames.ts";
import { checked, type SchemaName, type Shape } from "./wire.ts";

const usualReconnectDelayMs = 1000;
const outageLimitMs = 5 * 60_000;

export interface FollowOptions<N extends SchemaName> {
  readonly api: ApiClient;
  readonly path: string;
  readonly schema: N;
  /** Whether the followed record has reached its end, asked between connections. */
  readonly isOver: () => Promise<boolean>;
  /** Whether this frame is the stream's last. */
  readonly isLast?: (item: Shape<N>) => boolean;
  readonly signal?: AbortSignal;
  /** Default 1000 (contract 12). */
  readonly reconnectDelayMs?: number;
  /** Told once per lost connection. */
  readonly onReconnect?: () => void;
}

/** Every item of the stream, in order, each once. */
export async function* follow<N extends SchemaName>(options: FollowOptions<N>): AsyncGenerator<Shape<N>> {
  const signal = options.signal ?? options.api.signal;
  let cursor = 0;
  let lastAnswerMs = performance.now();
  let over: boolean | undefined;
  for (;;) {
    try {
      over ??= await options.isOver();
      lastAnswerMs = performance.now();
      for await (const frame of connect(options, cursor, signal)) {
        lastAnswerMs = performance.now();
        const id = frameId(frame);
        if (id <= cursor) continue; // F1
        const item = await parseItem(options, frame);
        cursor = id;
        yield item;
        if (options.isLast?.(item)) return;
      }
      if (over) return; // F2
      over = await options.isOver();
      lastAnswerMs = performance.now();
      if (over) continue;
    } catch (error) {
      signal.throwIfAborted();
      if (!isTransient(error) || performance.now() - lastAnswerMs > outageLimitMs) throw error; // F3
      options.onReconnect?.();
    }
    await sleep(options.reconnectDelayMs ?? usualReconnectDelayMs, undefined, { signal });
  }
}

/** The frames of one connection; ends where the server ends it, throws a transient error where it breaks. */
function connect<N extends SchemaName>(
  options: FollowOptions<N>,
  cursor: number,
  signal: AbortSignal,
): AsyncGenerator<EventSourceMessage> {
  const headers: Record<string, string> = cursor === 0 ? {} : { "last-event-id": String(cursor) };
  return frames({ api: options.api, path: options.path, query: { follow: 1 }, headers, signal });
}

function frameId(frame: EventSourceMessage): number {
  const id = Number(frame.id);
  if (frame.id === undefined || !Number.isSafeInteger(id) || id < 1)
    throw protocolError(`frame id ${frame.id ?? "missing"}`);
  return id;
}

function parseItem<N extends SchemaName>(
  options: FollowOptions<N>,
  frame: EventSourceMessage,
): Promise<Shape<N>> {
  let value: unknown;
  try {
    value = JSON.parse(frame.data);
  } catch {
    throw protocolError(`the data of frame ${frame.id} is not JSON`);
  }
  return checked(options.schema, value, `GET /api${options.path}`);
}

export function protocolError(what: string): CliError {
  return new CliError(`the server's stream is not understood: ${what}`, {
    exitCode: exitCodes.unavailable,
    hint: "the command and the server may be of different versions: update the older one",
  });
}
