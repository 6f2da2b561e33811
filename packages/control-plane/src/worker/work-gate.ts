/**
 * The workers of one group that wait for work at this process, and which of them a hint wakes.
 *
 * Were all of them woken, a start would cost a claim of each waiting worker, and an idle one a claim a second: 10,000 of them
 * 30,000 statements a second. So a hint starts a wave instead:
 *
 *   the first waiting worker tries
 *     it found work     the next one tries: there may be more
 *     it did not        after one that found some: the wave is over; else the next 2, then 4, 8, … try, until one finds work or all
 *                       have tried: what is there may be for one of them alone (its disk has the workspace, a checkpoint fits)
 *
 *  G1  Who comes tries at once, before waiting: what was queued before is not waited for. When a hint comes meanwhile it tries
 *      once more.
 *  G2  A hint that comes during a wave starts another one after it.
 *  G3  While somebody waits the database is asked once a second, for all of them, whether anything is due; that starts a wave too.
 *      So a lost hint, a retry whose delay is over and work that only a later one can take are found within a second.
 *  G4  Who leaves (time is over, hung up) is no longer waited for by a wave.
 */
import type { LiveBus } from "@helmr/coordination";
import { slowPollMs } from "../http/wake-up.ts";

export interface WorkGateOptions {
  readonly bus: LiveBus;
  readonly topic: string;
  /** Whether anything of the group waits for a worker; more often than true costs a wave. */
  readonly hasDueWork: () => Promise<boolean>;
  /** G3; default a second. */
  readonly probeMs?: number;
}

export interface TakeWork<T> {
  readonly waitMs: number;
  /** Ends the wait: the caller hung up, or the server closes. */
  readonly signal: AbortSignal;
  /** Undefined: nothing for this worker now. */
  readonly attempt: () => Promise<T | undefined>;
}

/** One waiting worker. */
interface Waiter {
  /** Set while it waits. */
  wake: (() => void) | undefined;
  /** Set while a wave waits for what it finds. */
  report: ((found: boolean) => void) | undefined;
  /** A hint came while it tried by itself: it may have looked too early. */
  tryAgain: boolean;
}

export class WorkGate {
  readonly #options: WorkGateOptions;
  /** In the order in which they came. */
  readonly #waiters = new Set<Waiter>();
  #subscription: { unsubscribe(): void } | undefined;
  #probe: NodeJS.Timeout | undefined;
  #isWaving = false;
  #hinted = false;

  constructor(options: WorkGateOptions) {
    this.#options = options;
  }

  /** The first result there is, undefined when the time is over. */
  async take<T>({ waitMs, signal, attempt }: TakeWork<T>): Promise<T | undefined> {
    const deadline = performance.now() + waitMs;
    const waiter: Waiter = { wake: undefined, report: undefined, tryAgain: false };
    this.#enter(waiter); // before the first attempt: what is queued after it is not missed
    try {
      for (;;) {
        const result = await attempt(); // G1
        waiter.report?.(result !== undefined);
        waiter.report = undefined;
        const leftMs = deadline - performance.now();
        if (result !== undefined || leftMs <= 0 || signal.aborted) return result;
        if (waiter.tryAgain) {
          waiter.tryAgain = false;
          continue;
        }
        if (!(await woken(waiter, leftMs, signal))) return undefined;
      }
    } finally {
      this.#leave(waiter);
    }
  }

  #enter(waiter: Waiter): void {
    this.#waiters.add(waiter);
    this.#subscription ??= this.#options.bus.subscribe(this.#options.topic, () => this.#onHint());
    this.#probe ??= this.#scheduleProbe();
  }

  #leave(waiter: Waiter): void {
    this.#waiters.delete(waiter);
    waiter.report?.(false); // G4
    if (this.#waiters.size > 0) return;
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
    clearTimeout(this.#probe);
    this.#probe = undefined;
  }

  /** G3. Jitter, so that processes do not ask in step. */
  #scheduleProbe(): NodeJS.Timeout {
    const probeMs = (this.#options.probeMs ?? slowPollMs) * (0.75 + Math.random() / 2);
    const timer = setTimeout(async () => {
      // A database that is away is asked again; who waits hears of it by its own attempts.
      const isDue = await this.#options.hasDueWork().catch(() => false);
      if (this.#probe !== timer) return; // nobody waits any more, or others do
      this.#probe = this.#scheduleProbe();
      if (isDue) this.#onHint();
    }, probeMs);
    return timer;
  }

  #onHint(): void {
    for (const waiter of this.#waiters) {
      if (waiter.wake === undefined && waiter.report === undefined) waiter.tryAgain = true;
    }
    this.#hinted = true; // G2
    if (this.#isWaving) return;
    this.#isWaving = true;
    void this.#wave().finally(() => {
      this.#isWaving = false;
    });
  }

  async #wave(): Promise<void> {
    while (this.#hinted) {
      this.#hinted = false;
      const tried = new Set<Waiter>();
      let hasFound = false;
      for (let size = 1; ; ) {
        const batch = this.#next(size, tried);
        if (batch.length === 0) break;
        const found = await Promise.all(batch.map(tryOne));
        if (found.includes(true)) [hasFound, size] = [true, 1];
        else if (hasFound) break;
        else size *= 2;
      }
    }
  }

  /** Of those who wait and have not tried in this wave. */
  #next(size: number, tried: Set<Waiter>): Waiter[] {
    const batch: Waiter[] = [];
    for (const waiter of this.#waiters) {
      if (batch.length === size) break;
      if (waiter.wake === undefined || tried.has(waiter)) continue;
      tried.add(waiter);
      batch.push(waiter);
    }
    return batch;
  }
}

function tryOne(waiter: Waiter): Promise<boolean> {
  return new Promise((resolve) => {
    waiter.report = resolve;
    waiter.wake?.();
  });
}

/** Whether it was, before the time is over or the caller gone. */
async function woken(waiter: Waiter, limitMs: number, signal: AbortSignal): Promise<boolean> {
  let end = () => {};
  try {
    return await new Promise<boolean>((resolve) => {
      waiter.wake = () => {
        waiter.wake = undefined;
        resolve(true);
      };
      const timer = setTimeout(() => resolve(false), limitMs);
      const abort = () => resolve(false);
      signal.addEventListener("abort", abort, { once: true });
      end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", abort);
      };
    });
  } finally {
    waiter.wake = undefined;
    end();
  }
}

/** The gates of this process, by worker group; a group has one from its first waiting worker on. */
export class WorkGates {
  readonly #make: (workerGroupId: string) => WorkGate;
  readonly #gates = new Map<string, WorkGate>();

  constructor(make: (workerGroupId: string) => WorkGate) {
    this.#make = make;
  }

  of(workerGroupId: string): WorkGate {
    const gate = this.#gates.get(workerGroupId) ?? this.#make(workerGroupId);
    this.#gates.set(workerGroupId, gate);
    return gate;
  }
}
