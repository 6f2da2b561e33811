/**
 * The time by which schedules are due: the database's, because that decides; or a test's own.
 *
 * The fire index is asked without the database. What this process's clock differs by is noted whenever the database was asked
 * anyway, so that a clock that is wrong neither delays fires nor claims entries in vain.
 */
export class ScheduleClock {
  readonly #test: (() => Date) | undefined;
  #aheadMs = 0;

  constructor(test: (() => Date) | undefined) {
    this.#test = test;
  }

  /** For the store: undefined is the database's clock. */
  forDatabase(): Date | undefined {
    return this.#test?.();
  }

  /** For the fire index. */
  nowMs(): number {
    return this.#test?.().getTime() ?? Date.now() + this.#aheadMs;
  }

  /** The database's time, as it was said just now. */
  note(databaseNow: Date): void {
    this.#aheadMs = databaseNow.getTime() - Date.now();
  }
}
