/** What the loops share. */
import type { ArtifactStore } from "@helmr/artifacts";
import type { LiveBus } from "@helmr/coordination";
import type { Database } from "@helmr/store";
import type { Logger } from "pino";

export interface DispatcherContext {
  readonly db: Database;
  readonly bus: LiveBus;
  /** Sources of deleted deployments are removed from it. */
  readonly artifacts: ArtifactStore;
  readonly logger: Logger;
}

/** Pauses of the loops when there is nothing to do, in milliseconds. */
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
}

/** A lease ends 30 s after its worker's last sign: a second more or less to notice it does not matter. */
export const defaultIntervals: DispatcherIntervals = {
  reconcileMs: 2_000,
  expireQueuedMs: 1_000,
  expireLeasesMs: 1_000,
  expireSessionsMs: 1_000,
  // How late a parked run hears that its timer is over.
  expireWaitsMs: 250,
  continueSessionsMs: 1_000,
  sweepKeysMs: 60_000,
  sweepIdentityMs: 60_000,
  purgeDeletedMs: 1_000,
};

/** Rows of one page: a few milliseconds of locks. */
export const pageSize = 100;

/** Until worker groups can be chosen there is one. */
export const workTopic = "work:default";
