/**
 * Asks for work of one kind (runs or builds) whenever a slot is free, one long poll at a time.
 *
 *  I1  Never more items in work than slots: a poll asks for exactly the slots free at that moment.
 *  I2  After `drain()` no new work is taken; what was taken goes on.
 *  I3  While it is closed nothing is asked for, and a request on its way is given up: what it was to bring goes elsewhere.
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
  #draining = new AbortController();
  /** Aborts the poll that is on its way (I3). */
  #poll = new AbortController();
  /** Unsettled while closed. */
  #open: PromiseWithResolvers<void> | undefined;
  readonly #active = new Set<Promise<void>>();
  #loop: Promise<void> = Promise.resolve();

  constructor(options: LeaseLoopOptions<Item>) {
    this.#options = options;
  }

  get activeCount(): number {
    return this.#active.size;
  }

  /** Also after `drain`: ask for work again. */
  start(): void {
    this.#draining = new AbortController();
    this.#loop = this.#loop.then(() => this.#run());
  }

  /** Closed: ask for nothing until it is open again. */
  setOpen(isOpen: boolean): void {
    if (isOpen) {
      this.#open?.resolve();
      this.#open = undefined;
    } else if (this.#open === undefined) {
      this.#open = Promise.withResolvers();
      this.#poll.abort();
    }
  }

  /** Stop polling; resolves when what was taken is done. */
  async drain(): Promise<void> {
    this.#draining.abort();
    if (this.#open !== undefined) {
      // The loop is to end; what it does next finds it closed still.
      this.#open.resolve();
      this.#open = Promise.withResolvers();
    }
    await this.#loop;
    await Promise.all(this.#active);
  }

  async #run(): Promise<void> {
    const { signal } = this.#draining;
    let backoffMs = firstBackoffMs;
    while (!signal.aborted) {
      if (this.#open !== undefined) {
        await this.#open.promise;
        continue;
      }
      const free = this.#options.slots - this.#active.size;
      if (free <= 0) {
        await Promise.race(this.#active);
        continue;
      }
      this.#poll = new AbortController();
      const either = AbortSignal.any([signal, this.#poll.signal]);
      try {
        for (const item of await this.#options.poll(free, either)) this.#take(item);
        backoffMs = firstBackoffMs;
      } catch (error) {
        if (signal.aborted) return;
        if (this.#poll.signal.aborted) continue;
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
