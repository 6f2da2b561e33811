/**
 * Byte streams of commands and terminals: read, followed, written (contract 7.5, 7.6).
 *
 * I1 A follower gets each byte once and in order, however often the connection is cut: what a server sends again is
 *    trimmed, a hole is an error.
 * I2 A write that got no answer is sent again at its offset, where the server takes it once.
 */
import {
  InvalidResponseError,
  SseProtocolError,
  WorkspaceStreamError,
  WorkspaceStreamTerminalError,
} from "../../errors.ts";
import { linkedSignal, sleep } from "../abort.ts";
import { base64Of, bytesOf } from "../bytes.ts";
import { eventFrames } from "../event-stream.ts";
import { Outage, reconnectDelayMs } from "../retry.ts";
import type { SseFrame } from "../sse.ts";
import type { ScopeOptions } from "../transport.ts";
import { numberOrNull, textOrNull, type WireObject, wireList, wireObject } from "../wire.ts";
import { chunkOf, type WorkspaceStreamChunk } from "./command-objects.ts";
import { ask, request, type Target } from "./target.ts";

export interface WorkspaceStreamListOptions extends ScopeOptions {
  /** The byte after which to read. Default 0: from the beginning. */
  readonly cursor?: number | undefined;
  /** Chunks: 1 to 500, default 100. */
  readonly limit?: number | undefined;
}
export interface WorkspaceStreamFollowOptions extends ScopeOptions {
  /** The byte after which to read. Default 0: from the beginning. */
  readonly fromCursor?: number | undefined;
  /** Chunks that the server reads at a time: 1 to 500, default 100. */
  readonly limit?: number | undefined;
}
/** What a command or terminal writes. The server keeps the last 64 MiB of each stream. */
export interface WorkspaceReadable {
  /** Recorded chunks; the first may begin before the cursor. 410 when the bytes there are not kept any more. */
  list(options?: WorkspaceStreamListOptions): Promise<WorkspaceStreamChunk[]>;
  /**
   * Recorded and live bytes, each once, until the command or terminal has ended. Reconnects after a cut. Throws
   * WorkspaceStreamTerminalError when it is lost or has failed, WorkspaceStreamError when the server cannot go on.
   */
  stream(options?: WorkspaceStreamFollowOptions): AsyncIterable<WorkspaceStreamChunk>;
}
export interface WorkspaceWriteOptions extends ScopeOptions {
  /** How many bytes were written before. */
  readonly offset: number;
}
/** Contract 7.5. */
const maxWriteBytes = 1024 * 1024;

/** `suffix`: such as `/execs/<id>/stdout`. */
export function createReadable(target: Target, suffix: string): WorkspaceReadable {
  return Object.freeze({
    async list(options: WorkspaceStreamListOptions = {}) {
      const query = [["cursor", options.cursor] as const, ["limit", options.limit] as const];
      return wireList(await ask(target, "GET", suffix, options, { query }), "chunks").map(chunkOf);
    },
    stream: (options: WorkspaceStreamFollowOptions = {}) => ({
      [Symbol.asyncIterator]: () => follow(target, suffix, options),
    }),
  });
}

async function* follow(
  target: Target,
  suffix: string,
  options: WorkspaceStreamFollowOptions,
): AsyncGenerator<WorkspaceStreamChunk, void, undefined> {
  const link = linkedSignal(options.signal);
  const outage = new Outage();
  let cursor = options.fromCursor;
  try {
    for (;;) {
      try {
        const query = [
          ["follow", 1] as const,
          ["cursor", cursor] as const,
          ["limit", options.limit] as const,
        ];
        const connection = request(target, "GET", suffix, options, { query });
        for await (const frame of eventFrames(target.transport(), connection, link.signal)) {
          outage.over();
          const chunk = chunkOfFrame(frame);
          if (chunk === undefined) return;
          const rest = after(chunk, cursor);
          if (rest === undefined) continue;
          cursor = rest.offsetEnd;
          yield rest;
        }
        outage.over();
      } catch (error) {
        outage.record(error);
      }
      await sleep(reconnectDelayMs, link.signal);
    }
  } finally {
    link.dispose();
  }
}

/** I1: what of `chunk` comes after `cursor`. */
function after(chunk: WorkspaceStreamChunk, cursor: number | undefined): WorkspaceStreamChunk | undefined {
  if (cursor === undefined || chunk.offsetStart === cursor) return chunk;
  if (chunk.offsetStart > cursor)
    throw new SseProtocolError(`the server left out the bytes from ${cursor} to ${chunk.offsetStart}`);
  if (chunk.offsetEnd <= cursor) return undefined;
  const data = chunk.data.subarray(cursor - chunk.offsetStart);
  return Object.freeze({ ...chunk, offsetStart: cursor, data });
}

/** Undefined: the stream is over. */
function chunkOfFrame(frame: SseFrame): WorkspaceStreamChunk | undefined {
  const data = dataOf(frame);
  if (frame.event === "workspace_stream_chunk") {
    try {
      return chunkOf(data);
    } catch (error) {
      if (error instanceof InvalidResponseError) throw new SseProtocolError(error.message, { cause: error });
      throw error;
    }
  }
  const cursor = numberOrNull(data, "cursor") ?? undefined;
  if (frame.event === "workspace_stream_error") {
    const code = textOrNull(data, "code") ?? "workspace_stream_error";
    throw new WorkspaceStreamError(code, textOrNull(data, "message") ?? undefined, cursor);
  }
  if (frame.event !== "workspace_stream_terminal" && frame.event !== "workspace_stream_lost")
    throw new SseProtocolError(`the server sent an unknown event ${JSON.stringify(frame.event)}`);
  const isLost = frame.event === "workspace_stream_lost";
  const state = textOrNull(data, "state") ?? (isLost ? "lost" : "");
  if (!isLost && state !== "lost" && state !== "failed") return undefined;
  throw new WorkspaceStreamTerminalError({
    resourceKind: textOrNull(data, "resource_kind") ?? "workspace_exec",
    resourceId: textOrNull(data, "resource_id") ?? "",
    stream: textOrNull(data, "stream") ?? "",
    state,
    cursor,
    error: data.error,
  });
}

function dataOf(frame: SseFrame): WireObject {
  try {
    return wireObject(JSON.parse(frame.data), "event");
  } catch (error) {
    throw new SseProtocolError("the server sent an event that is no JSON object", { cause: error });
  }
}

/** One write; longer than 1 MiB is refused by the server. */
export async function writeChunk(
  target: Target,
  suffix: string,
  data: string | Uint8Array,
  options: WorkspaceWriteOptions,
): Promise<WorkspaceStreamChunk> {
  if (typeof options?.offset !== "number")
    throw new TypeError("a write needs { offset }: how many bytes were written before");
  const body = { offset: options.offset, data: base64Of(bytesOf(data, "data")) };
  return chunkOf(await ask(target, "POST", suffix, options, { body }));
}

/** All of `source` from `offset` on, one write after the other; returns the offset behind it (I2). */
export async function writeAll(
  target: Target,
  suffix: string,
  source: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>,
  options: WorkspaceWriteOptions,
): Promise<number> {
  let { offset } = options;
  for await (const piece of source) {
    const bytes = bytesOf(piece, "data");
    for (let start = 0; start < bytes.length; start += maxWriteBytes) {
      const part = bytes.subarray(start, start + maxWriteBytes);
      const outage = new Outage();
      const at = { ...options, offset };
      while ((await outage.attempt(() => writeChunk(target, suffix, part, at))) === undefined)
        await sleep(reconnectDelayMs, options.signal);
      offset += part.length;
    }
  }
  return offset;
}
