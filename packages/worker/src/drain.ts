/**
 * The end of a worker's work, in a limited time: nothing new is taken, and what is here is finished, parked, or given back.
 *
 * | phase    | enters by              | what happens                                                                     |
 * |----------|------------------------|----------------------------------------------------------------------------------|
 * | draining | construction           | runs and builds go on; runs that wait are parked at once; live copies of         |
 * |          |                        | workspaces are saved and stopped; idle guests end                                |
 * | overdue  | the time is over       | runs and builds without an outcome are ended and given back: they go on elsewhere |
 * | done     | nothing is here, or    | `done` resolves                                                                  |
 * |          | `graceMs` after that   |                                                                                  |
 *
 * | done     | cancel                 | what was given up or parked stays so; `done` resolves                            |
 *
 *  I1  `limit` only ever makes the time shorter: who wants it ended sooner wins.
 *  I2  Whatever hangs, `done` resolves `graceMs` after the time is over at the latest.
 */
import type { Logger } from "pino";
import type { HeldBuild, HeldCopy, HeldRun, RunEnd } from "./held-work.ts";
import type { DrainSummary } from "./status.ts";

/** What there is to drain. */
export interface DrainableWork {
  readonly runs: {
    drain(): void;
    handBack(): void;
    readonly held: readonly HeldRun[];
    readonly ends: Readonly<Record<RunEnd, number>>;
  };
  readonly builds: {
    handBack(): void;
    readonly held: readonly HeldBuild[];
    readonly ends: { readonly finished: number; readonly handed_back: number };
  };
  readonly copies: {
    drain(reason: string): void;
    readonly held: readonly HeldCopy[];
    readonly ends: { readonly saved: number; readonly unsaved: number };
  };
  /** Take nothing new; resolves when all that was taken is done. */
  stopTaking(): Promise<void>;
  /** End the idle guests. */
  emptyPool(): Promise<void>;
}

export interface DrainProgress {
  readonly phase: "draining" | "overdue" | "done";
  /** Until what remains is given back; undefined: as long as it takes. */
  readonly leftMs: number | undefined;
  /** When it is done: what became of the work that was here, or on its way. */
  readonly summary: DrainSummary | undefined;
}

/** For what was given back to be told, and for live copies to be saved. */
const defaultGraceMs = 15_000;
export const drainReason = "the worker is drained; start it again, on another worker";
/** Node's longest timer. */
const maxTimerMs = 2 ** 31 - 1;

export class Drain {
  readonly done: Promise<DrainSummary>;
  #summary: DrainSummary | undefined;
  readonly #work: DrainableWork;
  readonly #logger: Logger;
  readonly #overdue = Promise.withResolvers<void>();
  readonly #cancelled = Promise.withResolvers<void>();
  #isCancelled = false;
  #phase: DrainProgress["phase"] = "draining";
  #timer: NodeJS.Timeout | undefined;
  #endsAt: number | undefined;

  /** Begins at once. Without a limit it lasts until everything is done. */
  constructor(
    work: DrainableWork,
    options: {
      readonly timeoutMs?: number | undefined;
      readonly graceMs?: number | undefined;
      readonly logger: Logger;
    },
  ) {
    this.#work = work;
    this.#logger = options.logger;
    if (options.timeoutMs !== undefined) this.limit(options.timeoutMs);
    this.done = this.#run(options.graceMs ?? defaultGraceMs);
  }

  get progress(): DrainProgress {
    const leftMs =
      this.#endsAt === undefined ? undefined : Math.max(0, Math.round(this.#endsAt - performance.now()));
    return { phase: this.#phase, leftMs, summary: this.#summary };
  }

  /** I1 */
  limit(timeoutMs: number): void {
    const endsAt = performance.now() + timeoutMs;
    if (this.#phase !== "draining" || (this.#endsAt ?? Number.POSITIVE_INFINITY) <= endsAt) return;
    this.#endsAt = endsAt;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#overdue.resolve(), Math.min(timeoutMs, maxTimerMs));
  }

  /** It is not wanted any more: nothing is given back. */
  cancel(): void {
    if (this.#phase !== "draining") return;
    this.#isCancelled = true;
    this.#cancelled.resolve();
  }

  async #run(graceMs: number): Promise<DrainSummary> {
    const { runs, builds, copies } = this.#work;
    const before = { runs: runs.ends, builds: builds.ends, copies: copies.ends };
    this.#logger.info(
      { runs: runs.held.length, builds: builds.held.length, copies: copies.held.length },
      "draining: nothing new is taken",
    );
    const stopped = Promise.all([this.#work.stopTaking(), this.#work.emptyPool()]);
    copies.drain(drainReason);
    runs.drain();
    await Promise.race([stopped, this.#overdue.promise, this.#cancelled.promise]);
    clearTimeout(this.#timer);
    if (this.#left() > 0 && !this.#isCancelled) {
      this.#phase = "overdue";
      this.#logger.warn(
        { runs: runs.held, builds: builds.held },
        "the time to drain is over: the rest is given back",
      );
      runs.handBack();
      builds.handBack();
      await withLimit(stopped, graceMs); // I2
    }
    const summary = {
      runs: difference(runs.ends, before.runs),
      builds: difference(builds.ends, before.builds),
      copies: difference(copies.ends, before.copies),
      left: this.#left(),
    };
    this.#phase = "done";
    this.#summary = summary;
    this.#logger.info(summary, "drained");
    return summary;
  }

  #left(): number {
    const { runs, builds, copies } = this.#work;
    return runs.held.length + builds.held.length + copies.held.length;
  }
}

function difference<Key extends string>(
  after: Readonly<Record<Key, number>>,
  before: Readonly<Record<Key, number>>,
): Record<Key, number> {
  const pairs = Object.entries(after) as [Key, number][];
  return Object.fromEntries(pairs.map(([key, count]) => [key, count - before[key]])) as Record<Key, number>;
}

async function withLimit(promise: Promise<unknown>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  await Promise.race([promise, limit]);
  clearTimeout(timer);
}
