/** What the loops share. */
import type { ArtifactStore } from "@helmr/artifacts";
import type { FireIndex, LiveBus } from "@helmr/coordination";
import type { Database } from "@helmr/store";
import type { DispatcherMetrics, Tracing } from "@helmr/telemetry";
import type { Logger } from "pino";
import type { ScheduleClock } from "./schedule-clock.ts";
import type { ScheduleSettings } from "./schedule-settings.ts";

export interface DispatcherContext {
  readonly db: Database;
  readonly bus: LiveBus;
  /** What nothing refers to any more is removed from it. */
  readonly artifacts: ArtifactStore;
  readonly logger: Logger;
  readonly metrics: DispatcherMetrics;
  readonly tracing: Tracing;
  readonly schedules: {
    readonly index: FireIndex;
    readonly settings: ScheduleSettings;
    readonly clock: ScheduleClock;
  };
}

/** Pauses of the loops when there is nothing to do, and what waits by itself; in milliseconds. */
export interface DispatcherIntervals {
  readonly reconcileMs: number;
  readonly expireQueuedMs: number;
  readonly expireLeasesMs: number;
  readonly expireSessionsMs: number;
  readonly expireWaitsMs: number;
  readonly continueSessionsMs: number;
  readonly sweepKeysMs: number;
  readonly sweepIdentityMs: number;
  readonly purgeDeletedMs: number;
  readonly sweepTokensMs: number;
  readonly removeArtifactsMs: number;
  /** How long an artifact stays after the last that referred to it: somebody may be reading it just now. */
  readonly artifactGraceMs: number;
  readonly noteUnresumableMs: number;
  readonly noteWaitingMs: number;
  readonly purgeArchivedMs: number;
  readonly sweepReservationsMs: number;
  /** How long a reservation stays whose lease the database does not know: an upload or a download takes hours at most. */
  readonly reservationKeepMs: number;
  readonly expireCopiesMs: number;
  readonly stopIdleMs: number;
  readonly removeStreamsMs: number;
  /** How long the streams of commands and terminals stay after their end. */
  readonly streamKeepMs: number;
  readonly removeEventsMs: number;
  /** How long the events and logs of what has ended stay. */
  readonly eventKeepMs: number;
  readonly closeScheduledMs: number;
  /** How long a session that a schedule started stays open after its last run. */
  readonly scheduledIdleMs: number;
  readonly removeSessionsMs: number;
  /** How long a session stays after its end. */
  readonly sessionKeepMs: number;
}

/** What an installation sets about live copies of workspaces; equal in control plane and dispatcher. */
export interface LiveCopySettings {
  /** One that nothing has used for so long is saved and stopped. */
  readonly idleStopMs: number;
  /** One whose worker is silent for so long is lost. */
  readonly lostAfterMs: number;
}

export const defaultLiveCopySettings: LiveCopySettings = {
  idleStopMs: 10 * 60_000,
  lostAfterMs: 5 * 60_000,
};

/**
 * A lease ends 30 s after its worker's last sign: two seconds more to notice it do not matter. What is due is one index probe a
 * loop; all of them together are fewer than 20 statements a second while nothing is.
 */
export const defaultIntervals: DispatcherIntervals = {
  reconcileMs: 5_000,
  expireQueuedMs: 2_000,
  expireLeasesMs: 2_000,
  expireSessionsMs: 2_000,
  // How late a parked run hears that its timer is over.
  expireWaitsMs: 250,
  continueSessionsMs: 2_000,
  sweepKeysMs: 60_000,
  sweepIdentityMs: 60_000,
  purgeDeletedMs: 3_000,
  sweepTokensMs: 60_000,
  removeArtifactsMs: 5_000,
  artifactGraceMs: 10 * 60_000,
  noteUnresumableMs: 5_000,
  noteWaitingMs: 5_000,
  purgeArchivedMs: 5_000,
  sweepReservationsMs: 60_000,
  reservationKeepMs: 24 * 3_600_000,
  expireCopiesMs: 3_000,
  stopIdleMs: 3_000,
  removeStreamsMs: 60_000,
  streamKeepMs: 7 * 24 * 3_600_000,
  removeEventsMs: 60_000,
  eventKeepMs: 30 * 24 * 3_600_000,
  closeScheduledMs: 60_000,
  scheduledIdleMs: 7 * 24 * 3_600_000,
  removeSessionsMs: 60_000,
  sessionKeepMs: 90 * 24 * 3_600_000,
};

/** Rows of one page: a few milliseconds of locks. */
export const pageSize = 100;
