/**
 * The input of a guest's command, from whoever writes it.
 *
 *  W1  Bytes go to the guest in the order of the calls, at most `limits.commandWindowBytes` beyond what its program took.
 *  W2  One message at a time waits for the link: a writer does not fill its queue.
 */
import { limits } from "@helmr/guest-protocol";

/** Input for a command that has ended, or whose input was closed. */
export class CommandInputClosedError extends Error {
  override readonly name = "CommandInputClosedError";
}

export class CommandInput {
  readonly #send: (data: Uint8Array) => Promise<void>;
  /** Sent and not consumed. */
  #outstanding = 0;
  #closed: CommandInputClosedError | undefined;
  #last: Promise<void> = Promise.resolve();
  #onChange: () => void = () => undefined;

  constructor(send: (data: Uint8Array) => Promise<void>) {
    this.#send = send;
  }

  /**
   * Resolves when everything is on its way; while the program does not read, it waits. Wait for it before the next call:
   * what waits is kept in memory. Rejects with a CommandInputClosedError.
   */
  write(data: Uint8Array): Promise<void> {
    return this.#inOrder(() => this.#write(data));
  }

  /** After what was written before: nothing more comes. */
  finish(send: () => Promise<void>): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#closed !== undefined) return;
      this.#closed = new CommandInputClosedError("The input of the command is closed.");
      await send();
    });
  }

  /** false: the guest consumed more than was sent. */
  consumed(bytes: number): boolean {
    if (bytes > this.#outstanding) return false;
    this.#outstanding -= bytes;
    this.#onChange();
    return true;
  }

  /** The command has ended: writers that wait are told. */
  end(reason: string): void {
    this.#closed = new CommandInputClosedError(reason);
    this.#onChange();
  }

  #inOrder(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #write(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length; ) {
      if (this.#closed !== undefined) throw this.#closed;
      const room = limits.commandWindowBytes - this.#outstanding;
      if (room <= 0) {
        await new Promise<void>((resolve) => {
          this.#onChange = resolve;
        });
        continue;
      }
      const part = data.subarray(at, at + Math.min(room, limits.commandChunkBytes));
      this.#outstanding += part.length;
      at += part.length;
      await this.#send(part);
    }
  }
}
