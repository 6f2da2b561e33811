/**
 * Server-sent events: bytes to frames (contract 6.2 and 14).
 *
 * I1 The same text gives the same frames however it is cut into chunks.
 * I2 At most `maxFrameChars` (and a delimiter) is buffered.
 */
import { SseProtocolError } from "../errors.ts";
import { readChunks } from "./body.ts";

export interface SseFrame {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: string;
}

/** Contract 14, 5. */
export const maxFrameChars = 1024 * 1024;
/** `\r\n\r\n` is the longest delimiter: this much of it may stand unfinished at the buffer's end. */
const delimiterRest = 3;

export class SseParser {
  #buffer = "";
  /** No delimiter begins before this index. */
  #scanned = 0;

  /** The frames that `chunk` completes. Throws SseProtocolError when a frame is too long. */
  *feed(chunk: string): Generator<SseFrame> {
    this.#buffer += chunk;
    for (;;) {
      const delimiter = this.#nextDelimiter();
      if (delimiter === undefined) break;
      const text = this.#buffer.slice(0, delimiter.index);
      this.#buffer = this.#buffer.slice(delimiter.index + delimiter.length);
      this.#scanned = 0;
      if (text.length > maxFrameChars) throw tooLong();
      const frame = parseFrame(text);
      if (frame !== undefined) yield frame;
    }
    this.#scanned = Math.max(0, this.#buffer.length - delimiterRest);
    if (this.#buffer.length > maxFrameChars + delimiterRest) throw tooLong(); // I2
  }

  #nextDelimiter(): { index: number; length: number } | undefined {
    const pattern = /\n\n|\r\n\r\n/g;
    pattern.lastIndex = this.#scanned;
    const match = pattern.exec(this.#buffer);
    return match === null ? undefined : { index: match.index, length: match[0].length };
  }
}

function tooLong(): SseProtocolError {
  return new SseProtocolError(`the server sent an event of more than ${maxFrameChars} characters`);
}

/** Undefined for a frame without data: a comment, say. */
function parseFrame(text: string): SseFrame | undefined {
  const data: string[] = [];
  let event = "message";
  let id: string | undefined;
  for (const line of text.split(/\r\n|\n|\r/)) {
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") data.push(value);
    else if (field === "event") event = value;
    else if (field === "id") id = value;
  }
  return data.length === 0 ? undefined : { event, id, data: data.join("\n") };
}

/**
 * The frames of an open stream, until it ends; an unfinished last frame is dropped. Throws TransportError when the
 * stream is cut or silent for `idleTimeoutMs`, SseProtocolError on a broken format, the signal's reason on abort.
 * Leaving the loop cancels the stream.
 */
export async function* readFrames(
  body: ReadableStream<Uint8Array>,
  idleTimeoutMs: number,
  signal: AbortSignal,
): AsyncGenerator<SseFrame> {
  const decoder = new TextDecoder();
  const parser = new SseParser();
  for await (const chunk of readChunks(body, "the event stream", idleTimeoutMs, signal))
    yield* parser.feed(decoder.decode(chunk, { stream: true }));
}
