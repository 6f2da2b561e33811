/** Options of a worker, resolved once into a filled record with units in the names. */
import { availableParallelism, totalmem } from "node:os";
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
  /** Runs and builds executed at the same time. */
  readonly runs: number;
  readonly builds: number;
  /** Live copies of workspaces in guests of their own, beside the runs. */
  readonly materializations: number;
  readonly cpu: number;
  readonly memoryMib: number;
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

/** Option, else a default from the machine: 4 runs per core (most wait for a model), 80 % of its memory. */
export function resolveOptions(options: WorkerOptions): ResolvedWorkerOptions {
  const cpu = options.capacity?.cpu ?? availableParallelism();
  const memoryMib = options.capacity?.memoryMib ?? Math.floor((totalmem() / 1024 / 1024) * 0.8);
  const runs = options.capacity?.runs ?? Math.max(4, cpu * 4);
  return {
    ...options,
    capacity: {
      cpu,
      memoryMib,
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
