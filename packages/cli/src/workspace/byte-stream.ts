/**
 * Following a byte stream of a command or terminal across lost connections (contract 7.6).
 *
 * B1  each byte once and in order: what comes again is trimmed at the cursor, a hole is an error;
 * B2  it ends at the terminal frame alone;
 * B3  it gives up: five minutes without an answer are an error.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ApiClient } from "../client/api-client.ts";
import { isTransient } from "../client/api-client.ts";
import { protocolError } from "../client/follow.ts";
import { frames } from "../client/frames.ts";
import { CliError, exitCodes } from "../errors.ts";

export interface ByteStream {
  readonly api: ApiClient;
  /** Such as `/workspaces/w/execs/e/stdout`. */
  readonly path: string;
  /** The byte after which to read. */
  readonly cursor: number;
  readonly signal: AbortSignal;
  readonly onLost?: () => void;
  readonly onOpen?: () => void;
}
export interface StreamEnd {
  /** Of the command or terminal. */
  readonly state: string;
  readonly error: string | undefined;
}
export interface Piece {
  readonly data: Buffer;
  /** Where the stream stands behind it. */
  readonly end: number;
}

export const outageLimitMs = 5 * 60_000;
const firstPauseMs = 100;
const maxPauseMs = 1000;

/** The bytes behind the cursor; returns how the command or terminal ended. */
export async function* followBytes(stream: ByteStream): AsyncGenerator<Piece, StreamEnd> {
  const { api, path, signal } = stream;
  let { cursor } = stream;
  let lastAnswerMs = performance.now();
  let pauseMs = firstPauseMs;
  const onOpen = (): void => {
    lastAnswerMs = performance.now();
    stream.onOpen?.();
  };
  for (;;) {
    try {
      const query = { follow: 1, cursor };
      for await (const frame of frames({ api, path, query, signal, onOpen })) {
        lastAnswerMs = performance.now();
        pauseMs = firstPauseMs;
        const data = parsed(frame.data);
        if (frame.event !== "workspace_stream_chunk") return endOf(frame.event, data);
        const piece = behind(cursor, data); // B1
        if (piece === undefined) continue;
        cursor = piece.end;
        yield piece;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!isTransient(error) || performance.now() - lastAnswerMs > outageLimitMs) throw error; // B3
    }
    stream.onLost?.();
    await sleep(pauseMs, undefined, { signal });
    pauseMs = Math.min(pauseMs * 2, maxPauseMs);
  }
}

type Fields = Readonly<Record<string, unknown>>;

function parsed(text: string): Fields {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Fields;
  } catch {
    // Said below.
  }
  throw protocolError("a frame's data is no JSON object");
}

/** B1. A schema's check of each chunk would cost more than everything else here: by hand. */
function behind(cursor: number, { offset_start: start, offset_end: end, data }: Fields): Piece | undefined {
  if (typeof start !== "number" || typeof end !== "number" || typeof data !== "string")
    throw protocolError("a chunk without offsets or data");
  const bytes = Buffer.from(data, "base64");
  if (bytes.length !== end - start) throw protocolError("a chunk whose data does not fit its offsets");
  if (start > cursor) throw protocolError(`the bytes from ${cursor} to ${start} are missing`);
  return end <= cursor ? undefined : { data: bytes.subarray(cursor - start), end };
}

function endOf(event: string | undefined, { state, error, code, message }: Fields): StreamEnd {
  if (event === "workspace_stream_terminal" || event === "workspace_stream_lost")
    return { state: typeof state === "string" ? state : "lost", error: errorText(error) };
  if (event === "workspace_stream_error") {
    throw new CliError(`the stream cannot go on: ${errorText(message) ?? String(code)}`, {
      exitCode: exitCodes.refused,
      ...(typeof code === "string" ? { code } : {}),
    });
  }
  throw protocolError(`an event ${JSON.stringify(event)}`);
}

export function errorText(error: unknown): string | undefined {
  if (typeof error === "string") return error;
  if (typeof error !== "object" || error === null) return undefined;
  return "message" in error && typeof error.message === "string" ? error.message : JSON.stringify(error);
}
