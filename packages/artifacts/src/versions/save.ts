import type { ArtifactStore } from "../artifact-store.ts";
import { type Reserve, StoreAccess } from "./artifact-access.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { defaultVersionLimits, type VersionLimits } from "./format.ts";
import { runInThread } from "./run-thread.ts";
import type { SaveOutcome, VersionSummary } from "./save-job.ts";

export interface SaveTreeOptions {
  /** Absolute. Somebody may be changing it meanwhile. */
  readonly folder: string;
  readonly artifacts: ArtifactStore;
  /** The version that this one follows: what it has is not stored again. */
  readonly previous?: { readonly manifestDigest: string } | undefined;
  /** A local file, outside of `folder`, that remembers what the saved files looked like: unchanged ones are not opened next time. */
  readonly index?: string | undefined;
  /** Paths relative to the folder that are left out, with all below; as bytes, or as text. */
  readonly exclude?: readonly (string | Uint8Array)[] | undefined;
  /** Called with digests before the store is asked for them or given them, and with those of the previous version. */
  readonly reserve?: Reserve | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly limits?: Partial<VersionLimits> | undefined;
}

export interface SavedVersion {
  readonly manifestDigest: string;
  /** Of the tree, whatever packs it lies in: equal trees (content and metadata) have equal ones. */
  readonly contentDigest: string;
  /** The manifest first, then everything else that the version needs to be read. */
  readonly artifacts: readonly string[];
  /** Those of them that the previous version did not need. */
  readonly newArtifacts: readonly string[];
  /** Of all files, with their holes; a file with several names counts once. */
  readonly sizeBytes: number;
  /** The root included. */
  readonly entryCount: number;
  /** The tree equals the previous version's, whose digests these are: nothing was written. */
  readonly unchanged: boolean;
}

/** What is in the folder and cannot be in a version. `mount`: of another file system. */
export interface SkippedPath {
  readonly path: string;
  readonly pathBytes: Buffer;
  readonly kind: "fifo" | "socket" | "device" | "mount";
}

export interface SaveResult extends SavedVersion {
  /** The first thousand. */
  readonly skipped: readonly SkippedPath[];
  readonly stats: {
    readonly skipped: number;
    /** Files opened for reading. */
    readonly opened: number;
    /** Content read. */
    readonly hashedBytes: number;
    /** Given to the store that it did not have, compressed. */
    readonly storedBytes: number;
    /** Content of earlier packs that was written anew. */
    readonly movedBytes: number;
    /** Files that changed each time they were read: what the last reading gave is in the version. */
    readonly unstable: number;
    /** Why the index could not be written: the next save reads everything. */
    readonly indexError?: string;
    readonly scanMs: number;
    readonly totalMs: number;
  };
}

/**
 * Saves the folder as a version. Rejects with a WorkspaceVersionError (`too_large`, `folder_unusable`, `artifact_missing` or
 * `artifact_corrupt` of the previous version), or with what `reserve` or the store rejected with; nothing refers to what was stored until then.
 */
export async function saveTree(options: SaveTreeOptions): Promise<SaveResult> {
  const from = performance.now();
  const access = new StoreAccess(options.artifacts, options.reserve);
  const job = {
    folder: absolute(options.folder),
    previous: options.previous?.manifestDigest,
    index: options.index,
    exclude: (options.exclude ?? []).map((path) => Buffer.from(path as string).toString("latin1")),
    limits: { ...defaultVersionLimits, ...options.limits },
  };
  const outcome = (await runInThread({ kind: "save", job }, access, options.signal)) as SaveOutcome;
  const { opened, hashedBytes, unstable, movedBytes, indexError, scanMs } = outcome;
  return {
    ...savedVersion(outcome.version, outcome.previousArtifacts, outcome.unchanged),
    skipped: outcome.skipped.map(({ path, kind }) => {
      const pathBytes = Buffer.from(path, "latin1");
      return { path: pathBytes.toString("utf8"), pathBytes, kind };
    }),
    stats: {
      skipped: outcome.skippedCount,
      opened,
      hashedBytes,
      storedBytes: access.storedBytes,
      movedBytes,
      unstable,
      ...(indexError !== undefined && { indexError }),
      scanMs,
      totalMs: performance.now() - from,
    },
  };
}

export function savedVersion(
  version: VersionSummary,
  previousArtifacts: readonly string[],
  unchanged: boolean,
): SavedVersion {
  const before = new Set(previousArtifacts);
  return {
    ...version,
    newArtifacts: version.artifacts.filter((digest) => !before.has(digest)),
    unchanged,
  };
}

export function absolute(folder: string): string {
  if (folder.startsWith("/") && !folder.includes("\0")) return folder;
  throw new WorkspaceVersionError(
    "folder_unusable",
    `the workspace folder ${folder} must be an absolute path`,
  );
}
