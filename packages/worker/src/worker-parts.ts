/** The parts of a worker that need no control plane, put together on its data folder. */
import { join } from "node:path";
import type { ArtifactStore } from "@helmr/artifacts";
import { buildGuestBundle } from "@helmr/guest";
import { GATEWAY_ADDRESS, type IsolationCapabilities } from "@helmr/isolation";
import { buildSdkPackage } from "@helmr/sdk/package";
import { execa } from "execa";
import { BuildExecutor, recoverBuilds } from "./build-executor.ts";
import { CacheFolders } from "./caches.ts";
import { CatalogCache } from "./catalog-cache.ts";
import { Checkpoints } from "./checkpoints.ts";
import type { ControlPlaneClient } from "./control-plane-client.ts";
import { messageOf } from "./failure.ts";
import { GuestPool } from "./guest-pool.ts";
import type { Heartbeats } from "./heartbeats.ts";
import { LayerStore } from "./image-builder/layer-store.ts";
import type { LiveWorkspaces } from "./live-workspaces.ts";
import { MaterializationExecutor } from "./materialization-executor.ts";
import type { ResolvedWorkerOptions } from "./options.ts";
import type { Room } from "./room.ts";
import { RunExecutor } from "./run-executor.ts";
import { RunGuests } from "./run-guest.ts";
import { SdkRegistry } from "./sdk-registry.ts";
import { SourceCache } from "./source-cache.ts";
import { Staging } from "./staging.ts";
import { stallLimitedStore } from "./stall-limited-store.ts";
import { UploadJournal } from "./upload-journal.ts";
import type { WaitPoller } from "./wait-poller.ts";
import type { WorkerInstance } from "./worker-instance.ts";
import { WorkspaceSaver } from "./workspace-saver.ts";
import { Workspaces } from "./workspaces.ts";

/** A build gets at most this much of the worker's memory. */
const buildMemoryMib = 4096;
/** A sandbox that says nothing about its memory must build on the smallest host, too. */
const defaultMemoryMib = 2048;
/** A workspace's disk is sparse, so this bounds what one workspace can take, not what it takes. */
const maxDiskMib = 256 * 1024;
/** Layers nobody used for this long are removed at start. */
const layerAgeMs = 30 * 24 * 60 * 60_000;

export class WorkerParts {
  readonly #options: ResolvedWorkerOptions;
  readonly #instance: WorkerInstance;
  /** For versions of workspaces. */
  readonly #artifacts: ArtifactStore;
  readonly #layers: LayerStore;
  readonly #sources: SourceCache;
  readonly #workspaces: Workspaces;
  readonly #registry: SdkRegistry;
  readonly #staging: Staging;
  readonly #caches: CacheFolders;
  readonly #bundleDir: string;
  readonly #buildsDir: string;
  readonly #sdkDir: string;
  #bunVersion: string | undefined;
  #pool: GuestPool | undefined;

  constructor(options: ResolvedWorkerOptions, instance: WorkerInstance) {
    const { dataDir, images, artifacts, isolation } = options;
    this.#options = options;
    this.#instance = instance;
    this.#bundleDir = join(dataDir, "guest");
    this.#sdkDir = join(dataDir, "sdk");
    this.#buildsDir = join(dataDir, "builds");
    this.#artifacts = stallLimitedStore(artifacts, options.transferStallMs);
    this.#layers = new LayerStore({
      layersDir: join(dataDir, "layers"),
      rootsDir: join(dataDir, "roots"),
      imagesDir: images.imagesDir,
      artifacts,
    });
    this.#sources = new SourceCache({ dir: join(dataDir, "sources"), artifacts });
    const loopDevices = async () => (await isolation.capabilities()).limits.disk;
    this.#workspaces = new Workspaces({
      dir: join(dataDir, "workspaces"),
      artifacts: this.#artifacts,
      loopDevices,
      metrics: options.metrics,
    });
    this.#caches = new CacheFolders({ dir: join(dataDir, "caches"), loopDevices });
    // Two guests at a time, each with its memory and what it wrote to its root.
    this.#staging = new Staging({ dir: join(dataDir, "staging"), sizeMib: options.capacity.memoryMib });
    this.#registry = new SdkRegistry({ packageDir: this.#sdkDir, gatewayAddress: GATEWAY_ADDRESS });
  }

  /** Remove what a dead worker left, build what guests mount, open the registry. */
  async start(): Promise<void> {
    await recoverBuilds(this.#buildsDir);
    await Promise.all([this.#layers.recover(), this.#sources.recover(), this.#workspaces.recover()]);
    await this.#caches.recover();
    await this.#layers.sweep(new Set(), new Date(Date.now() - layerAgeMs));
    await Promise.all([buildSdkPackage(this.#sdkDir), buildGuestBundle(this.#bundleDir)]);
    await this.#registry.start();
    this.#bunVersion = await bunVersion(this.#options.bunPath);
  }

  executors(deps: {
    readonly client: ControlPlaneClient;
    readonly heartbeats: Heartbeats;
    readonly waits: WaitPoller;
    readonly live: LiveWorkspaces;
    readonly capabilities: IsolationCapabilities;
    readonly checkpoints: Checkpoints | undefined;
    readonly room: Room;
  }): {
    readonly runExecutor: RunExecutor;
    readonly materializationExecutor: MaterializationExecutor;
    readonly buildExecutor: BuildExecutor;
    readonly pool: GuestPool;
  } {
    const { isolation, runNetworkDeny, cancelGraceMs, logger, pool: poolOptions, metrics } = this.#options;
    const guests = new RunGuests({
      isolation,
      layers: this.#layers,
      sources: this.#sources,
      workspaces: this.#workspaces,
      bundleDir: this.#bundleDir,
      networkDeny: runNetworkDeny,
      metrics,
    });
    const pool = new GuestPool({
      ...poolOptions,
      guests,
      workspaces: this.#workspaces,
      freeMemoryMib: () => deps.room.free.memory_mib,
      logger,
    });
    this.#pool = pool;
    const workspaces = this.#workspaces;
    const saver = new WorkspaceSaver({
      client: deps.client,
      artifacts: this.#artifacts,
      workspaces,
      metrics,
      logger,
    });
    const materializationExecutor = new MaterializationExecutor({
      ...deps,
      guests,
      workspaces,
      saver,
      onDebugPoint: this.#options.onDebugPoint,
      logger,
    });
    const runExecutor = new RunExecutor({
      ...deps,
      guests,
      pool,
      workspaces,
      saver,
      isolation,
      parkAfterMs: this.#options.parkAfterMs,
      metrics,
      tracing: this.#options.tracing,
      onDebugPoint: this.#options.onDebugPoint,
      cancelGraceMs,
      logger,
    });
    return {
      runExecutor,
      materializationExecutor,
      buildExecutor: this.#buildExecutor(deps, pool),
      pool,
    };
  }

  /** Absent when there is no key, or guests cannot be saved on this host. */
  async checkpoints(capabilities: IsolationCapabilities): Promise<Checkpoints | undefined> {
    const { checkpointKeys: keys, artifacts, isolation, dataDir, logger } = this.#options;
    if (keys === undefined || !capabilities.checkpoint) return undefined;
    await this.#staging.open();
    return new Checkpoints({
      artifacts,
      keys,
      staging: this.#staging,
      host: await isolation.checkpointHost(),
      journal: new UploadJournal(join(dataDir, "uploads")),
      stallMs: this.#options.transferStallMs,
      metrics: this.#options.metrics,
      logger,
    });
  }

  /** The disk is nearly full: remove what can be made or fetched again, caches of builds first. */
  async evict(isEnough: () => Promise<boolean>): Promise<void> {
    await this.#caches.removeIdle();
    if (!(await isEnough())) await this.#sources.removeIdle();
    await this.#workspaces.removeClean(isEnough);
  }

  async close(): Promise<void> {
    await this.#pool?.close();
    await this.#registry.stop();
    await this.#layers.close();
    await this.#staging.close();
  }

  #buildExecutor(
    deps: {
      readonly client: ControlPlaneClient;
      readonly heartbeats: Heartbeats;
      readonly capabilities: IsolationCapabilities;
    },
    pool: GuestPool,
  ): BuildExecutor {
    const { isolation, artifacts, images, bunPath, dataDir, runNetworkDeny, capacity, logger } =
      this.#options;
    return new BuildExecutor({
      ...deps,
      isolation,
      artifacts,
      layers: this.#layers,
      caches: this.#caches,
      catalogs: new CatalogCache(join(dataDir, "catalogs")),
      sdkRegistry: this.#registry,
      imagesDir: images.imagesDir,
      baseImage: images.baseImage,
      bundleDir: this.#bundleDir,
      bunPath,
      bunVersion: this.#bunVersion,
      buildsDir: this.#buildsDir,
      nodeChecksDir: join(dataDir, "node-checks"),
      workerKey: this.#instance.key,
      networkDeny: runNetworkDeny,
      largestSandbox: { memoryMib: Math.max(capacity.memoryMib, defaultMemoryMib), diskMib: maxDiskMib },
      resources: {
        cpu: this.#options.cores,
        memoryMib: Math.max(512, Math.min(buildMemoryMib, capacity.memoryMib)),
      },
      onBuilt: (kinds) => {
        for (const kind of kinds) pool.want(kind, 1);
      },
      logger,
    });
  }
}

/** Our own binary, not the author's: asking it on the host is safe. */
async function bunVersion(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return (await execa(path, ["--version"], { timeout: 10_000 })).stdout.trim();
  } catch (error) {
    throw new Error(
      `bunPath ${path} does not run: ${messageOf(error)}; install bun again or leave bunPath out`,
    );
  }
}
