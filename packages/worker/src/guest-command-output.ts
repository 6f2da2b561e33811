/**
 * One output stream of a guest's command on its way to whoever takes it.
 *
 *  O1  At most `limits.commandWindowBytes` wait here: the guest has credit for no more, and gets new credit only for what
 *      was taken. What waits is kept in pages, so that a guest that sends single bytes costs no more than their number.
 *  O2  `take` is called for one piece at a time, in order; what came meanwhile is one piece for the next call.
 *  O3  When `take` fails, `onFailure` is called once, the rest is dropped, and credit goes on: the command's end must not
 *      wait for it.
 */
import { limits } from "@helmr/guest-protocol";

const pageBytes = 64 * 1024;
const grantBytes = limits.commandWindowBytes / 4;

export interface OutputSeams {
  readonly take: (data: Buffer) => void | Promise<void>;
  readonly grant: (bytes: number) => void;
  readonly onFailure: (error: unknown) => void;
}

export class CommandOutput {
  readonly #seams: OutputSeams;
  #credit: number = limits.commandWindowBytes;
  #taken = 0;
  #pages: Buffer[] = [];
  #lastFilled = 0;
  #working: Promise<void> | undefined;
  #failed = false;

  constructor(seams: OutputSeams) {
    this.#seams = seams;
  }

  /** false: the guest had no credit for it. */
  push(data: Uint8Array): boolean {
    if (data.length > this.#credit) return false;
    this.#credit -= data.length;
    if (this.#working === undefined) {
      this.#working = this.#work(Buffer.from(data.buffer, data.byteOffset, data.length)).finally(() => {
        this.#working = undefined;
      });
    } else this.#store(data);
    return true;
  }

  /** Resolves when everything pushed so far was taken. */
  async drained(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  async #work(first: Buffer): Promise<void> {
    for (let data = first; data.length > 0; data = this.#stored()) {
      await this.#take(data);
      this.#taken += data.length;
      if (this.#taken < grantBytes) continue;
      // Up to a quarter may stay ungranted: the guest still has the other three.
      this.#credit += this.#taken;
      this.#seams.grant(this.#taken);
      this.#taken = 0;
    }
  }

  async #take(data: Buffer): Promise<void> {
    if (this.#failed) return;
    try {
      await this.#seams.take(data);
    } catch (error) {
      this.#failed = true;
      this.#seams.onFailure(error);
    }
  }

  #store(data: Uint8Array): void {
    for (let at = 0; at < data.length; ) {
      let page = this.#pages.at(-1);
      if (page === undefined || this.#lastFilled === page.length) {
        page = Buffer.allocUnsafeSlow(pageBytes);
        this.#pages.push(page);
        this.#lastFilled = 0;
      }
      const part = data.subarray(at, at + page.length - this.#lastFilled);
      page.set(part, this.#lastFilled);
      this.#lastFilled += part.length;
      at += part.length;
    }
  }

  #stored(): Buffer {
    const last = this.#pages.pop();
    if (last === undefined) return Buffer.alloc(0);
    const data = Buffer.concat([...this.#pages, last.subarray(0, this.#lastFilled)]);
    this.#pages = [];
    return data;
  }
}
