/** Saving a folder, as its thread does it: scan, compare, compact, store. Nothing refers to what is stored until all of it is. */
import type { ArtifactAccess } from "./artifact-access.ts";
import { compact } from "./compaction.ts";
import { ContentStore } from "./content-store.ts";
import type { VersionLimits } from "./format.ts";
import { encodeManifest, type LoadedManifest, loadManifest, parseManifest } from "./manifest-artifact.ts";
import { ManifestBuilder } from "./manifest-builder.ts";
import { OpenDirectories } from "./open-directories.ts";
import { type Excluded, type SkippedEntry, scanTree } from "./scan-tree.ts";
import { readStatIndex, StatIndex, statWords } from "./stat-index.ts";

export interface SaveJob {
  readonly folder: string;
  readonly previous: string | undefined;
  readonly index: string | undefined;
  /** Paths as latin1. */
  readonly exclude: readonly string[];
  readonly limits: VersionLimits;
}

export interface VersionSummary {
  readonly manifestDigest: string;
  readonly contentDigest: string;
  readonly artifacts: string[];
  readonly sizeBytes: number;
  readonly entryCount: number;
}

export interface SaveOutcome {
  readonly version: VersionSummary;
  readonly unchanged: boolean;
  readonly previousArtifacts: string[];
  readonly skipped: readonly SkippedEntry[];
  readonly skippedCount: number;
  readonly opened: number;
  readonly hashedBytes: number;
  readonly unstable: number;
  readonly movedBytes: number;
  readonly indexError: string | undefined;
  readonly scanMs: number;
  readonly totalMs: number;
}

export async function saveFolder(
  job: SaveJob,
  artifacts: ArtifactAccess,
  checkAborted: () => void,
): Promise<SaveOutcome> {
  const from = performance.now();
  const known = await loadPrevious(job, artifacts);
  const previous = known?.version;
  const reserved = artifacts.reserve(previous === undefined ? [] : artifactsOf(previous));
  // Awaited when it is needed; a scan that fails first says why.
  reserved.catch(() => undefined);
  const contents = new ContentStore(artifacts, previous?.manifest);
  const builder = new ManifestBuilder(contents, previous?.manifest);
  const index = new StatIndex(Date.now());
  const directories = new OpenDirectories(job.folder);
  let scanned: Awaited<ReturnType<typeof scanTree>>;
  const scanFrom = performance.now();
  try {
    scanned = await scanTree({
      directories,
      contents,
      builder,
      index,
      previous: known && { manifest: known.version.manifest, stats: known.stats },
      excluded: excludedTree(job.exclude),
      limits: job.limits,
      checkAborted,
    });
  } finally {
    directories.closeAll();
  }
  const scanMs = performance.now() - scanFrom;
  await reserved;
  const { version, movedBytes, stored } = await makeVersion(builder, contents, previous, artifacts);
  const staged = job.index === undefined ? undefined : index.stage(job.index, version);
  await stored;
  const indexError = await (await staged)?.();
  return {
    version: summaryOf(version),
    unchanged: version === previous,
    previousArtifacts: previous === undefined ? [] : artifactsOf(previous),
    ...scanned,
    movedBytes,
    indexError,
    scanMs,
    totalMs: performance.now() - from,
  };
}

async function loadPrevious({ previous, index }: SaveJob, artifacts: ArtifactAccess) {
  if (previous === undefined) return undefined;
  const found = index === undefined ? undefined : await readStatIndex(index, previous);
  if (found !== undefined) return found;
  const version = await loadManifest(artifacts, previous);
  // Never matches: everything is read, and what the previous version has is not stored again.
  return { version, stats: new Uint32Array(version.manifest.count * statWords).fill(0xffffffff) };
}

/** Ends the tree that `builder` holds: the previous version when it is the same, else a new one, which is there when it is `stored`. */
export async function makeVersion(
  builder: ManifestBuilder,
  contents: ContentStore,
  previous: LoadedManifest | undefined,
  artifacts: ArtifactAccess,
): Promise<{
  readonly version: LoadedManifest;
  readonly movedBytes: number;
  readonly stored: Promise<unknown>;
}> {
  const contentDigest = builder.contentDigest();
  if (previous !== undefined && previous.manifest.contentDigest === contentDigest) {
    await contents.discard();
    return { version: previous, movedBytes: 0, stored: Promise.resolve() };
  }
  const movedBytes =
    previous === undefined ? 0 : await compact(contents, builder.usedPieces(), previous.manifest, artifacts);
  contents.endPacks();
  const raw = builder.encode(contentDigest);
  const { digest, bytes, base } = encodeManifest(raw, previous);
  const storedBytes = bytes.length;
  const stored = Promise.all([contents.stored(), artifacts.store(digest, bytes)]);
  stored.catch(() => undefined);
  return { version: { digest, manifest: parseManifest(digest, raw), base, storedBytes }, movedBytes, stored };
}

/** All artifacts that the version needs: its manifest, that one's base, its packs. */
export function artifactsOf({ digest, base, manifest }: LoadedManifest): string[] {
  return [digest, ...(base === undefined ? [] : [base.digest]), ...manifest.packs.map((pack) => pack.digest)];
}

export function summaryOf(version: LoadedManifest): VersionSummary {
  return {
    manifestDigest: version.digest,
    contentDigest: version.manifest.contentDigest,
    artifacts: artifactsOf(version),
    sizeBytes: version.manifest.sizeBytes,
    entryCount: version.manifest.count,
  };
}

function excludedTree(paths: readonly string[]): Excluded {
  const root: Excluded = new Map();
  for (const path of paths) {
    const names = path.split("/").filter((name) => name !== "" && name !== ".");
    const last = names.pop();
    let at: Excluded | undefined = root;
    for (const name of names) {
      const below: Excluded | true | undefined = at.get(name);
      if (below === true) {
        at = undefined;
        break;
      }
      const next: Excluded = below ?? new Map();
      at.set(name, next);
      at = next;
    }
    if (last !== undefined) at?.set(last, true);
  }
  return root;
}
