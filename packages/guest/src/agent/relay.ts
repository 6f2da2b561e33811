/**
 * OutputRelay: stdout and stderr of a process to the link, byte for byte, in the order of arrival.
 *
 *  R1  A chunk holds at most `limits.logChunkBytes`; small writes within `coalesceMs` after the last chunk share one.
 *  R2  The first write after a quiet time is sent at once: an author who watches sees no delay.
 *  R3  Memory is bounded: above `maxQueuedBytes` both pipes are paused until the link has taken what is queued.
 *  R4  `ended` resolves when both pipes are at their end and everything read from them is in the link, in order; so
 *      what is sent afterwards arrives after it.
 */
import type { Readable } from "node:stream";
import { limits } from "@helmr/guest-protocol/constants";

const coalesceMs = 5;
const maxQueuedBytes = 256 * 1024;

export type OutputStream = "stdout" | "stderr";
interface Segment {
  readonly stream: OutputStream;
  readonly parts: Buffer[];
  bytes: number;
}

export class OutputRelay {
  readonly ended: Promise<void>;
  readonly #pipes: readonly Readable[];
  readonly #send: (stream: OutputStream, data: Buffer) => Promise<void>;
  #queue: Segment[] = [];
  #queuedBytes = 0;
  #sending = false;
  #lastSentMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #openPipes = 2;
  #resolveEnded: () => void = () => undefined;

  /** `send` resolves when the link has room for more; its rejection (link closed) drops the output. */
  constructor(
    stdout: Readable,
    stderr: Readable,
    send: (stream: OutputStream, data: Buffer) => Promise<void>,
  ) {
    this.#pipes = [stdout, stderr];
    this.#send = send;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#watch(stdout, "stdout");
    this.#watch(stderr, "stderr");
  }

  /** Stop reading; what has been read is still sent. For pipes that a process outside of our reach holds open. */
  stop(): void {
    for (const pipe of this.#pipes) pipe.destroy();
  }

  #watch(pipe: Readable, stream: OutputStream): void {
    pipe.on("data", (data: Buffer) => this.#take(stream, data));
    pipe.resume();
    pipe.once("error", () => pipe.destroy());
    pipe.once("close", () => {
      this.#openPipes -= 1;
      this.#schedule();
    });
  }

  #take(stream: OutputStream, data: Buffer): void {
    for (let at = 0; at < data.length; ) {
      const last = this.#queue.at(-1);
      const room = last?.stream === stream ? limits.logChunkBytes - last.bytes : 0;
      const part = data.subarray(at, at + (room > 0 ? room : limits.logChunkBytes));
      if (last !== undefined && room > 0) {
        last.parts.push(part);
        last.bytes += part.length;
      } else this.#queue.push({ stream, parts: [part], bytes: part.length });
      at += part.length;
    }
    this.#queuedBytes += data.length;
    if (this.#queuedBytes > maxQueuedBytes) for (const pipe of this.#pipes) pipe.pause(); // R3
    this.#schedule();
  }

  #schedule(): void {
    if (this.#sending) return;
    if (this.#queue.length === 0) {
      if (this.#openPipes === 0) this.#resolveEnded();
      return;
    }
    const isFull = this.#queue.length > 1 || this.#queuedBytes >= limits.logChunkBytes;
    const waitMs = isFull || this.#openPipes === 0 ? 0 : this.#lastSentMs + coalesceMs - performance.now();
    if (waitMs <= 0) void this.#flush();
    else this.#timer ??= setTimeout(() => void this.#flush(), waitMs);
  }

  async #flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#sending) return;
    this.#sending = true;
    for (let segment = this.#queue.shift(); segment !== undefined; segment = this.#queue.shift()) {
      const [only] = segment.parts;
      const data = segment.parts.length === 1 && only !== undefined ? only : Buffer.concat(segment.parts);
      this.#queuedBytes -= segment.bytes;
      try {
        await this.#send(segment.stream, data);
      } catch {
        // The link is closed for good: nobody is there to read, and the process must not block on its pipe.
      }
      if (this.#queuedBytes < maxQueuedBytes / 2) for (const pipe of this.#pipes) pipe.resume();
      // More of the same stream may have come; leave a small rest for the next chunk.
      if (this.#queue.length === 1 && this.#queuedBytes < limits.logChunkBytes && this.#openPipes > 0) break;
    }
    this.#lastSentMs = performance.now();
    this.#sending = false;
    this.#schedule();
  }
}
