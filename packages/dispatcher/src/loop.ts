/**
 * A loop of the dispatcher: does one page of work, again at once while there was a whole page, else after its interval.
 *
 *  I1  Never two runs of one loop at a time in a process; several processes are fine, pages skip what others hold.
 *  I2  An error is logged and the loop goes on, with a pause that doubles up to 30 s.
 *  I3  `stop` waits for the page under way and starts no other.
 */
import { type DispatcherMetrics, secondsSince } from "@helmr/telemetry";
import type { Logger } from "pino";

export interface Loop {
  readonly name: string;
  /** Pause when there was nothing to do; each pause varies by a quarter, so that processes do not run in step. */
  readonly intervalMs: number;
  /** One bounded page; resolves to whether there may be more. `count` takes the rows it changed or acted on. */
  readonly runPage: (count: (rows: number) => void) => Promise<boolean>;
}

/** `runPage` of what does not say how much it did: a page with more behind it counts as one. */
export function countPages(run: () => Promise<boolean>): Loop["runPage"] {
  return async (count) => {
    const hasMore = await run();
    count(hasMore ? 1 : 0);
    return hasMore;
  };
}

const maxErrorPauseMs = 30_000;
/** Pages in a row before the loop lets its interval pass: the database has other work. */
const maxPagesInARow = 50;

export class LoopRunner {
  readonly #loop: Loop;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #underWay: Promise<void> = Promise.resolve();
  #stopped = false;
  #failures = 0;
  readonly #metrics: DispatcherMetrics["loops"];
  /** The end of the last pass without an error. */
  #succeededAt = performance.now();

  constructor(loop: Loop, logger: Logger, metrics: DispatcherMetrics["loops"]) {
    this.#loop = loop;
    this.#logger = logger.child({ loop: loop.name });
    this.#metrics = metrics;
    const labels = { loop: loop.name };
    // From the start on: a figure that is not there cannot be asked for its growth.
    metrics.pages.inc(labels, 0);
    metrics.rows.inc(labels, 0);
    metrics.errors.inc(labels, 0);
    metrics.lag.watch(labels, () => secondsSince(this.#succeededAt));
  }

  start(): void {
    this.#schedule(Math.random() * this.#loop.intervalMs);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#underWay;
  }

  #schedule(delayMs: number): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#underWay = this.#run();
    }, delayMs);
  }

  async #run(): Promise<void> {
    let pauseMs = this.#loop.intervalMs * (0.75 + Math.random() / 2);
    const labels = { loop: this.#loop.name };
    const startedAt = performance.now();
    try {
      const isBehind = await this.#runPages(labels);
      this.#failures = 0;
      this.#succeededAt = performance.now();
      this.#metrics.behind.set(labels, isBehind ? 1 : 0);
    } catch (error) {
      this.#failures += 1;
      this.#metrics.errors.inc(labels);
      pauseMs = Math.min(maxErrorPauseMs, pauseMs * 2 ** this.#failures);
      this.#logger.warn({ err: error, pauseMs }, "a sweep failed; it goes on after a pause");
    }
    this.#metrics.seconds.observe(labels, secondsSince(startedAt));
    this.#schedule(pauseMs);
  }

  /** Resolves to whether there may be more. */
  async #runPages(labels: { readonly loop: string }): Promise<boolean> {
    const count = (rows: number) => this.#metrics.rows.inc(labels, rows);
    for (let pages = 0; pages < maxPagesInARow && !this.#stopped; pages += 1) {
      const hasMore = await this.#loop.runPage(count);
      this.#metrics.pages.inc(labels);
      if (!hasMore) return false;
    }
    return true;
  }
}
