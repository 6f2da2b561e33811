/**
 * Parking one run: its guest is saved while it waits, and gone when that is recorded.
 *
 * | state   | enters by                               | leaves by                                                   |
 * |---------|-----------------------------------------|-------------------------------------------------------------|
 * | off     | construction, the wait is over          | a wait is pending -> hot                                    |
 * | hot     | a wait is pending, or the last operator | the window is over -> saving; the wait is over -> off       |
 * |         | who worked in the guest is done         |                                                             |
 * | saving  | the window is over                      | recorded -> parked; resolved meanwhile or failed -> hot/off |
 * | parked  | the control plane has recorded it       | never: the guest may go                                     |
 *
 *  I1  The order of saving: calls suspended, everything the task said recorded, link held, guest stopped and saved,
 *      workspace captured and all of it stored, and only then the control plane asked. Until it says `parked`, whatever
 *      fails lets the guest go on as if nothing had happened.
 *  I2  A checkpoint that was not recorded is removed from the store: here, or by the control plane when only it can tell.
 *  I3  A run whose saving failed tries again with a growing pause, `maxTries` times for one wait; then it stays hot.
 *  I4  A run whose end is known is not parked.
 *  I5  Nor is one while somebody works in its guest: when they come during a save, it is given up. Who asked for the guest
 *      and does nothing in it does not keep it: the control plane ends its live copy with the park, or refuses the park.
 *  I6  The workspace's files are a version recorded before the run is parked, of the instant at which the guest was saved;
 *      the archive holds what that version leaves out.
 */
import type { VersionRef } from "@helmr/api";
import type { TreeSelection } from "@helmr/artifacts/archive";
import type { Logger } from "pino";
import type { AppendQueue } from "./append-queue.ts";
import type { Checkpoints, StoredCheckpoint } from "./checkpoints.ts";
import { type ControlPlaneClient, LeaseLostError } from "./control-plane-client.ts";
import type { ReachPoint } from "./debug-points.ts";
import { messageOf } from "./failure.ts";
import type { PendingWait, RunCalls } from "./run-calls.ts";
import type { RunGuest } from "./run-guest.ts";

export interface SavedFiles {
  /** Undefined: there are no files. */
  readonly version: VersionRef | undefined;
  /** What is in the folder and not in the version: of the paths that were excluded, and FIFOs. */
  readonly leftOut: TreeSelection;
}

export interface ParkingOptions {
  readonly leaseId: string;
  readonly fencing: number;
  readonly client: ControlPlaneClient;
  readonly checkpoints: Checkpoints;
  readonly calls: RunCalls;
  readonly queue: AppendQueue;
  /** How long a wait stays hot. */
  readonly afterMs: number;
  /** Whether the attempt's end is known: then there is nothing to go on with. */
  readonly isDecided: () => boolean;
  readonly reach: ReachPoint;
  /** Somebody works in the guest. */
  readonly isBusy: () => boolean;
  /** Save the workspace of the stopped guest. */
  readonly saveFiles: (signal: AbortSignal) => Promise<SavedFiles>;
  /** The run is to be cancelled, or its time is over: it is not parked any more. */
  readonly isStopping: () => boolean;
  readonly onParked: () => void;
  readonly onFailure: (error: unknown) => void;
  /** The guest was not saved, for no reason of the run's. */
  readonly onSaveFailed: () => void;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

const maxTries = 3;
const firstPauseMs = 5_000;
/** A timer that is over that soon after the window is waited for: a save and a restore take longer. */
const worthwhileMs = 2_000;

/** Why a save is given up; no failure. */
class SaveGivenUp extends Error {
  override readonly name = "SaveGivenUp";
}

export class Parking {
  readonly #options: ParkingOptions;
  readonly #guest: () => RunGuest | undefined;
  #timer: NodeJS.Timeout | undefined;
  #saving = false;
  /** Aborted when the wait is over, or an operator comes, while its guest is saved. */
  #giveUp = new AbortController();
  #tries = 0;
  #afterMs: number;

  constructor(options: ParkingOptions, guest: () => RunGuest | undefined) {
    this.#options = options;
    this.#afterMs = options.afterMs;
    this.#guest = guest;
  }

  /** The run's pending wait changed. */
  onWait(wait: PendingWait | undefined): void {
    this.#interrupt("the wait is over");
    if (wait !== undefined && !this.#options.isBusy()) this.#schedule(wait, this.#afterMs);
  }

  /** I5: somebody asks for the guest, or a command in it began or ended. */
  onActivity(): void {
    this.#interrupt("somebody works in the guest");
    const wait = this.#options.calls.pendingWait;
    if (wait !== undefined && !this.#options.isBusy()) this.#schedule(wait, this.#afterMs);
  }

  /** The worker is drained: this wait, and every other of the run, is parked at once. */
  hurry(): void {
    this.#afterMs = 0;
    const wait = this.#options.calls.pendingWait;
    if (wait === undefined || this.#saving || this.#options.isBusy()) return;
    clearTimeout(this.#timer);
    this.#schedule(wait, this.#afterMs);
  }

  /** Its guest is being saved. */
  get isSaving(): boolean {
    return this.#saving;
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #interrupt(reason: string): void {
    clearTimeout(this.#timer);
    this.#tries = 0;
    this.#giveUp.abort(new SaveGivenUp(reason));
    this.#giveUp = new AbortController();
  }

  #schedule(wait: PendingWait, delayMs: number): void {
    const soon = Date.now() + delayMs + worthwhileMs;
    if (wait.dueAtMs !== undefined && wait.dueAtMs <= soon) return;
    this.#timer = setTimeout(() => void this.#park(wait), delayMs);
    this.#timer.unref();
  }

  async #park(wait: PendingWait): Promise<void> {
    const guest = this.#guest();
    const { calls, onParked, isBusy, signal, logger } = this.#options;
    if (guest === undefined || this.#saving || signal.aborted || calls.pendingWait !== wait) return;
    if (isBusy()) return; // I5: scheduled again by `onActivity`
    this.#saving = true;
    this.#tries += 1;
    const { signal: giveUp } = this.#giveUp;
    try {
      if (await this.#save(guest, wait, giveUp)) {
        onParked();
        return;
      }
    } catch (error) {
      if (!giveUp.aborted) {
        logger.warn({ reason: messageOf(error), tries: this.#tries }, "the run could not be parked");
        this.#say(error);
      }
    } finally {
      this.#saving = false;
    }
    // After an operator has come, `onActivity` schedules; this save was in its way.
    if (giveUp.aborted) {
      if (calls.pendingWait === wait && !isBusy()) this.#schedule(wait, this.#afterMs);
    } else if (calls.pendingWait === wait && this.#tries < maxTries) {
      this.#schedule(wait, firstPauseMs * 2 ** this.#tries * (0.5 + Math.random())); // I3
    }
  }

  /** Whether the run is parked now (I1). */
  async #save(guest: RunGuest, wait: PendingWait, giveUp: AbortSignal): Promise<boolean> {
    const { calls, queue, client, checkpoints, leaseId, fencing, reach, signal } = this.#options;
    const { session } = guest;
    let stored: StoredCheckpoint | undefined;
    let isParked = false;
    let heldAt = 0;
    let saveMs = 0;
    let filesMs = 0;
    /** Ends with this save, so that no reading of the files goes on when the guest does. */
    const ended = new AbortController();
    let files: Promise<SavedFiles> | undefined;
    try {
      await calls.suspend();
      await reach("park.suspended");
      await queue.flush();
      await reach("park.flushed");
      await session.hold();
      heldAt = performance.now();
      // I4: everything the guest sent is handled now. A task that has ended beside its wait was saved for nothing: its
      // end, which counts as delivered, would never be sent again.
      if (this.#options.isDecided()) return false;
      await queue.flush();
      await reach("park.held");
      const saved = await checkpoints.save(
        {
          workspace: guest.disk.mountPoint,
          selection: async () => {
            const saved = await files;
            return saved?.version === undefined ? undefined : saved.leftOut;
          },
          leaseId,
          onSealed: () => reach("park.sealed"),
          signal: AbortSignal.any([signal, giveUp]),
        },
        async (directory) => {
          const from = performance.now();
          const record = await session.guest.checkpoint({ directory });
          saveMs = Math.round(performance.now() - from);
          await reach("park.saved");
          const filesFrom = performance.now();
          files = this.#options.saveFiles(AbortSignal.any([giveUp, ended.signal]));
          // The archive waits for it, and fails when it does.
          files.then(
            () => {
              filesMs = Math.round(performance.now() - filesFrom);
            },
            () => undefined,
          );
          return { record, link: session.snapshot(), calls: [...calls.held] };
        },
      );
      stored = saved;
      const version = (await files)?.version;
      await reach("park.stored");
      if (giveUp.aborted) return false;
      if (this.#options.isStopping() || calls.pendingWait !== wait) return false;
      const { status } = await client.park(
        leaseId,
        {
          fencing,
          wait_id: wait.waitId,
          manifest: saved.manifest,
          artifact_digest: saved.artifactDigest,
          size_bytes: saved.sizeBytes,
          ...(version === undefined ? {} : { workspace_version_id: version.version_id }),
          timings_ms: {
            save: saveMs,
            files: filesMs,
            store: saved.storeMs,
            stopped: Math.round(performance.now() - heldAt),
          },
        },
        signal,
      );
      isParked = status === "parked";
      if (isParked) await checkpoints.recorded(saved.artifactDigest);
      await reach("park.recorded");
      return isParked;
    } catch (error) {
      // The answer of a park that was recorded may be lost: the repeated request finds no lease, and the run is parked.
      // Whoever cannot tell keeps the archive, and it is handed over to the control plane when the lease is over.
      stored = undefined;
      if (error instanceof LeaseLostError) this.#options.onFailure(error);
      throw error;
    } finally {
      if (!isParked) {
        ended.abort(new SaveGivenUp("the guest goes on"));
        await files?.catch(() => undefined);
        if (stored !== undefined) await checkpoints.discard(stored.artifactDigest); // I2
        await this.#goOn(guest);
      }
    }
  }

  async #goOn({ session }: RunGuest): Promise<void> {
    await session.guest.resume().catch((error: unknown) => {
      // It may have ended meanwhile, which `ended` tells.
      this.#options.logger.warn(
        { reason: messageOf(error) },
        "a guest that was not parked could not be let go on",
      );
    });
    session.release();
    this.#options.calls.start();
  }

  #say(error: unknown): void {
    const attributes = { message: messageOf(error).slice(0, 500), tries: this.#tries };
    this.#options.queue.event("worker.park_failed", "warn", attributes, Date.now());
    this.#options.onSaveFailed();
  }
}
