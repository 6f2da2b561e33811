/**
 * Saved guests in the artifact store: sealed on the way there, opened on the way back.
 *
 *     memory      files   the driver's image of memory, processes and root filesystem
 *     workspace   tree    the workspace's files at the same instant; of a workspace that was saved as a version, what that
 *                         version leaves out
 *     state       json    the driver's record, the link's state, the calls of the task that have no answer yet
 *
 *  I1  Nothing of it lies in plain outside of the staging area (memory) and the workspace's own disk. The version beside it
 *      (workspace-saver.ts) is no part of it, and is not encrypted.
 *  I2  A guest goes on from an archive only when all of it was authentic and complete.
 */

import type { CheckpointManifest } from "@helmr/api";
import { ArtifactNotFoundError, type ArtifactStore } from "@helmr/artifacts";
import { ArchiveError, type ArchiveKeys, sealArchive, type TreeSelection } from "@helmr/artifacts/archive";
import type { CheckpointHost } from "@helmr/isolation";
import type { WorkerMetrics } from "@helmr/telemetry";
import pLimit from "p-limit";
import type { Logger } from "pino";
import type { ControlPlaneClient } from "./control-plane-client.ts";
import { messageOf } from "./failure.ts";
import { OpeningCheckpoint } from "./opening-checkpoint.ts";
import type { SavedState } from "./saved-state.ts";
import type { Staging } from "./staging.ts";
import { withStallLimit } from "./stall-limit.ts";
import type { UploadJournal } from "./upload-journal.ts";
import { isVersionBroken } from "./version-failure.ts";

/** A guest is at most this large with its workspace: what an archive may hold. */
const maxArchiveBytes = 1024 ** 4;
/** Guests that are saved or restored at a time: each takes its memory once more meanwhile. */
const concurrency = 2;
/** Of one request. */
const maxHandedOver = 100;

export interface StoredCheckpoint {
  readonly manifest: CheckpointManifest;
  readonly artifactDigest: string;
  readonly sizeBytes: number;
}

export interface SaveOptions {
  /** The workspace's folder. */
  readonly workspace: string;
  /** Which of its files go into the archive; asked when the guest is saved. Resolves to undefined: all of them. */
  readonly selection: () => Promise<TreeSelection | undefined>;
  readonly leaseId: string;
  /** All of it is sealed, and nobody can find it yet. */
  readonly onSealed: () => Promise<void>;
  /** Gives the storing up: there is nothing to wait for any more. */
  readonly signal: AbortSignal;
}

export interface CheckpointsOptions {
  readonly artifacts: ArtifactStore;
  readonly keys: ArchiveKeys;
  readonly staging: Staging;
  readonly host: CheckpointHost;
  readonly journal: UploadJournal;
  /** A transfer without a byte for that long has failed. */
  readonly stallMs: number;
  readonly metrics?: WorkerMetrics | undefined;
  readonly logger: Logger;
}

/** Which checkpoints a host can restore, as one text: the control plane gives it only those of the same. */
export function compatibilityOf(host: CheckpointHost): string {
  return `${host.driver} ${host.driverVersion} ${host.architecture} ${host.cpuFeaturesDigest}`;
}

/** The checkpoint is bad itself, or gone: no worker will restore it. */
export function isPermanent(error: unknown): boolean {
  if (error instanceof ArtifactNotFoundError || isVersionBroken(error)) return true;
  return error instanceof ArchiveError && error.reason !== "unknown_key" && error.reason !== "wrong_key";
}

export class Checkpoints {
  readonly #options: CheckpointsOptions;
  readonly #limit = pLimit(concurrency);

  constructor(options: CheckpointsOptions) {
    this.#options = options;
  }

  /**
   * `fill` saves the guest into the folder; then everything is sealed and stored. What is stored stays noted until the
   * caller says what became of it: `recorded` or `discard`.
   */
  save(
    { workspace, selection, leaseId, onSealed, signal }: SaveOptions,
    fill: (folder: string) => Promise<SavedState>,
  ): Promise<StoredCheckpoint & { readonly storeMs: number }> {
    const { staging, artifacts, keys, host, journal, stallMs } = this.#options;
    return this.#limit(() =>
      staging.folder(async (folder) => {
        const state = await fill(folder);
        const archive = sealArchive(
          [
            { name: "state", kind: "json", value: { format: 1, ...state } },
            { name: "memory", kind: "files", folder },
            { name: "workspace", kind: "tree", folder: workspace, select: selection },
          ],
          { keys },
        );
        const { digest, sizeBytes } = await withStallLimit(
          { what: "storing the checkpoint", stallMs, signal },
          (watch, moved) =>
            artifacts.put(watch(archive.stream), {
              maxBytes: maxArchiveBytes,
              sealed: true, // Under the workers' own key: the control plane needs no checkpoint.
              onProgress: moved,
              beforePublish: async (artifact) => {
                await journal.note({ digest: artifact.digest, leaseId });
                await onSealed();
              },
            }),
        );
        this.#options.metrics?.checkpoint.bytes.observe(sizeBytes);
        const { keyId, contentBytes, durationMs } = archive.stats();
        const manifest = {
          compatibility: compatibilityOf(host),
          driver: state.record.driver,
          key_id: keyId,
          content_bytes: contentBytes,
          // Traces: the lease that goes on from here is linked to this one.
          lease_id: leaseId,
        };
        return { manifest, artifactDigest: digest, sizeBytes, storeMs: Math.round(durationMs) };
      }),
    );
  }

  /**
   * Opens the archive into the staging area while `use` makes ready for the restore from there. What was opened is gone when it
   * resolves or rejects.
   */
  load<T>(artifactDigest: string, use: (archive: OpeningCheckpoint) => Promise<T>): Promise<T> {
    const { staging, artifacts, keys, stallMs } = this.#options;
    return this.#limit(() =>
      staging.folder(async (folder) => {
        await using archive = await OpeningCheckpoint.begin({
          artifactDigest,
          artifacts,
          keys,
          stallMs,
          folder,
          maxBytes: maxArchiveBytes,
        });
        return await use(archive);
      }),
    );
  }

  /** The control plane refers to it from now on. */
  async recorded(artifactDigest: string): Promise<void> {
    await this.#options.journal.forget(artifactDigest);
  }

  /** An archive that no run came to need. When it cannot be removed now, it stays noted, and `handOver` sees to it. */
  async discard(artifactDigest: string): Promise<void> {
    try {
      await this.#options.artifacts.delete(artifactDigest);
      await this.recorded(artifactDigest);
    } catch (error) {
      this.#options.logger.warn({ artifactDigest, reason: messageOf(error) }, "a checkpoint was not removed");
    }
  }

  /**
   * Let the control plane decide about everything that is noted: what it refers to is kept, the rest it removes. What
   * belongs to a lease that is not over yet stays noted. Best effort: asked again after the next run, and at the next start.
   */
  async handOver(client: Pick<ControlPlaneClient, "settleUploads">, signal: AbortSignal): Promise<void> {
    const { journal, logger } = this.#options;
    try {
      const noted = await journal.noted();
      for (let at = 0; at < noted.length; at += maxHandedOver) {
        const page = noted.slice(at, at + maxHandedOver);
        const uploads = page.map(({ digest, leaseId }) => ({ artifact_digest: digest, lease_id: leaseId }));
        const { settled } = await client.settleUploads(uploads, signal);
        for (const digest of settled) await journal.forget(digest);
      }
    } catch (error) {
      if (!signal.aborted) logger.warn({ reason: messageOf(error) }, "checkpoints were not handed over");
    }
  }
}
