/**
 * Saving the files of a workspace's disk as a version: stored in the artifact store, recorded at the control plane.
 *
 * | step     | leaves behind when it fails, or is cut by a crash                                      |
 * |----------|----------------------------------------------------------------------------------------|
 * | reserved | reservations, which end with the lease                                                 |
 * | stored   | artifacts that nothing refers to: removed when the reservations are                    |
 * | recorded | the version is the workspace's current one, whatever becomes of the worker             |
 * | noted    | the disk is known to be of this version                                                |
 *
 *  S1  One save of a workspace at a time; each goes on from the version that the one before it made.
 *  S2  The disk counts as clean only after a save with no guest on it was recorded, or found nothing to save.
 *  S3  An empty workspace that was never saved costs one look into its folder, an unchanged one a scan: neither is recorded,
 *      but where the workspace is not called clean, which the recorded version makes it.
 *  S4  A save that failed is tried again while the lease lives, `tries` times at most; a version that is damaged or missing
 *      in the store is not relied on the second time.
 */
import { readdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { VersionRef } from "@helmr/api";
import type { ArtifactStore } from "@helmr/artifacts";
import {
  type SaveResult,
  type SkippedPath,
  saveTree,
  WorkspaceVersionError,
} from "@helmr/artifacts/versions";
import { secondsSince, type WorkerMetrics } from "@helmr/telemetry";
import type { Logger } from "pino";
import { type ControlPlaneClient, LeaseLostError, RequestRefusedError } from "./control-plane-client.ts";
import type { ReachPoint } from "./debug-points.ts";
import { headOf, messageOf } from "./failure.ts";
import { KeyedLock } from "./keyed-lock.ts";
import type { MountedDisk, Workspaces } from "./workspaces.ts";

export interface WorkspaceSave {
  readonly workspaceId: string;
  readonly disk: MountedDisk;
  /** Of the run or the live copy that has the workspace. */
  readonly leaseId: string;
  readonly fencing: number;
  readonly reason: "run" | "stop" | "checkpoint" | "request";
  /** The question that it answers. */
  readonly requestId?: string;
  /** Paths below the workspace that are in no version: a run's secrets. */
  readonly exclude: readonly string[];
  /** No guest is on the disk, and none will be before the next `open` (S2). */
  readonly isFinal: boolean;
  /** The workspace is not called clean (S3). */
  readonly isDirty: boolean;
  /** Default 1. */
  readonly tries?: number;
  readonly reach: ReachPoint;
  readonly signal: AbortSignal;
}

export interface SavedWorkspace {
  /** Undefined: there are no files, and never were. */
  readonly version: VersionRef | undefined;
  /** What is there and in no version, the first thousand. */
  readonly skipped: readonly SkippedPath[];
}

export interface WorkspaceSaverOptions {
  readonly client: Pick<ControlPlaneClient, "reserveArtifacts" | "recordVersion">;
  readonly artifacts: ArtifactStore;
  readonly workspaces: Workspaces;
  readonly metrics?: WorkerMetrics | undefined;
  readonly logger: Logger;
}

/** Of the format that @helmr/artifacts/versions writes. */
const artifactEncoding = "helmr-tree-1";
const firstPauseMs = 500;
const maxSkipped = 100;

export class WorkspaceSaver {
  readonly #options: WorkspaceSaverOptions;
  readonly #lock = new KeyedLock();

  constructor(options: WorkspaceSaverOptions) {
    this.#options = options;
  }

  /**
   * Save what is on the disk; `disk.base` moves on. Rejects with a LeaseLostError, with the signal's reason, or with why it
   * could not be saved: the disk then stays as it is.
   */
  save(request: WorkspaceSave): Promise<SavedWorkspace> {
    return this.#lock.with(request.workspaceId, () => this.#save(request));
  }

  /** S3: there are no files, and never were. */
  async isNothingToSave({ base, mountPoint }: MountedDisk): Promise<boolean> {
    return base === undefined && (await readdir(mountPoint)).length === 0;
  }

  async #save(request: WorkspaceSave): Promise<SavedWorkspace> {
    const { disk, signal, tries = 1 } = request;
    if (request.reason !== "request" && !request.isDirty && (await this.isNothingToSave(disk)))
      return { version: undefined, skipped: [] }; // S3
    let isPreviousSound = true;
    for (let tried = 1; ; tried += 1) {
      try {
        signal.throwIfAborted();
        return await this.#try(request, isPreviousSound ? disk.base : undefined);
      } catch (error) {
        const isLost = error instanceof LeaseLostError || signal.aborted;
        if (isLost || tried >= tries || isPointless(error)) throw error;
        this.#options.logger.warn(
          { reason: messageOf(error), tried, workspaceId: request.workspaceId },
          "a workspace was not saved; trying again",
        );
        if (isOfPrevious(error)) isPreviousSound = false; // S4
        await sleep(firstPauseMs * 2 ** (tried - 1) * (0.5 + Math.random()), undefined, { signal });
      }
    }
  }

  async #try(request: WorkspaceSave, previous: VersionRef | undefined): Promise<SavedWorkspace> {
    const { workspaceId, disk, leaseId, fencing, reach, signal } = request;
    const { client, artifacts, workspaces } = this.#options;
    const from = performance.now();
    let isFirstReservation = true;
    const saved = await saveTree({
      folder: disk.mountPoint,
      artifacts,
      previous: previous && { manifestDigest: previous.manifest_digest },
      index: workspaces.indexOf(workspaceId),
      exclude: request.exclude,
      reserve: async (digests) => {
        await client.reserveArtifacts({ lease_id: leaseId, fencing, digests: [...digests] }, signal);
        if (isFirstReservation) await reach("save.reserved");
        isFirstReservation = false;
      },
      signal,
    });
    this.#options.metrics?.workspaceSave.seconds.observe(secondsSince(from));
    this.#options.metrics?.workspaceSave.bytes.observe(saved.stats.storedBytes);
    await reach("save.stored");
    const mustRecord = request.reason === "request" || request.isDirty; // S3
    const isSame = saved.unchanged && previous !== undefined && !mustRecord;
    const version = isSame
      ? previous
      : await client.recordVersion(leaseId, this.#body(request, saved, performance.now() - from), signal);
    await reach("save.recorded");
    disk.base = version;
    await workspaces.note(workspaceId, version, request.isFinal); // S2
    await reach("save.noted");
    return { version, skipped: saved.skipped };
  }

  #body({ fencing, reason, requestId, disk }: WorkspaceSave, saved: SaveResult, totalMs: number) {
    return {
      fencing,
      reason,
      manifest_digest: saved.manifestDigest,
      content_digest: saved.contentDigest,
      artifact_encoding: artifactEncoding,
      entry_count: saved.entryCount,
      size_bytes: saved.sizeBytes,
      artifacts: [...saved.artifacts],
      ...(disk.base === undefined ? {} : { parent_version_id: disk.base.version_id }),
      ...(requestId === undefined ? {} : { request_id: requestId }),
      skipped: saved.skipped
        .slice(0, maxSkipped)
        .map(({ path, kind }) => ({ path: headOf(path, 4096), kind })),
      timings_ms: { scan: Math.round(saved.stats.scanMs), store: Math.round(totalMs) },
    };
  }
}

/** What the workspace is too large for, or a folder that cannot be read, does not change by waiting. */
function isPointless(error: unknown): boolean {
  return error instanceof WorkspaceVersionError && error.reason === "too_large";
}

/** The control plane refuses a version whose artifacts may be gone by now: all of them are stored anew. */
function isOfPrevious(error: unknown): boolean {
  if (error instanceof RequestRefusedError) return error.code === "artifacts_not_reserved";
  return (
    error instanceof WorkspaceVersionError && ["artifact_missing", "artifact_corrupt"].includes(error.reason)
  );
}
