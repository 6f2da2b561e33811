/** Counts the input a program has taken, and tells the worker by the quarter window (command-messages.ts, F1). */
import { limits } from "@helmr/guest-protocol/constants";

const reportBytes = limits.commandWindowBytes / 4;

export class Consumption {
  readonly #report: (bytes: number) => void;
  #outstanding = 0;
  #unreported = 0;

  constructor(report: (bytes: number) => void) {
    this.#report = report;
  }

  /** Input arrived. Throws when the worker sent more than the window. */
  take(bytes: number): void {
    this.#outstanding += bytes;
    if (this.#outstanding + this.#unreported > limits.commandWindowBytes) {
      throw new RangeError("The worker sent more input than was consumed.");
    }
  }

  /** The program has taken it, or takes nothing any more. */
  done(bytes: number): void {
    this.#outstanding -= bytes;
    this.#unreported += bytes;
    // Up to a quarter may stay untold: the worker still has the other three.
    if (this.#unreported < reportBytes) return;
    this.#report(this.#unreported);
    this.#unreported = 0;
  }
}
