/**
 * Asks for work of one kind (runs or builds) whenever a slot is free, one long poll at a time.
 *
 *  I1  Never more items in work than slots: a poll asks for exactly the slots free at that moment.
 *  I2  After `drain()` no new work is taken; what was taken goes on.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";

export interface LeaseLoopOptions<Item> {
  readonly slots: number;
  /** Long poll for up to `max` items; resolves empty when its time is over. */
  readonly poll: (max: number, signal: AbortSignal) => Promise<readonly Item[]>;
  /** Must not reject; a rejection is logged and frees the slot. */
  readonly execute: (item: Item) => Promise<void>;
  readonly logger: Logger;
}

/** Pause after a failed poll: doubles from 200 ms to 5 s, with jitter. */
const firstBackoffMs = 200;
const maxBackoffMs = 5_000;

export class LeaseLoop<Item> {
  readonly #options: LeaseLoopOptions<Item>;
  readonly #draining = new AbortController();
  readonly #active = new Set<Promise<void>>();
  #loop: Promise<void> = Promise.resolve();

  constructor(options: LeaseLoopOptions<Item>) {
    this.#options = options;
  }

  get activeCount(): number {
    return this.#active.size;
  }

  start(): void {
    this.#loop = this.#run();
  }

  /** Stop polling; resolves when what was taken is done. */
  async drain(): Promise<void> {
    this.#draining.abort();
    await this.#loop;
    await Promise.all(this.#active);
  }

  async #run(): Promise<void> {
    const { signal } = this.#draining;
    let backoffMs = firstBackoffMs;
    while (!signal.aborted) {
      const free = this.#options.slots - this.#active.size;
      if (free <= 0) {
        await Promise.race(this.#active);
        continue;
      }
      try {
        for (const item of await this.#options.poll(free, signal)) this.#take(item);
        backoffMs = firstBackoffMs;
      } catch (error) {
        if (signal.aborted) return;
        this.#options.logger.warn({ error }, "asking for work failed; trying again");
        await sleep(backoffMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
        backoffMs = Math.min(maxBackoffMs, backoffMs * 2);
      }
    }
  }

  #take(item: Item): void {
    const done = this.#options
      .execute(item)
      .catch((error: unknown) => this.#options.logger.error({ error }, "an executor failed unexpectedly"))
      .finally(() => this.#active.delete(done));
    this.#active.add(done);
  }
}
