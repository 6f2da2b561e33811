/**
 * The dispatcher: what time does, in loops of bounded pages. It holds no state: any number of processes may run it, and
 * none running delays expiry and the repair of lost hints, nothing else.
 */
import type { Logger } from "pino";
import { type DispatcherContext, type DispatcherIntervals, defaultIntervals } from "./context.ts";
import { continueSessionsLoop } from "./continue-sessions.ts";
import { expireLeasesLoop } from "./expire-leases.ts";
import { expireQueuedLoop } from "./expire-queued.ts";
import { expireSessionsLoop } from "./expire-sessions.ts";
import { expireWaitsLoop } from "./expire-waits.ts";
import { LoopRunner } from "./loop.ts";
import { noteUnresumableLoop } from "./note-unresumable.ts";
import { purgeDeletedLoop } from "./purge-deleted.ts";
import { reconcileLoop } from "./reconcile.ts";
import { removeArtifactsLoop } from "./remove-artifacts.ts";
import { sweepIdentityLoop } from "./sweep-identity.ts";
import { sweepKeysLoop } from "./sweep-keys.ts";
import { sweepTokensLoop } from "./sweep-tokens.ts";

export type { DispatcherIntervals } from "./context.ts";

export interface DispatcherOptions extends Omit<DispatcherContext, "logger"> {
  readonly logger: Logger;
  readonly intervals?: Partial<DispatcherIntervals>;
}

export interface Dispatcher {
  start(): void;
  /** Waits for the pages under way. */
  stop(): Promise<void>;
}

export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const logger = options.logger.child({ part: "dispatcher" });
  const context: DispatcherContext = {
    db: options.db,
    bus: options.bus,
    artifacts: options.artifacts,
    logger,
  };
  const intervals = { ...defaultIntervals, ...options.intervals };
  const runners = [
    reconcileLoop(context, intervals.reconcileMs),
    expireQueuedLoop(context, intervals.expireQueuedMs),
    expireLeasesLoop(context, intervals.expireLeasesMs),
    expireSessionsLoop(context, intervals.expireSessionsMs),
    expireWaitsLoop(context, intervals.expireWaitsMs),
    continueSessionsLoop(context, intervals.continueSessionsMs),
    sweepKeysLoop(context, intervals.sweepKeysMs),
    sweepIdentityLoop(context, intervals.sweepIdentityMs),
    sweepTokensLoop(context, intervals.sweepTokensMs),
    purgeDeletedLoop(context, intervals.purgeDeletedMs),
    removeArtifactsLoop(context, intervals.removeArtifactsMs, intervals.artifactGraceMs),
    noteUnresumableLoop(context, intervals.noteUnresumableMs),
  ].map((loop) => new LoopRunner(loop, logger));
  return {
    start: () => {
      for (const runner of runners) runner.start();
    },
    stop: async () => {
      await Promise.all(runners.map((runner) => runner.stop()));
    },
  };
}
