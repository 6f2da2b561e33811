/**
 * stdin and stdout of a process as one Duplex with backpressure both ways.
 *
 *  S1  Nothing printed is lost, also by a process that is over before anyone reads: the stream listens from the moment of
 *      its creation, which is that of the process (Node discards unread output of a process that exited).
 *  S2  Writing to a process that is gone is no error: what is written is discarded, so that what it printed before can
 *      still be read. The end of the readable side, and the process's exit, tell.
 */
import { Duplex, type Readable, type Writable } from "node:stream";

/** Ending the writable side closes stdin; the readable side ends when stdout does. */
export class ProcessStream extends Duplex {
  readonly #input: Writable;
  readonly #output: Readable;
  #outputEnded = false;
  /** Calls back the write under way when the process goes away instead of taking it. */
  #pendingWrite: (() => void) | undefined;

  constructor(input: Writable, output: Readable) {
    super({ allowHalfOpen: true });
    this.#input = input;
    this.#output = output;
    input.on("error", () => this.#settleWrite()); // S2
    input.once("close", () => this.#settleWrite());
    output.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) output.pause();
    });
    output.once("end", () => this.#endOutput());
    output.once("error", () => this.#endOutput());
    output.once("close", () => this.#endOutput());
  }

  override _read(): void {
    this.#output.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.#pendingWrite = callback;
    if (this.#input.writable) this.#input.write(chunk, () => this.#settleWrite());
    else this.#settleWrite();
  }

  override _final(callback: () => void): void {
    if (this.#input.writable) this.#input.end();
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#settleWrite();
    this.#input.destroy();
    this.#output.destroy();
    callback(error);
  }

  #settleWrite(): void {
    const callback = this.#pendingWrite;
    this.#pendingWrite = undefined;
    callback?.();
  }

  #endOutput(): void {
    if (this.#outputEnded) return;
    this.#outputEnded = true;
    this.push(null);
  }
}
