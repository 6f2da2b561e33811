/** Saving and restoring without a thread: for tests that do it hundreds of times. */
import type { ArtifactStore } from "../src/artifact-store.ts";
import { StoreAccess } from "../src/versions/artifact-access.ts";
import { defaultVersionLimits } from "../src/versions/format.ts";
import { restoreFolder } from "../src/versions/restore-job.ts";
import { saveFolder } from "../src/versions/save-job.ts";

export async function saveHere(options: {
  readonly folder: string;
  readonly artifacts: ArtifactStore;
  readonly index?: string;
  readonly previous?: { readonly manifestDigest: string };
}) {
  const { folder, artifacts, index, previous } = options;
  const access = new StoreAccess(artifacts);
  const job = {
    folder,
    index,
    previous: previous?.manifestDigest,
    exclude: [],
    limits: defaultVersionLimits,
  };
  const { version, ...rest } = await saveFolder(job, access, () => undefined);
  return { ...version, ...rest, storedBytes: access.storedBytes };
}

export async function restoreHere(options: {
  readonly manifestDigest: string;
  readonly folder: string;
  readonly artifacts: ArtifactStore;
  readonly index?: string;
}) {
  const { manifestDigest, folder, artifacts, index } = options;
  return restoreFolder({ manifestDigest, folder, index }, new StoreAccess(artifacts), () => undefined);
}
