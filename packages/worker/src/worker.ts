/**
 * A worker: leases runs, builds and live copies of workspaces, and executes them in guests.
 *
 * | state    | enters by        | leaves by                                                       |
 * |----------|------------------|-----------------------------------------------------------------|
 * | new      | createWorker     | start -> working (recovers what a dead worker left, registers)  |
 * | working  | start            | drain, or the control plane's word -> draining; stop -> stopped |
 * | draining | drain            | drain.ts; done -> drained; stop -> stopped                      |
 * | stopped  | stop             | never: live copies saved if there is time, guests destroyed,    |
 * |          |                  | disks unmounted, registry closed                                |
 *
 *  I1  Nothing of a dead worker of the same folder is left when the first guest starts.
 *  I2  After `stop` nothing of this worker is left on the host but its data folder.
 */
import { workerProtocolVersion } from "@helmr/api";
import type { IsolationCapabilities } from "@helmr/isolation";
import { compatibilityOf } from "./checkpoints.ts";
import {
  ControlPlaneClient,
  type HeartbeatReport,
  type RegisterRequest,
  type Registration,
} from "./control-plane-client.ts";
import { Drain } from "./drain.ts";
import { Heartbeats } from "./heartbeats.ts";
import { Membership } from "./membership.ts";
import { type ResolvedWorkerOptions, resolveOptions, type WorkerOptions } from "./options.ts";
import { totalOf } from "./room.ts";
import { type DrainSummary, statusOf, type WorkerStatus } from "./status.ts";
import { Work } from "./work.ts";
import { readInstance, type WorkerInstance } from "./worker-instance.ts";
import { WorkerParts } from "./worker-parts.ts";

export interface Worker {
  /** Recover, register and begin to work; rejects when the host or the control plane refuses. */
  start(): Promise<void>;
  /**
   * Take no new work; resolves when everything taken is done, parked, or, after `timeoutMs`, given back. Called again, the
   * shorter time counts. The worker is to be stopped then.
   */
  drain(options?: { readonly timeoutMs?: number | undefined }): Promise<DrainSummary>;
  /** Resolves with why this worker can do nothing more: the control plane does not know it, nor its token; else never. */
  readonly failed: Promise<Error>;
  /** Rejects before the worker is ready. */
  status(): Promise<WorkerStatus>;
  /** End now: guests are killed, their leases are left to the control plane. Safe to call twice. */
  stop(): Promise<void>;
}

/** Version reported at registration. */
const workerVersion = "0.1.0";

export function createWorker(options: WorkerOptions): Worker {
  return new LeasingWorker(resolveOptions(options));
}

interface Running {
  readonly instance: WorkerInstance;
  readonly description: RegisterRequest;
  readonly parts: WorkerParts;
  readonly heartbeats: Heartbeats;
  readonly work: Work;
}

class LeasingWorker implements Worker {
  readonly #options: ResolvedWorkerOptions;
  readonly #client: ControlPlaneClient;
  readonly #stopping = new AbortController();
  readonly #membership: Membership;
  #running: Running | undefined;
  #starting: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #drain: Drain | undefined;
  /** The drain is this worker's own decision: it ends it. Else an operator's, who may undo it. */
  #isLeaving = false;
  #state: WorkerStatus["state"] = "starting";
  #since = new Date();

  constructor(options: ResolvedWorkerOptions) {
    this.#options = options;
    this.#client = new ControlPlaneClient(options.controlPlaneUrl, (kind, result) =>
      options.metrics.controlPlane.requests.inc({ kind, result }),
    );
    this.#membership = new Membership({
      client: this.#client,
      bootstrapToken: options.bootstrapToken,
      rotationMs: options.credentialRotationMs,
      signal: this.#stopping.signal,
      logger: options.logger,
    });
  }

  get failed(): Promise<Error> {
    return this.#membership.failed;
  }

  start(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  async drain({ timeoutMs }: { readonly timeoutMs?: number | undefined } = {}): Promise<DrainSummary> {
    const running = this.#running;
    if (running === undefined) throw new Error("the worker has not started yet: nothing is there to drain");
    this.#isLeaving = true;
    running.heartbeats.hurry();
    if (timeoutMs !== undefined) this.#drain?.limit(timeoutMs);
    const drain = this.#drain ?? this.#beginDrain(running, timeoutMs);
    return await drain.done;
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async status(): Promise<WorkerStatus> {
    if (this.#running === undefined) throw new Error("the worker has not started yet");
    const { instance, description, work } = this.#running;
    return await statusOf({
      options: this.#options,
      workerInstanceId: instance.id,
      description,
      work,
      state: this.#state,
      since: this.#since,
      isOperators: this.#drain !== undefined && !this.#isLeaving,
      drain: this.#drain?.progress,
      lastContactAt: this.#client.lastContactAt,
    });
  }

  async #start(): Promise<void> {
    const { isolation, dataDir, logger } = this.#options;
    const recovered = await isolation.recover(); // I1
    if (recovered.guestsRemoved > 0) logger.info(recovered, "removed guests of a dead worker");
    const instance = await readInstance(dataDir);
    const capabilities = await isolation.capabilities();
    const parts = new WorkerParts(this.#options, instance);
    try {
      await parts.start();
      const checkpoints = await parts.checkpoints(capabilities);
      const description = await this.#description(instance, capabilities, checkpoints !== undefined);
      const registration = await this.#membership.register(description);
      // The registration has ended all leases of a dead worker of this folder.
      await checkpoints?.handOver(this.#client, this.#stopping.signal);
      const heartbeats = this.#heartbeats(registration);
      const work = new Work({
        ...this.#options,
        client: this.#client,
        parts,
        heartbeats,
        capabilities,
        checkpoints,
        signal: this.#stopping.signal,
      });
      this.#running = { instance, description, parts, heartbeats, work };
      await work.start();
    } catch (error) {
      await parts.close();
      throw error;
    }
    this.#setState("working");
    this.#running.heartbeats.start();
    logger.info({ worker: instance.id, driver: capabilities.driver }, "worker is ready");
  }

  #heartbeats(registration: Registration): Heartbeats {
    return new Heartbeats({
      client: this.#client,
      intervalMs: registration.heartbeat_interval_ms,
      leaseDurationMs: registration.lease_duration_ms,
      onUnauthorized: () => this.#membership.onUnauthorized(),
      report: () => (this.#running === undefined ? {} : this.#report(this.#running.work)),
      onDraining: (draining) => this.#onDraining(draining),
      logger: this.#options.logger,
    });
  }

  async #description(
    instance: WorkerInstance,
    capabilities: IsolationCapabilities,
    canRestore: boolean,
  ): Promise<RegisterRequest> {
    const { capacity, name, labels, isolation } = this.#options;
    const { driver, driverVersion, architecture, limits, network } = capabilities;
    const compatibility = canRestore ? compatibilityOf(await isolation.checkpointHost()) : undefined;
    return {
      protocol: workerProtocolVersion,
      worker_instance_id: instance.id,
      name,
      version: workerVersion,
      capacity: {
        runs: capacity.runs,
        builds: capacity.builds,
        materializations: capacity.materializations,
        cpu: capacity.cpu,
        memory_mib: capacity.memoryMib,
        disk_mib: capacity.diskMib,
        slots: totalOf(capacity).slots,
      },
      ...(labels === undefined ? {} : { labels: { ...labels } }),
      capabilities: {
        driver,
        driver_version: driverVersion.slice(0, 128),
        architecture,
        limits: { ...limits },
        network,
        ...(compatibility === undefined ? {} : { checkpoint_compatibility: compatibility }),
      },
    };
  }

  /** The control plane's word, with every beat: an operator drains this worker, or does not any more. */
  #onDraining(isDraining: boolean): void {
    const running = this.#running;
    if (running === undefined || this.#stopping.signal.aborted || this.#isLeaving) return;
    if (isDraining && this.#drain === undefined) {
      this.#beginDrain(running);
    } else if (!isDraining && this.#drain !== undefined) {
      this.#drain.cancel();
      this.#drain = undefined;
      this.#setState("working");
      this.#options.logger.info("the operator's drain is over: work is taken again");
      running.work.takeAgain();
    }
  }

  #beginDrain({ work }: Running, timeoutMs?: number): Drain {
    const drain = new Drain(work, { timeoutMs, logger: this.#options.logger });
    this.#drain = drain;
    this.#setState("draining");
    void drain.done.then(() => {
      if (this.#drain === drain) this.#setState("drained");
    });
    return drain;
  }

  #setState(state: WorkerStatus["state"]): void {
    this.#state = state;
    this.#since = new Date();
  }

  #report(work: Work): HeartbeatReport {
    const { cpu, memory_mib, disk_mib, slots } = work.room.free;
    return {
      capacity_free: { cpu, memory_mib, disk_mib: work.disk.isFull ? 0 : disk_mib, slots },
      ...(this.#isLeaving ? { state: "draining" } : {}),
    };
  }

  async #stop(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    const running = this.#running;
    this.#setState("stopping");
    if (running !== undefined) await this.#saveCopies(running.work);
    this.#stopping.abort();
    if (running === undefined) return;
    await running.work.stopTaking();
    await running.work.close();
    await running.heartbeats.stop();
    await running.parts.close();
  }

  /** What is not saved in time is lost with its guest, and its workspace goes on from the version before. */
  async #saveCopies(work: Work): Promise<void> {
    work.copies.drain("the worker stops");
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#options.stopSaveMs);
    });
    await Promise.race([work.stopTakingCopies(), limit]);
    clearTimeout(timer);
  }
}
