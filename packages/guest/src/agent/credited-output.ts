/**
 * One output stream of a command or terminal to the worker, byte for byte.
 *
 *  O1  Never more is sent than the worker gave credit for (command-messages.ts, F2). Meanwhile the stream is not read: its
 *      program waits in `write`, and memory holds a Readable's buffer.
 *  O2  `ended` resolves when the stream is at its end and everything read from it is in the link.
 *  O3  Once the program has ended, children that it left in the background do not hold the end beyond `idleLimitMs`
 *      without output, or `restBytes` with it. Time in which the worker gives no credit does not count: what the program
 *      itself wrote is not lost.
 */
import type { Readable } from "node:stream";
import { limits } from "@helmr/guest-protocol/constants";

const idleLimitMs = 250;
/** More than the kernel keeps in a pipe or socket, so what the program wrote before its end is among it. */
const restBytes = 1024 * 1024;

export class CreditedOutput {
  readonly ended: Promise<void>;
  readonly #source: Readable;
  readonly #send: (data: Buffer) => Promise<void>;
  #credit: number = limits.commandWindowBytes;
  #left = Number.POSITIVE_INFINITY;
  #onCredit: () => void = () => undefined;
  #onReadable: () => void = () => undefined;
  #idle: NodeJS.Timeout | undefined;
  #waiting = false;

  /** `send` resolves when the link has room for more. */
  constructor(source: Readable, send: (data: Buffer) => Promise<void>) {
    this.#source = source;
    this.#send = send;
    const wake = (): void => this.#onReadable();
    for (const event of ["readable", "end", "close"]) source.on(event, wake);
    // A terminal whose program is gone ends with EIO.
    source.on("error", wake);
    this.ended = this.#relay().catch(() => {
      // The link is closed for good: nobody is there to read.
      source.destroy();
    });
  }

  /** The worker takes so many bytes more. */
  grant(bytes: number): void {
    this.#credit += bytes;
    this.#onCredit();
  }

  /** The program has ended (O3). */
  programEnded(): void {
    this.#left = restBytes;
    this.#limitIdleTime();
  }

  async #relay(): Promise<void> {
    for (;;) {
      const data = this.#source.read() as Buffer | null;
      if (data !== null) {
        await this.#pass(data);
        this.#left -= data.length;
        if (this.#left <= 0) this.#source.destroy();
      } else if (this.#source.destroyed || this.#source.readableEnded) return;
      else await this.#readable();
    }
  }

  async #pass(data: Buffer): Promise<void> {
    for (let at = 0; at < data.length; ) {
      while (this.#credit <= 0) {
        await new Promise<void>((resolve) => {
          this.#onCredit = resolve;
        });
      }
      const part = data.subarray(at, at + Math.min(this.#credit, limits.commandChunkBytes));
      this.#credit -= part.length; // O1
      at += part.length;
      await this.#send(part);
    }
  }

  async #readable(): Promise<void> {
    this.#waiting = true;
    this.#limitIdleTime();
    await new Promise<void>((resolve) => {
      this.#onReadable = resolve;
    });
    this.#waiting = false;
    clearTimeout(this.#idle);
    this.#idle = undefined;
  }

  #limitIdleTime(): void {
    if (!this.#waiting || this.#left === Number.POSITIVE_INFINITY) return;
    this.#idle ??= setTimeout(() => this.#endUnlessReadable(), idleLimitMs);
  }

  /**
   * Timers come first in a turn of the event loop: when the loop itself stood still for the limit, on a busy host, what the
   * program wrote is in the pipe and not read yet. It is read in the same turn, before the immediates.
   */
  #endUnlessReadable(): void {
    const expired = this.#idle;
    setImmediate(() =>
      setImmediate(() => {
        if (this.#waiting && this.#idle === expired) this.#source.destroy();
      }),
    );
  }
}
