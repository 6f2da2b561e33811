/**
 * Saved guests in the artifact store: sealed on the way there, opened on the way back.
 *
 *     memory      files   the driver's image of memory, processes and root filesystem
 *     workspace   tree    the workspace's files at the same instant
 *     state       json    the driver's record, the link's state, the calls of the task that have no answer yet
 *
 *  I1  Nothing of it lies in plain outside of the staging area (memory) and the workspace's own disk.
 *  I2  A guest goes on from an archive only when all of it was authentic and complete.
 */
import type { CheckpointManifest } from "@helmr/api";
import type { ArtifactStore } from "@helmr/artifacts";
import { ArchiveError, type ArchiveKeys, openArchive, sealArchive } from "@helmr/artifacts/archive";
import { callMethod, linkSnapshot } from "@helmr/guest-protocol";
import { type CheckpointHost, checkpointRecord } from "@helmr/isolation";
import pLimit from "p-limit";
import { z } from "zod";
import type { Staging } from "./staging.ts";

/** A guest is at most this large with its workspace: what an archive may hold. */
const maxArchiveBytes = 1024 ** 4;
/** Guests that are saved or restored at a time: each takes its memory once more meanwhile. */
const concurrency = 2;

const heldCall = z.object({
  type: z.literal("call"),
  call_id: z.int().positive(),
  method: callMethod,
  params_json: z.string(),
});
export type HeldCall = z.infer<typeof heldCall>;

const savedState = z.object({
  format: z.literal(1),
  record: checkpointRecord,
  link: linkSnapshot,
  calls: z.array(heldCall),
});
export type SavedState = Omit<z.infer<typeof savedState>, "format">;

export interface StoredCheckpoint {
  readonly manifest: CheckpointManifest;
  readonly artifactDigest: string;
  readonly sizeBytes: number;
}

export interface CheckpointsOptions {
  readonly artifacts: ArtifactStore;
  readonly keys: ArchiveKeys;
  readonly staging: Staging;
  readonly host: CheckpointHost;
}

/** Which checkpoints a host can restore, as one text: the control plane gives it only those of the same. */
export function compatibilityOf(host: CheckpointHost): string {
  return `${host.driver} ${host.driverVersion} ${host.architecture} ${host.cpuFeaturesDigest}`;
}

/** The checkpoint is bad itself: no worker will restore it. */
export function isPermanent(error: unknown): boolean {
  return error instanceof ArchiveError && error.reason !== "unknown_key" && error.reason !== "wrong_key";
}

export class Checkpoints {
  readonly #options: CheckpointsOptions;
  readonly #limit = pLimit(concurrency);

  constructor(options: CheckpointsOptions) {
    this.#options = options;
  }

  /** `fill` saves the guest into the folder; then everything is sealed and stored. */
  save(
    workspace: string,
    fill: (folder: string) => Promise<SavedState>,
  ): Promise<StoredCheckpoint & { readonly storeMs: number }> {
    const { staging, artifacts, keys, host } = this.#options;
    return this.#limit(() =>
      staging.folder(async (folder) => {
        const state = await fill(folder);
        const archive = sealArchive(
          [
            { name: "state", kind: "json", value: { format: 1, ...state } },
            { name: "memory", kind: "files", folder },
            { name: "workspace", kind: "tree", folder: workspace },
          ],
          { keys },
        );
        const { digest, sizeBytes } = await artifacts.put(archive.stream, { maxBytes: maxArchiveBytes });
        const { keyId, contentBytes, durationMs } = archive.stats();
        const manifest = {
          compatibility: compatibilityOf(host),
          driver: state.record.driver,
          key_id: keyId,
          content_bytes: contentBytes,
        };
        return { manifest, artifactDigest: digest, sizeBytes, storeMs: Math.round(durationMs) };
      }),
    );
  }

  /** Opens the archive into the empty workspace folder and the staging area; `use` restores the guest from there. */
  load<T>(
    artifactDigest: string,
    workspace: string,
    use: (saved: SavedState, folder: string) => Promise<T>,
  ): Promise<T> {
    const { staging, artifacts, keys } = this.#options;
    return this.#limit(() =>
      staging.folder(async (folder) => {
        const opened = await openArchive(await artifacts.get(artifactDigest), {
          keys,
          folders: { memory: folder, workspace },
          maxContentBytes: maxArchiveBytes,
        });
        const state = savedState.parse(opened.values.state);
        return await use(state, folder); // I2
      }),
    );
  }

  /** Best effort: an archive that no run came to need. */
  async discard(artifactDigest: string): Promise<void> {
    await this.#options.artifacts.delete(artifactDigest).catch(() => undefined);
  }
}
