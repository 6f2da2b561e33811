/**
 * Parking one run: its guest is saved while it waits, and gone when that is recorded.
 *
 * | state   | enters by                               | leaves by                                                   |
 * |---------|-----------------------------------------|-------------------------------------------------------------|
 * | off     | construction, the wait is over          | a wait is pending -> hot                                    |
 * | hot     | a wait is pending                       | the window is over -> saving; the wait is over -> off       |
 * | saving  | the window is over                      | recorded -> parked; resolved meanwhile or failed -> hot/off |
 * | parked  | the control plane has recorded it       | never: the guest may go                                     |
 *
 *  I1  The order of saving: calls suspended, everything the task said recorded, link held, guest stopped and saved,
 *      workspace captured and all of it stored, and only then the control plane asked. Until it says `parked`, whatever
 *      fails lets the guest go on as if nothing had happened.
 *  I2  A checkpoint that was not recorded is removed from the store: here, or by the control plane when only it can tell.
 *  I3  A run whose saving failed tries again with a growing pause, `maxTries` times for one wait; then it stays hot.
 *  I4  A run whose end is known is not parked.
 */
import type { Logger } from "pino";
import type { AppendQueue } from "./append-queue.ts";
import type { Checkpoints, StoredCheckpoint } from "./checkpoints.ts";
import { type ControlPlaneClient, LeaseLostError } from "./control-plane-client.ts";
import type { ReachPoint } from "./debug-points.ts";
import { messageOf } from "./failure.ts";
import type { PendingWait, RunCalls } from "./run-calls.ts";
import type { RunGuest } from "./run-guest.ts";

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
  /** The run is to be cancelled, or its time is over: it is not parked any more. */
  readonly isStopping: () => boolean;
  readonly onParked: () => void;
  readonly onFailure: (error: unknown) => void;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

const maxTries = 3;
const firstPauseMs = 5_000;
/** A timer that is over that soon after the window is waited for: a save and a restore take longer. */
const worthwhileMs = 2_000;

/** Why a save is given up; no failure. */
class WaitOver extends Error {
  override readonly name = "WaitOver";
  override readonly message = "the wait is over";
}

export class Parking {
  readonly #options: ParkingOptions;
  readonly #guest: () => RunGuest | undefined;
  #timer: NodeJS.Timeout | undefined;
  #saving = false;
  /** Aborted when the wait is over while its guest is saved. */
  #waitOver = new AbortController();
  #tries = 0;

  constructor(options: ParkingOptions, guest: () => RunGuest | undefined) {
    this.#options = options;
    this.#guest = guest;
  }

  /** The run's pending wait changed. */
  onWait(wait: PendingWait | undefined): void {
    clearTimeout(this.#timer);
    this.#tries = 0;
    this.#waitOver.abort(new WaitOver());
    this.#waitOver = new AbortController();
    if (wait !== undefined) this.#schedule(wait, this.#options.afterMs);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #schedule(wait: PendingWait, delayMs: number): void {
    const soon = Date.now() + delayMs + worthwhileMs;
    if (wait.dueAtMs !== undefined && wait.dueAtMs <= soon) return;
    this.#timer = setTimeout(() => void this.#park(wait), delayMs);
    this.#timer.unref();
  }

  async #park(wait: PendingWait): Promise<void> {
    const guest = this.#guest();
    const { calls, onParked, signal, logger } = this.#options;
    if (guest === undefined || this.#saving || signal.aborted || calls.pendingWait !== wait) return;
    this.#saving = true;
    this.#tries += 1;
    try {
      if (await this.#save(guest, wait)) {
        onParked();
        return;
      }
    } catch (error) {
      if (!(error instanceof WaitOver)) {
        logger.warn({ reason: messageOf(error), tries: this.#tries }, "the run could not be parked");
        this.#say(error);
      }
    } finally {
      this.#saving = false;
    }
    if (calls.pendingWait === wait && this.#tries < maxTries) {
      this.#schedule(wait, firstPauseMs * 2 ** this.#tries * (0.5 + Math.random())); // I3
    }
  }

  /** Whether the run is parked now (I1). */
  async #save(guest: RunGuest, wait: PendingWait): Promise<boolean> {
    const { calls, queue, client, checkpoints, leaseId, fencing, reach, signal } = this.#options;
    const { session } = guest;
    let stored: StoredCheckpoint | undefined;
    let isParked = false;
    let heldAt = 0;
    let saveMs = 0;
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
          leaseId,
          onSealed: () => reach("park.sealed"),
          signal: AbortSignal.any([signal, this.#waitOver.signal]),
        },
        async (directory) => {
          const from = performance.now();
          const record = await session.guest.checkpoint({ directory });
          saveMs = Math.round(performance.now() - from);
          await reach("park.saved");
          return { record, link: session.snapshot(), calls: [...calls.held] };
        },
      );
      stored = saved;
      await reach("park.stored");
      if (this.#options.isStopping() || calls.pendingWait !== wait) return false;
      const { status } = await client.park(
        leaseId,
        {
          fencing,
          wait_id: wait.waitId,
          manifest: saved.manifest,
          artifact_digest: saved.artifactDigest,
          size_bytes: saved.sizeBytes,
          timings_ms: {
            save: saveMs,
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
  }
}
