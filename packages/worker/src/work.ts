/** What a registered worker does: its loops, executors, idle guests, and the room they share. */
import { setTimeout as sleep } from "node:timers/promises";
import type { BuildAssignment, MaterializationAssignment, RunAssignment } from "@helmr/api";
import type { IsolationCapabilities } from "@helmr/isolation";
import { secondsSince } from "@helmr/telemetry";
import type { Checkpoints } from "./checkpoints.ts";
import type { ControlPlaneClient } from "./control-plane-client.ts";
import { DiskSpace } from "./disk-space.ts";
import type { DrainableWork } from "./drain.ts";
import { messageOf } from "./failure.ts";
import type { GuestPool } from "./guest-pool.ts";
import type { Heartbeats } from "./heartbeats.ts";
import { LeaseLoop } from "./lease-loop.ts";
import { LiveWorkspaces } from "./live-workspaces.ts";
import type { ResolvedWorkerOptions } from "./options.ts";
import { Room } from "./room.ts";
import { copyKind, guestKind } from "./run-guest.ts";
import { WaitPoller } from "./wait-poller.ts";
import type { WorkerParts } from "./worker-parts.ts";

export interface WorkOptions extends ResolvedWorkerOptions {
  readonly client: ControlPlaneClient;
  readonly parts: WorkerParts;
  readonly heartbeats: Heartbeats;
  readonly capabilities: IsolationCapabilities;
  readonly checkpoints: Checkpoints | undefined;
  /** Everything ends now. */
  readonly signal: AbortSignal;
}

const pollMs = 20_000;
const nothing = { max_runs: 0, max_builds: 0, max_materializations: 0, wait_ms: pollMs };
/** A lease that did not fit is not asked for again at once. */
const noRoomPauseMs = 1_000;

export class Work implements DrainableWork {
  readonly room: Room;
  readonly disk: DiskSpace;
  readonly pool: GuestPool;
  readonly runs: ReturnType<WorkerParts["executors"]>["runExecutor"];
  readonly builds: ReturnType<WorkerParts["executors"]>["buildExecutor"];
  readonly copies: ReturnType<WorkerParts["executors"]>["materializationExecutor"];
  readonly #options: WorkOptions;
  readonly #waits: WaitPoller;
  readonly #live: LiveWorkspaces;
  readonly #runLoop: LeaseLoop<RunAssignment>;
  readonly #buildLoop: LeaseLoop<BuildAssignment>;
  readonly #copyLoop: LeaseLoop<MaterializationAssignment>;

  constructor(options: WorkOptions) {
    const { client, capacity, parts, dataDir, diskReserveMib: reserveMib, logger, signal } = options;
    this.#options = options;
    this.room = new Room(capacity);
    this.#waits = new WaitPoller(client, logger);
    this.#live = new LiveWorkspaces(client, logger);
    const made = parts.executors({ ...options, waits: this.#waits, live: this.#live, room: this.room });
    this.runs = made.runExecutor;
    this.builds = made.buildExecutor;
    this.copies = made.materializationExecutor;
    this.pool = made.pool;
    this.disk = new DiskSpace({
      dir: dataDir,
      reserveMib,
      evict: (isEnough) => parts.evict(isEnough),
      onChange: (isFull) => {
        for (const loop of this.#loops()) loop.setOpen(!isFull);
      },
      logger,
    });
    this.#runLoop = new LeaseLoop({
      slots: capacity.runs,
      poll: async (max, aborted) =>
        (await client.lease({ ...nothing, max_runs: Math.min(max, 100) }, aborted)).runs,
      execute: (run) => this.#run(run),
      logger,
    });
    this.#buildLoop = new LeaseLoop({
      slots: capacity.builds,
      poll: async (max, aborted) =>
        (await client.lease({ ...nothing, max_builds: Math.min(max, 10) }, aborted)).builds,
      execute: async (build) => {
        const from = performance.now();
        await this.builds.execute(build, signal);
        options.metrics.build.observe(secondsSince(from));
      },
      logger,
    });
    this.#copyLoop = new LeaseLoop({
      slots: capacity.materializations,
      poll: async (max, aborted) =>
        (await client.lease({ ...nothing, max_materializations: Math.min(max, 100) }, aborted))
          .materializations,
      execute: (copy) => this.#copy(copy),
      logger,
    });
    this.#measure();
  }

  #measure(): void {
    const { metrics, capacity } = this.#options;
    for (const [kind, slots, loop] of [
      ["run", capacity.runs, this.#runLoop],
      ["build", capacity.builds, this.#buildLoop],
      ["materialization", capacity.materializations, this.#copyLoop],
    ] as const) {
      metrics.slots.set({ kind }, slots);
      metrics.slotsInUse.watch({ kind }, () => loop.activeCount);
    }
    metrics.pool.size.watch({}, () => this.pool.size);
  }

  async start(): Promise<void> {
    await this.disk.start();
    for (const loop of this.#loops()) loop.start();
  }

  async stopTaking(): Promise<void> {
    await Promise.all(this.#loops().map((loop) => loop.drain()));
  }

  /** Resolves when no live copy is left; nothing new is taken. */
  stopTakingCopies(): Promise<void> {
    return this.#copyLoop.drain();
  }

  emptyPool(): Promise<void> {
    return this.pool.close();
  }

  /** After a drain that is not wanted any more: as at the start. */
  takeAgain(): void {
    this.runs.undrain();
    this.copies.undrain();
    this.pool.open();
    for (const loop of this.#loops()) loop.start();
  }

  /** After everything has ended. */
  async close(): Promise<void> {
    await this.disk.stop();
    await this.#live.stop();
    await this.#waits.stop();
  }

  #loops(): Pick<LeaseLoop<unknown>, "start" | "drain" | "setOpen">[] {
    return [this.#runLoop, this.#buildLoop, this.#copyLoop];
  }

  async #run(run: RunAssignment): Promise<void> {
    const { checkpoints, client, signal } = this.#options;
    const work = async () => {
      this.pool.fit(guestKind(run).key);
      await this.runs.execute(run, signal);
      await checkpoints?.handOver(client, signal);
    };
    await this.room.hold(run.sandbox.definition.resources, work, () => this.#refuse(run));
  }

  async #copy(copy: MaterializationAssignment): Promise<void> {
    const work = () => {
      this.pool.fit(copyKind(copy).key);
      return this.copies.execute(copy, this.#options.signal);
    };
    await this.room.hold(copy.sandbox.definition.resources, work, () => this.#refuse(copy));
  }

  /** The control plane counts as this worker does, so this is a race or a mistake: another worker may have the room. */
  async #refuse(lease: RunAssignment | MaterializationAssignment): Promise<void> {
    const { client, signal, logger } = this.#options;
    const { lease_id: leaseId, fencing } = lease;
    const { resources } = lease.sandbox.definition;
    logger.warn({ leaseId, resources, free: this.room.free }, "given back: there is no room for it here");
    try {
      await client.handBack(leaseId, { fencing, reason: "no_room" }, signal);
    } catch (error) {
      logger.warn(
        { leaseId, reason: messageOf(error) },
        "a lease could not be given back; it ends by itself",
      );
    }
    await sleep(noRoomPauseMs, undefined, { signal }).catch(() => undefined);
  }
}
