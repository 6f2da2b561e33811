import type { ArtifactStore } from "../artifact-store.ts";
import { StoreAccess } from "./artifact-access.ts";
import type { RestoreOutcome } from "./restore-job.ts";
import { runInThread } from "./run-thread.ts";
import { absolute } from "./save.ts";

export interface RestoreTreeOptions {
  readonly manifestDigest: string;
  /** Absolute, there, empty, and nobody else's meanwhile. */
  readonly folder: string;
  readonly artifacts: ArtifactStore;
  /** Where `saveTree` will look for its index of this folder. */
  readonly index?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Fills the folder with the version, and gives it the root's metadata. Rejects with a WorkspaceVersionError (`artifact_missing`,
 * `artifact_corrupt`, `folder_unusable`); what was written stays.
 */
export async function restoreTree(options: RestoreTreeOptions): Promise<RestoreOutcome> {
  const { manifestDigest, index } = options;
  const job = { folder: absolute(options.folder), manifestDigest, index };
  const access = new StoreAccess(options.artifacts);
  return (await runInThread({ kind: "restore", job }, access, options.signal)) as RestoreOutcome;
}
