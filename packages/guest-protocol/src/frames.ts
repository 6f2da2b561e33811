/**
 * Framing: a 4-byte big-endian length, then the body. No validator and no body format, so that the task host can use
 * it without loading more.
 *
 *  F1  A frame longer than the bound is refused at its length prefix, before any of it is stored.
 *  F2  What is stored of an unfinished frame is at most twice what has arrived (growth by doubling), however small
 *      the chunks: a list of one-byte chunks would cost a hundred times their content.
 */
import { limits } from "./constants.ts";

const prefixBytes = 4;
const firstAllocationBytes = 16 * 1024;

/** The peer broke the protocol; the link is of no use any more. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** Put the length prefix before a body; used by channels with another body format, too. */
export function prefixed(body: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafeSlow(prefixBytes + body.length);
  frame.writeUInt32BE(body.length, 0);
  frame.set(body, prefixBytes);
  return frame;
}

/** Cuts a byte stream into frame bodies, whatever the chunks are. */
export class FrameDecoder {
  readonly #maxBytes: number;
  readonly #prefix = Buffer.alloc(prefixBytes);
  #prefixFilled = 0;
  #body: Buffer | undefined;
  #bodyFilled = 0;
  #bodyLength = 0;

  constructor(maxBytes: number = limits.frameBytes) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Take one chunk and yield every body it completes. A yielded body may share memory with the chunk.
   *
   * @throws ProtocolError when a frame is empty or longer than the bound (F1).
   */
  *push(chunk: Buffer): Generator<Buffer, void, void> {
    let at = 0;
    while (at < chunk.length) {
      if (this.#prefixFilled < prefixBytes) {
        at += this.#takePrefix(chunk, at);
        continue;
      }
      const missing = this.#bodyLength - this.#bodyFilled;
      const end = Math.min(chunk.length, at + missing);
      if (this.#bodyFilled === 0 && end - at === missing) {
        this.#prefixFilled = 0;
        yield chunk.subarray(at, end);
      } else {
        const body = this.#append(chunk, at, end);
        if (body !== undefined) yield body;
      }
      at = end;
    }
  }

  #takePrefix(chunk: Buffer, at: number): number {
    const taken = chunk.copy(
      this.#prefix,
      this.#prefixFilled,
      at,
      Math.min(chunk.length, at + prefixBytes - this.#prefixFilled),
    );
    this.#prefixFilled += taken;
    if (this.#prefixFilled === prefixBytes) {
      this.#bodyLength = this.#prefix.readUInt32BE(0);
      this.#bodyFilled = 0;
      if (this.#bodyLength === 0 || this.#bodyLength > this.#maxBytes) {
        throw new ProtocolError(`A frame of ${this.#bodyLength} bytes; allowed are 1 to ${this.#maxBytes}.`);
      }
    }
    return taken;
  }

  #append(chunk: Buffer, start: number, end: number): Buffer | undefined {
    const needed = this.#bodyFilled + end - start;
    let body = this.#body;
    if (body === undefined || body.length < needed) {
      // F2: at least double, never more than the frame.
      const size = Math.min(
        this.#bodyLength,
        Math.max(firstAllocationBytes, needed, (body?.length ?? 0) * 2),
      );
      const grown = Buffer.allocUnsafeSlow(size);
      body?.copy(grown, 0, 0, this.#bodyFilled);
      body = grown;
      this.#body = grown;
    }
    chunk.copy(body, this.#bodyFilled, start, end);
    this.#bodyFilled = needed;
    if (needed < this.#bodyLength) return undefined;
    this.#body = undefined;
    this.#prefixFilled = 0;
    return body.subarray(0, this.#bodyLength);
  }
}
