/** A new version out of an earlier one and files that somebody uploads, without a folder on disk. */
import { Readable } from "node:stream";
import type { ArtifactStore } from "../artifact-store.ts";
import { type Reserve, StoreAccess } from "./artifact-access.ts";
import { ContentStore } from "./content-store.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { defaultVersionLimits, type VersionLimits } from "./format.ts";
import { loadManifest } from "./manifest-artifact.ts";
import { ManifestBuilder } from "./manifest-builder.ts";
import type { ManifestCache } from "./manifest-cache.ts";
import { kindBits, MemoryTree, type Owner } from "./memory-tree.ts";
import { namesOfPath } from "./paths.ts";
import { readTar } from "./read-tar.ts";
import { type SavedVersion, savedVersion } from "./save.ts";
import { artifactsOf, makeVersion, summaryOf } from "./save-job.ts";
import { ContentWriter } from "./write-content.ts";

export interface AppliedFile {
  /** Relative to the root; directories above it are made. */
  readonly path: string | Uint8Array;
  readonly content: Uint8Array | Readable;
  /** Permission bits, 0o644 if not given; a file that is replaced keeps its own. */
  readonly mode?: number | undefined;
}

export interface ApplyFilesOptions {
  readonly artifacts: ArtifactStore;
  /** The version that this one is on top of, or with `replace` only spares storing again what it has. */
  readonly base?: { readonly manifestDigest: string } | undefined;
  readonly cache?: ManifestCache | undefined;
  /** Begin with an empty tree. */
  readonly replace?: boolean | undefined;
  /** Applied in this order: paths that go, with all below (missing ones are ignored), a tar (not compressed), single files. */
  readonly remove?: readonly (string | Uint8Array)[] | undefined;
  readonly tar?: Readable | undefined;
  readonly files?: readonly AppliedFile[] | undefined;
  /** Of everything applied. Otherwise a tar's entries have their own, single files that of the directory above. */
  readonly owner?: Owner | undefined;
  readonly reserve?: Reserve | undefined;
  readonly signal?: AbortSignal | undefined;
  /** `maxBytes` and `maxFileBytes` are of what is applied, `maxEntries` and `maxDepth` of the tree that results. */
  readonly limits?: Partial<VersionLimits> | undefined;
}

export interface ApplyResult extends SavedVersion {
  readonly stats: {
    readonly writtenBytes: number;
    readonly storedBytes: number;
    /** Of the tar: FIFOs and devices; extended attributes that are not user.*. */
    readonly skipped: number;
    readonly attributesLeftOut: number;
  };
}

/**
 * Rejects with a WorkspaceVersionError: `invalid_path` (with `..` or NUL, in a tar also absolute, below a file or a symbolic link, or in place of a
 * directory that is not empty), `invalid_archive`, `too_large`, `artifact_missing` or `artifact_corrupt` of the base; or with what a
 * source, `reserve` or the store rejected with; nothing refers to what was stored until then.
 */
export async function applyFiles(options: ApplyFilesOptions): Promise<ApplyResult> {
  const limits = { ...defaultVersionLimits, ...options.limits };
  const access = new StoreAccess(options.artifacts, options.reserve);
  const base = await loadBase(options, access);
  if (base !== undefined) await access.reserve(artifactsOf(base));
  const contents = new ContentStore(access, base?.manifest);
  const builder = new ManifestBuilder(contents, base?.manifest);
  const writer = new ContentWriter(contents, builder, limits);
  const nowNs = BigInt(Date.now()) * 1_000_000n;
  const tree = new MemoryTree(options.replace ? undefined : base?.manifest, nowNs, limits);
  let stats = { skipped: 0, attributesLeftOut: 0 };
  try {
    for (const path of options.remove ?? []) tree.remove(namesOfPath(path));
    if (options.tar !== undefined)
      stats = await readTar(abortable(options.tar, options.signal), tree, writer, options.owner);
    for (const file of options.files ?? []) await putFile(file, options, tree, writer, nowNs);
    options.signal?.throwIfAborted();
    await tree.enter(builder, contents);
    const { version, stored } = await makeVersion(builder, contents, base, access);
    await stored;
    const before = base === undefined ? [] : artifactsOf(base);
    return {
      ...savedVersion(summaryOf(version), before, version === base),
      stats: { writtenBytes: writer.bytes, storedBytes: access.storedBytes, ...stats },
    };
  } catch (error) {
    await contents.discard();
    throw error;
  } finally {
    options.tar?.destroy();
    for (const { content } of options.files ?? []) if (content instanceof Readable) content.destroy();
  }
}

async function loadBase({ base, cache }: ApplyFilesOptions, access: StoreAccess) {
  if (base === undefined) return undefined;
  const load = () => loadManifest(access, base.manifestDigest);
  return cache === undefined ? load() : cache.get(base.manifestDigest, load);
}

async function putFile(
  { path, content, mode }: AppliedFile,
  options: ApplyFilesOptions,
  tree: MemoryTree,
  writer: ContentWriter,
  nowNs: bigint,
): Promise<void> {
  const names = namesOfPath(path);
  if (names.some((name) => name.length > 255))
    throw new WorkspaceVersionError("invalid_path", "a name in a workspace has at most 255 bytes");
  const replaced = tree.file(names)?.metadata;
  const source = content instanceof Readable ? content : Readable.from([Buffer.from(content)]);
  const written = await writer.write(abortable(source, options.signal));
  const bits = mode === undefined ? (replaced?.mode ?? 0o644) : mode;
  const { uid, gid } = options.owner ?? replaced ?? tree.ownerAbove(names);
  tree.putFile(names, {
    metadata: {
      mode: kindBits.file | (bits & 0o7777),
      uid,
      gid,
      mtimeSeconds: Number(nowNs / 1_000_000_000n),
      mtimeNanoseconds: Number(nowNs % 1_000_000_000n),
      size: written.size,
      attributes: replaced?.attributes,
    },
    content: written.content,
  });
}

function abortable(source: Readable, signal: AbortSignal | undefined): Readable {
  if (signal === undefined) return source;
  signal.throwIfAborted();
  const end = () => source.destroy(signal.reason);
  signal.addEventListener("abort", end, { once: true });
  source.once("close", () => signal.removeEventListener("abort", end));
  return source;
}
