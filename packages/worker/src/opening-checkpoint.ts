/**
 * A saved guest's archive on its way out of the store, opened while its restore is prepared.
 *
 * | phase   | enters by            | leaves by                                                         |
 * |---------|----------------------|-------------------------------------------------------------------|
 * | opening | begin                | all of it is authentic and written -> opened; else -> failed      |
 * | opened  |                      | disposed of -> closed                                             |
 * | failed  |                      | disposed of -> closed; the folders are empty                      |
 * | closed  | nobody writes there  | never; the folders are the caller's to remove                     |
 *
 *  O1  `opened` resolves only when all of the archive was authentic and complete.
 *  O2  Whoever fails beside it disposes of it before the workspace's folder goes: nothing is written when that has resolved.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { ArtifactStore } from "@helmr/artifacts";
import { type ArchiveKeys, type OpenedArchive, openArchive } from "@helmr/artifacts/archive";
import type { CheckpointFile } from "@helmr/isolation";
import { type SavedState, savedState } from "./saved-state.ts";
import { withStallLimit } from "./stall-limit.ts";

export interface OpeningOptions {
  readonly artifactDigest: string;
  readonly artifacts: ArtifactStore;
  readonly keys: ArchiveKeys;
  /** A store that is asked for a byte and gives none for that long has failed. */
  readonly stallMs: number;
  /** Of the staging area, empty. */
  readonly folder: string;
  readonly maxBytes: number;
}

export interface OpenedCheckpoint extends SavedState {
  /** The files of the image, as they were written. */
  readonly written: readonly CheckpointFile[];
}

export class OpeningCheckpoint implements AsyncDisposable {
  /** Where the driver's image is being written. */
  readonly memory: string;
  /** An empty folder of the staging area, for whoever has no other for the archive's workspace part. */
  readonly spare: string;
  readonly #givenUp = new AbortController();
  readonly #workspace = Promise.withResolvers<string>();
  #reading: Promise<OpenedArchive> = Promise.reject(new Error("not begun"));
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(folder: string) {
    this.memory = join(folder, "memory");
    this.spare = join(folder, "workspace");
    this.#reading.catch(() => undefined);
    this.#workspace.promise.catch(() => undefined);
  }

  static async begin(options: OpeningOptions): Promise<OpeningCheckpoint> {
    const archive = new OpeningCheckpoint(options.folder);
    await Promise.all([mkdir(archive.memory), mkdir(archive.spare)]);
    archive.#reading = archive.#read(options);
    archive.#reading.catch(() => undefined); // Awaited by `opened`, or of no interest.
    return archive;
  }

  /** Where the archive's workspace part goes, an empty folder: `opened` waits for that. */
  writeWorkspaceTo(folder: string): void {
    this.#workspace.resolve(folder);
  }

  /** O1 */
  async opened(): Promise<OpenedCheckpoint> {
    const { values, files } = await this.#reading;
    const written = (files.memory ?? []).map(({ name, sizeBytes, crc32 }) => ({
      name,
      size_bytes: sizeBytes,
      crc32,
    }));
    return { ...savedState.parse(values.state), written };
  }

  /** O2. Safe to call twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    const reason = new Error("the restore was given up");
    this.#givenUp.abort(reason);
    this.#workspace.reject(reason);
    await Promise.allSettled([this.#reading, this.#writing]);
  }

  #read({ artifactDigest, artifacts, keys, stallMs, maxBytes }: OpeningOptions): Promise<OpenedArchive> {
    const { signal } = this.#givenUp;
    const limit = { what: "reading the checkpoint", stallMs, ofSource: true, signal };
    return withStallLimit(limit, async (watch) => {
      const source = watch(await artifacts.get(artifactDigest));
      if (signal.aborted) source.destroy();
      signal.throwIfAborted();
      const writing = openArchive(source, {
        keys,
        folders: { memory: this.memory, workspace: this.#workspace.promise },
        maxContentBytes: maxBytes,
      });
      this.#writing = writing;
      return await writing;
    });
  }
}
