/**
 * The dispatcher: what time does, in loops of bounded pages. It holds no state: any number of processes may run it, and
 * none running delays expiry and the repair of lost hints, nothing else.
 */
import { createMemoryFireIndex, type FireIndex } from "@helmr/coordination";
import {
  createDispatcherMetrics,
  type DispatcherMetrics,
  noTracing,
  type Tracing,
  unreadRegistry,
} from "@helmr/telemetry";
import {
  type DispatcherContext,
  type DispatcherIntervals,
  defaultIntervals,
  defaultLiveCopySettings,
  type LiveCopySettings,
} from "./context.ts";
import { continueSessionsLoop } from "./continue-sessions.ts";
import { expireCopiesLoop } from "./expire-copies.ts";
import { expireLeasesLoop } from "./expire-leases.ts";
import { expireQueuedLoop } from "./expire-queued.ts";
import { expireSessionsLoop } from "./expire-sessions.ts";
import { expireWaitsLoop } from "./expire-waits.ts";
import { LoopRunner } from "./loop.ts";
import { noteUnresumableLoop } from "./note-unresumable.ts";
import { noteWaitingLoop } from "./note-waiting.ts";
import { purgeArchivedLoop } from "./purge-archived.ts";
import { purgeDeletedLoop } from "./purge-deleted.ts";
import { reconcileLoop } from "./reconcile.ts";
import { removeArtifactsLoop } from "./remove-artifacts.ts";
import { removeEventsLoop } from "./remove-events.ts";
import { closeScheduledLoop, removeSessionsLoop } from "./remove-sessions.ts";
import { removeStreamsLoop } from "./remove-streams.ts";
import { repairSchedulesLoop } from "./repair-schedules.ts";
import { ScheduleClock } from "./schedule-clock.ts";
import { defaultScheduleSettings, type ScheduleSettings } from "./schedule-settings.ts";
import { stopIdleLoop } from "./stop-idle.ts";
import { sweepIdentityLoop } from "./sweep-identity.ts";
import { sweepKeysLoop } from "./sweep-keys.ts";
import { sweepReservationsLoop } from "./sweep-reservations.ts";
import { sweepTokensLoop } from "./sweep-tokens.ts";
import { triggerSchedulesLoop } from "./trigger-schedules.ts";

export type { DispatcherIntervals } from "./context.ts";

export interface DispatcherOptions extends Omit<DispatcherContext, "schedules" | "metrics" | "tracing"> {
  /** Default: nobody reads them. */
  readonly metrics?: DispatcherMetrics;
  /** Default: none. */
  readonly tracing?: Tracing;
  /** Default: of this process alone. */
  readonly fireIndex?: FireIndex;
  readonly schedules?: Partial<ScheduleSettings>;
  /** A test's clock for schedules; default the database's. */
  readonly scheduleClock?: () => Date;
  readonly intervals?: Partial<DispatcherIntervals>;
  readonly liveCopies?: Partial<LiveCopySettings>;
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
    metrics: options.metrics ?? createDispatcherMetrics(unreadRegistry()),
    tracing: options.tracing ?? noTracing,
    schedules: {
      index: options.fireIndex ?? createMemoryFireIndex(),
      settings: { ...defaultScheduleSettings, ...options.schedules },
      clock: new ScheduleClock(options.scheduleClock),
    },
  };
  const intervals = { ...defaultIntervals, ...options.intervals };
  const copies = { ...defaultLiveCopySettings, ...options.liveCopies };
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
    noteWaitingLoop(context, intervals.noteWaitingMs),
    repairSchedulesLoop(context),
    triggerSchedulesLoop(context),
    purgeArchivedLoop(context, intervals.purgeArchivedMs),
    sweepReservationsLoop(context, {
      intervalMs: intervals.sweepReservationsMs,
      keepMs: intervals.reservationKeepMs,
    }),
    expireCopiesLoop(context, { intervalMs: intervals.expireCopiesMs, lostAfterMs: copies.lostAfterMs }),
    stopIdleLoop(context, { intervalMs: intervals.stopIdleMs, idleStopMs: copies.idleStopMs }),
    removeStreamsLoop(context, { intervalMs: intervals.removeStreamsMs, keepMs: intervals.streamKeepMs }),
    removeEventsLoop(context, { intervalMs: intervals.removeEventsMs, keepMs: intervals.eventKeepMs }),
    closeScheduledLoop(context, {
      intervalMs: intervals.closeScheduledMs,
      idleMs: intervals.scheduledIdleMs,
    }),
    removeSessionsLoop(context, { intervalMs: intervals.removeSessionsMs, keepMs: intervals.sessionKeepMs }),
  ].map((loop) => new LoopRunner(loop, logger, context.metrics.loops));
  return {
    start: () => {
      for (const runner of runners) runner.start();
    },
    stop: async () => {
      await Promise.all(runners.map((runner) => runner.stop()));
    },
  };
}
