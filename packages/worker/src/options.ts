/** Options of a worker, resolved once into a filled record with units in the names. */
import { existsSync, statfsSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { dirname } from "node:path";
import type { ArtifactStore } from "@helmr/artifacts";
import type { ArchiveKeys } from "@helmr/artifacts/archive";
import type { Isolation } from "@helmr/isolation";
import {
  createWorkerMetrics,
  noTracing,
  type Tracing,
  unreadRegistry,
  type WorkerMetrics,
} from "@helmr/telemetry";
import type { Logger } from "pino";
import type { OnDebugPoint } from "./debug-points.ts";

export interface WorkerCapacity {
  /** Runs and builds executed at the same time. Without a limit of another kind, 4 runs per core: most wait for a model. */
  readonly runs: number;
  readonly builds: number;
  /** Live copies of workspaces in guests of their own, beside the runs. */
  readonly materializations: number;
  /**
   * What the sandboxes of runs and live copies may add up to. Of processors and disk more than there is: few guests use what
   * their sandbox may (8 processors per core; 4 times the disk, since workspaces take what is in them).
   */
  readonly cpu: number;
  readonly memoryMib: number;
  readonly diskMib: number;
}

export interface PoolOptions {
  /** Idle guests kept per recently used sandbox; 0 turns the pool off. */
  readonly perSandbox: number;
  /** Idle guests kept over all sandboxes. */
  readonly maxGuests: number;
  /** An idle guest older than this is destroyed. */
  readonly idleTtlMs: number;
}

export interface WorkerOptions {
  readonly controlPlaneUrl: string;
  /** The worker group's token, exchanged for a credential at registration. */
  readonly bootstrapToken: string;
  readonly name: string;
  /** Everything the worker keeps: instance id, layers, sources, workspaces, caches. */
  readonly dataDir: string;
  readonly isolation: Isolation;
  readonly artifacts: ArtifactStore;
  /** `baseImage`: name of the image (in the store or pulled) that builds run in. */
  readonly images: { readonly imagesDir: string; readonly baseImage: string };
  /** A `bun` executable for this architecture; absent: projects that name bun fail with a message. */
  readonly bunPath?: string | undefined;
  readonly capacity?: Partial<WorkerCapacity> | undefined;
  /** Stays free on the disk of the data folder: below it no new work is taken. Default: 5 %, from 4 to 20 GiB. */
  readonly diskReserveMib?: number | undefined;
  /** What operators read the worker by. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** The credential is replaced that often, give or take a tenth. Default: a day. */
  readonly credentialRotationMs?: number | undefined;
  readonly pool?: Partial<PoolOptions> | undefined;
  /** CIDRs and host names no guest of this worker may reach, on top of the sandbox's own list. */
  readonly runNetworkDeny?: readonly string[] | undefined;
  /** Between `ctx.signal` and the kill. */
  readonly cancelGraceMs?: number | undefined;
  /** Seals the guests of waiting runs; absent: runs keep their guests while they wait. */
  readonly checkpointKeys?: ArchiveKeys | undefined;
  /** How long a wait keeps its guest before it is saved. Default 5,000. */
  readonly parkAfterMs?: number | undefined;
  /** A checkpoint on its way to or from the object store fails after that long without a byte. Default 60,000. */
  readonly transferStallMs?: number | undefined;
  /** How long `stop` waits for live copies to be saved. Default 10,000. */
  readonly stopSaveMs?: number | undefined;
  /** For tests of what may happen in between; default: nothing. */
  readonly onDebugPoint?: OnDebugPoint | undefined;
  /** Default: nobody reads them. */
  readonly metrics?: WorkerMetrics | undefined;
  /** Default: none. */
  readonly tracing?: Tracing | undefined;
  readonly logger: Logger;
}

export interface ResolvedWorkerOptions extends WorkerOptions {
  readonly capacity: WorkerCapacity;
  /** Processors of this machine. */
  readonly cores: number;
  readonly diskReserveMib: number;
  readonly credentialRotationMs: number;
  readonly pool: PoolOptions;
  readonly runNetworkDeny: readonly string[];
  readonly cancelGraceMs: number;
  readonly parkAfterMs: number;
  readonly transferStallMs: number;
  readonly stopSaveMs: number;
  readonly onDebugPoint: OnDebugPoint;
  readonly metrics: WorkerMetrics;
  readonly tracing: Tracing;
}

const runsPerCore = 4;
const cpuOvercommit = 8;
const diskOvercommit = 4;
/** Of the memory, for this process, the sandboxes' sentries and the system. */
const memoryReserve = { share: 0.2, minMib: 512 };
const diskReserve = { share: 0.05, minMib: 4 * 1024, maxMib: 20 * 1024 };
const dayMs = 24 * 60 * 60_000;

/** What a machine has; `memoryMib` is the limit of the process's cgroup where it has one. */
export interface Machine {
  readonly cores: number;
  readonly memoryMib: number;
  /** Of the data folder's file system. */
  readonly diskMib: number;
  readonly diskFreeMib: number;
}

/** What is given away of a machine when nothing else is said. */
export function defaultCapacity(
  machine: Machine,
  diskReserveMib = defaultDiskReserveMib(machine.diskMib),
): Pick<WorkerCapacity, "runs" | "cpu" | "memoryMib" | "diskMib"> {
  const { cores, memoryMib, diskFreeMib } = machine;
  const reserveMib = Math.max(memoryReserve.minMib, Math.ceil(memoryMib * memoryReserve.share));
  return {
    runs: Math.max(4, cores * runsPerCore),
    cpu: cores * cpuOvercommit,
    memoryMib: Math.max(256, memoryMib - reserveMib),
    diskMib: Math.max(1024, (diskFreeMib - diskReserveMib) * diskOvercommit),
  };
}

export function defaultDiskReserveMib(diskMib: number): number {
  const { share, minMib, maxMib } = diskReserve;
  return Math.min(maxMib, Math.max(minMib, Math.floor(diskMib * share)));
}

function thisMachine(dataDir: string): Machine {
  const limit = process.constrainedMemory();
  const memory = limit > 0 ? Math.min(totalmem(), limit) : totalmem();
  const { blocks, bavail, bsize } = statfsSync(nearestFolder(dataDir));
  const mib = (bytes: number) => Math.floor(bytes / 2 ** 20);
  return {
    cores: availableParallelism(),
    memoryMib: mib(memory),
    diskMib: mib(blocks * bsize),
    diskFreeMib: mib(bavail * bsize),
  };
}

/** The folder is made later: then the file system of the first folder above that is there. */
function nearestFolder(path: string): string {
  let folder = path;
  while (folder !== dirname(folder) && !existsSync(folder)) folder = dirname(folder);
  return folder;
}

/** Option, else a default from the machine. */
export function resolveOptions(options: WorkerOptions): ResolvedWorkerOptions {
  const machine = thisMachine(options.dataDir);
  const diskReserveMib = options.diskReserveMib ?? defaultDiskReserveMib(machine.diskMib);
  const byDefault = defaultCapacity(machine, diskReserveMib);
  const runs = options.capacity?.runs ?? byDefault.runs;
  return {
    ...options,
    cores: machine.cores,
    diskReserveMib,
    credentialRotationMs: options.credentialRotationMs ?? dayMs,
    capacity: {
      ...byDefault,
      ...options.capacity,
      runs,
      materializations: options.capacity?.materializations ?? runs,
      builds: options.capacity?.builds ?? 1,
    },
    pool: {
      perSandbox: options.pool?.perSandbox ?? 2,
      maxGuests: options.pool?.maxGuests ?? 8,
      idleTtlMs: options.pool?.idleTtlMs ?? 30 * 60_000,
    },
    runNetworkDeny: options.runNetworkDeny ?? [],
    cancelGraceMs: options.cancelGraceMs ?? 10_000,
    parkAfterMs: options.parkAfterMs ?? 5_000,
    transferStallMs: options.transferStallMs ?? 60_000,
    stopSaveMs: options.stopSaveMs ?? 10_000,
    onDebugPoint: options.onDebugPoint ?? (() => undefined),
    metrics: options.metrics ?? createWorkerMetrics(unreadRegistry()),
    tracing: options.tracing ?? noTracing,
  };
}
