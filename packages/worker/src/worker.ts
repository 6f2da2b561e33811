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
import type { BuildAssignment, MaterializationAssignment, RunAssignment } from "@helmr/api";
import { workerProtocolVersion } from "@helmr/api";
import type { IsolationCapabilities } from "@helmr/isolation";
import { secondsSince } from "@helmr/telemetry";
import { type Checkpoints, compatibilityOf } from "./checkpoints.ts";
import { ControlPlaneClient, type RegisterRequest, type Registration } from "./control-plane-client.ts";
import { Drain, type DrainableWork, type DrainSummary } from "./drain.ts";
import { messageOf } from "./failure.ts";
import { Heartbeats } from "./heartbeats.ts";
import { LeaseLoop } from "./lease-loop.ts";
import { LiveWorkspaces } from "./live-workspaces.ts";
import { type ResolvedWorkerOptions, resolveOptions, type WorkerOptions } from "./options.ts";
import { WaitPoller } from "./wait-poller.ts";
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
  /** End now: guests are killed, their leases are left to the control plane. Safe to call twice. */
  stop(): Promise<void>;
}

/** Version reported at registration. */
const workerVersion = "0.1.0";
const pollMs = 20_000;

export function createWorker(options: WorkerOptions): Worker {
  return new LeasingWorker(resolveOptions(options));
}

interface Running {
  readonly parts: WorkerParts;
  readonly heartbeats: Heartbeats;
  readonly waits: WaitPoller;
  readonly runs: LeaseLoop<RunAssignment>;
  readonly builds: LeaseLoop<BuildAssignment>;
  readonly live: LiveWorkspaces;
  readonly materializations: LeaseLoop<MaterializationAssignment>;
  readonly work: DrainableWork;
}

class LeasingWorker implements Worker {
  readonly #options: ResolvedWorkerOptions;
  readonly #client: ControlPlaneClient;
  readonly #stopping = new AbortController();
  #running: Running | undefined;
  #starting: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #registering: Promise<unknown> | undefined;
  #drain: Drain | undefined;

  constructor(options: ResolvedWorkerOptions) {
    this.#options = options;
    this.#client = new ControlPlaneClient(options.controlPlaneUrl, (kind, result) =>
      options.metrics.controlPlane.requests.inc({ kind, result }),
    );
  }

  start(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  drain({ timeoutMs }: { readonly timeoutMs?: number | undefined } = {}): Promise<DrainSummary> {
    if (this.#running === undefined) throw new Error("the worker has not started");
    if (this.#drain !== undefined && timeoutMs !== undefined) this.#drain.limit(timeoutMs);
    this.#drain ??= new Drain(this.#running.work, { timeoutMs, logger: this.#options.logger });
    return this.#drain.done;
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
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
      const describe = await this.#description(instance, capabilities, checkpoints !== undefined);
      const registration = await this.#register(describe);
      // The registration has ended all leases of a dead worker of this folder.
      await checkpoints?.handOver(this.#client, this.#stopping.signal);
      this.#running = this.#assemble(parts, registration, { describe, capabilities, checkpoints });
    } catch (error) {
      await parts.close();
      throw error;
    }
    this.#running.heartbeats.start();
    this.#running.runs.start();
    this.#running.builds.start();
    this.#running.materializations.start();
    logger.info({ worker: instance.id, driver: capabilities.driver }, "worker is ready");
  }

  #register(description: RegisterRequest): Promise<Registration> {
    return this.#client.register(this.#options.bootstrapToken, description, this.#stopping.signal);
  }

  async #description(
    instance: WorkerInstance,
    capabilities: IsolationCapabilities,
    canRestore: boolean,
  ): Promise<RegisterRequest> {
    const { capacity, name, isolation } = this.#options;
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
      },
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

  #assemble(
    parts: WorkerParts,
    registration: Registration,
    {
      describe,
      capabilities,
      checkpoints,
    }: {
      readonly describe: RegisterRequest;
      readonly capabilities: IsolationCapabilities;
      readonly checkpoints: Checkpoints | undefined;
    },
  ): Running {
    const { logger, capacity, metrics } = this.#options;
    const client = this.#client;
    const { signal } = this.#stopping;
    const reregister = () => this.#reregister(describe);
    const heartbeats = new Heartbeats({
      client,
      intervalMs: registration.heartbeat_interval_ms,
      leaseDurationMs: registration.lease_duration_ms,
      onUnauthorized: reregister,
      logger,
    });
    const waits = new WaitPoller(client, logger);
    const live = new LiveWorkspaces(client, logger);
    const { runExecutor, buildExecutor, materializationExecutor, pool } = parts.executors({
      client,
      heartbeats,
      waits,
      live,
      capabilities,
      checkpoints,
    });
    const nothing = { max_runs: 0, max_builds: 0, max_materializations: 0, wait_ms: pollMs };
    const runs = new LeaseLoop<RunAssignment>({
      slots: capacity.runs,
      poll: async (max, aborted) =>
        (await client.lease({ ...nothing, max_runs: Math.min(max, 100) }, aborted)).runs,
      execute: async (run) => {
        await runExecutor.execute(run, signal);
        await checkpoints?.handOver(client, signal);
      },
      logger,
    });
    const builds = new LeaseLoop<BuildAssignment>({
      slots: capacity.builds,
      poll: async (max, aborted) =>
        (await client.lease({ ...nothing, max_builds: Math.min(max, 10) }, aborted)).builds,
      execute: async (build) => {
        const from = performance.now();
        await buildExecutor.execute(build, signal);
        metrics.build.observe(secondsSince(from));
      },
      logger,
    });
    const materializations = new LeaseLoop<MaterializationAssignment>({
      slots: capacity.materializations,
      poll: async (max, aborted) =>
        (await client.lease({ ...nothing, max_materializations: Math.min(max, 100) }, aborted))
          .materializations,
      execute: (copy) => materializationExecutor.execute(copy, signal),
      logger,
    });
    const loops = [runs, builds, materializations];
    for (const [kind, slots, loop] of [
      ["run", capacity.runs, runs],
      ["build", capacity.builds, builds],
      ["materialization", capacity.materializations, materializations],
    ] as const) {
      metrics.slots.set({ kind }, slots);
      metrics.slotsInUse.watch({ kind }, () => loop.activeCount);
    }
    metrics.pool.size.watch({}, () => pool.size);
    const work: DrainableWork = {
      runs: runExecutor,
      builds: buildExecutor,
      copies: materializationExecutor,
      stopTaking: async () => {
        await Promise.all(loops.map((loop) => loop.drain()));
      },
      emptyPool: () => pool.close(),
    };
    return { parts, heartbeats, waits, live, runs, builds, materializations, work };
  }

  /** The control plane forgot us (its database was replaced): register again, one attempt at a time. */
  #reregister(description: RegisterRequest): void {
    if (this.#stopping.signal.aborted) return;
    this.#registering ??= this.#register(description)
      .catch((error: unknown) =>
        this.#options.logger.warn({ reason: messageOf(error) }, "registering again failed"),
      )
      .finally(() => {
        this.#registering = undefined;
      });
  }

  async #stop(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    const running = this.#running;
    if (running !== undefined) await this.#saveCopies(running);
    this.#stopping.abort();
    if (running === undefined) return;
    await running.work.stopTaking();
    await running.live.stop();
    await running.waits.stop();
    await running.heartbeats.stop();
    await running.parts.close();
  }

  /** What is not saved in time is lost with its guest, and its workspace goes on from the version before. */
  async #saveCopies({ materializations, work }: Running): Promise<void> {
    work.copies.drain("the worker stops");
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#options.stopSaveMs);
    });
    await Promise.race([materializations.drain(), limit]);
    clearTimeout(timer);
  }
}
