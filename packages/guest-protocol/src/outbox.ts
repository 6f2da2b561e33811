/** The sending half of a link: numbers, the window of what is not acknowledged (L1, L2, L4), and who waits for it. */
import { encodeFrame } from "./codec.ts";
import { LinkClosedError } from "./link-frames.ts";
import type { LinkSnapshot } from "./link-snapshot.ts";

const maxWaiting = 1024;

export interface Sent {
  readonly seq: number;
  readonly bytes: Buffer;
}
interface Waiting {
  readonly message: unknown;
  resolve(): void;
  reject(error: Error): void;
}

export class Outbox {
  readonly #windowBytes: number;
  /** Called for every message that came into the window. */
  readonly #onAccepted: (sent: Sent) => void;
  #sentSeq = 0;
  #unacknowledged: Sent[] = [];
  #unacknowledgedBytes = 0;
  #waiting: Waiting[] = [];
  #idleWaiters: (() => void)[] = [];

  constructor(windowBytes: number, onAccepted: (sent: Sent) => void) {
    this.#windowBytes = windowBytes;
    this.#onAccepted = onAccepted;
  }

  /** Number of the last message accepted. */
  get sentSeq(): number {
    return this.#sentSeq;
  }

  /** Number of the last message the peer has acknowledged. */
  get acknowledgedSeq(): number {
    return this.#sentSeq - this.#unacknowledged.length;
  }

  get unacknowledged(): readonly Sent[] {
    return this.#unacknowledged;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get writable(): boolean {
    return this.#waiting.length === 0 && this.#unacknowledgedBytes < this.#windowBytes;
  }

  send(message: unknown): Promise<void> {
    if (!this.writable) {
      if (this.#waiting.length >= maxWaiting) {
        return Promise.reject(new RangeError(`${maxWaiting} messages wait for the link; wait for send().`));
      }
      return new Promise((resolve, reject) => this.#waiting.push({ message, resolve, reject }));
    }
    try {
      this.#accept(message);
      return Promise.resolve();
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Resolves when nothing is unacknowledged or waiting, or the outbox is closed. */
  acknowledged(): Promise<void> {
    if (this.#unacknowledged.length === 0 && this.#waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /**
   * Drop what the peer has, up to a number that was sent. An `ack` may be behind the hello before it: that one counts
   * undelivered ones (L7).
   */
  forget(upTo: number): void {
    const count = upTo - this.acknowledgedSeq;
    if (count <= 0) return;
    for (const sent of this.#unacknowledged.splice(0, count)) this.#unacknowledgedBytes -= sent.bytes.length;
  }

  /** Let waiting producers in as far as the window allows (L4). */
  admit(): void {
    while (this.#unacknowledgedBytes < this.#windowBytes) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      try {
        this.#accept(next.message);
        next.resolve();
      } catch (error) {
        next.reject(error as Error);
      }
    }
    if (this.#unacknowledged.length === 0 && this.#waiting.length === 0) this.#releaseIdle();
  }

  close(): void {
    this.#unacknowledged = [];
    this.#unacknowledgedBytes = 0;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(new LinkClosedError());
    this.#releaseIdle();
  }

  goOnFrom(snapshot: LinkSnapshot): void {
    const first = snapshot.sent_seq - snapshot.unacknowledged.length + 1;
    if (first < 1) throw new RangeError("The snapshot holds more messages than were sent.");
    this.#sentSeq = snapshot.sent_seq;
    this.#unacknowledged = snapshot.unacknowledged.map((text, index) => ({
      seq: first + index,
      bytes: Buffer.from(text, "base64"),
    }));
    this.#unacknowledgedBytes = this.#unacknowledged.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  #accept(message: unknown): void {
    const seq = this.#sentSeq + 1;
    const bytes = encodeFrame({ frame: "data", seq, message });
    this.#sentSeq = seq;
    const sent = { seq, bytes };
    this.#unacknowledged.push(sent);
    this.#unacknowledgedBytes += bytes.length;
    this.#onAccepted(sent);
  }

  #releaseIdle(): void {
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }
}
