/** What is typed into a terminal, on its way to a program that may not read it (terminals.ts, T2 and T3). */
import { writeSync } from "node:fs";
import type { ReadStream } from "node:tty";
import type { Consumption } from "./consumption.ts";

/** While the terminal's buffer is full. Nothing tells when there is room: the stream watches for output only. */
const retryMs = { first: 2, most: 100 };

export class TerminalInput {
  readonly #stream: ReadStream;
  readonly #fd: number;
  readonly #consumption: Consumption;
  #queue: Uint8Array[] = [];
  #retry: NodeJS.Timeout | undefined;
  #delayMs = retryMs.first;

  constructor(stream: ReadStream, fd: number, consumption: Consumption) {
    this.#stream = stream;
    this.#fd = fd;
    this.#consumption = consumption;
  }

  /** Throws a RangeError when the worker sent more than the window. */
  write(data: Uint8Array): void {
    this.#consumption.take(data.length);
    this.#queue.push(data);
    if (this.#retry === undefined) this.#drain();
  }

  close(): void {
    clearTimeout(this.#retry);
    this.#queue = [];
  }

  #drain(): void {
    this.#retry = undefined;
    for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
      const written = this.#write(head);
      if (written === 0) {
        this.#retry = setTimeout(() => this.#drain(), this.#delayMs);
        this.#delayMs = Math.min(this.#delayMs * 2, retryMs.most);
        return;
      }
      this.#delayMs = retryMs.first;
      if (written < head.length) this.#queue[0] = head.subarray(written);
      else this.#queue.shift();
      this.#consumption.done(written);
    }
  }

  /** Bytes written or, when nobody can read them any more, dropped. */
  #write(data: Uint8Array): number {
    if (this.#stream.destroyed) return data.length;
    try {
      return writeSync(this.#fd, data);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "EAGAIN" ? 0 : data.length;
    }
  }
}
