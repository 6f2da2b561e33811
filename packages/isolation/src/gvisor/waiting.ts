/**
 * A guest that waits for its checkpoint (PreparedRestore).
 *
 * | phase     | enters by      | leaves by                                               |
 * |-----------|----------------|---------------------------------------------------------|
 * | waiting   | construction   | restore() -> restoring; release(), destroy() -> over    |
 * | restoring | restore()      | its processes run -> restored; failed -> over           |
 * | restored  |                | the guest is gone -> over                               |
 * | over      | all is released | never; `gone` is resolved                              |
 */
import { IsolationError } from "../errors.ts";
import type { PreparedRestore, RestorableCheckpoint } from "../isolation.ts";
import type { GvisorGuest } from "./guest.ts";
import type { StartingGuest } from "./starting.ts";

export class WaitingGuest implements PreparedRestore {
  readonly #starting: StartingGuest;
  readonly #check: (checkpoint: RestorableCheckpoint) => Promise<void>;
  readonly #gone = Promise.withResolvers<void>();
  #restoring: Promise<GvisorGuest> | undefined;
  #isReleased = false;

  /** `check` rejects when the checkpoint is not to be restored here. */
  constructor(starting: StartingGuest, check: (checkpoint: RestorableCheckpoint) => Promise<void>) {
    this.#starting = starting;
    this.#check = check;
  }

  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  async restore(checkpoint: RestorableCheckpoint): Promise<GvisorGuest> {
    if (this.#restoring !== undefined || this.#isReleased)
      throw new IsolationError("spec", "a prepared restore is good for one guest");
    this.#restoring = this.#restore(checkpoint);
    return await this.#restoring;
  }

  async release(): Promise<void> {
    if (this.#restoring !== undefined) return;
    this.#isReleased = true;
    await this.#starting.release();
    this.#gone.resolve();
  }

  /** Whatever there is of it. */
  async destroy(): Promise<void> {
    if (this.#restoring === undefined) return await this.release();
    const guest = await this.#restoring.catch(() => undefined);
    await guest?.destroy();
  }

  async #restore(checkpoint: RestorableCheckpoint): Promise<GvisorGuest> {
    try {
      await this.#check(checkpoint);
      const guest = await this.#starting.run();
      const over = () => this.#gone.resolve();
      guest.exited.then(over, over);
      return guest;
    } catch (error) {
      await this.#starting.release();
      this.#gone.resolve();
      throw error;
    }
  }
}
