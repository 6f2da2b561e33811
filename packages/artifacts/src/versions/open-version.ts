/** Reading a version where it lies: no folder, and of its packs only what is asked for. */
import { Readable } from "node:stream";
import type { ArtifactStore } from "../artifact-store.ts";
import { StoreAccess } from "./artifact-access.ts";
import { WorkspaceVersionError } from "./errors.ts";
import type { EntryKind } from "./format.ts";
import type { Manifest } from "./manifest.ts";
import { type LoadedManifest, loadManifest } from "./manifest-artifact.ts";
import type { ManifestCache } from "./manifest-cache.ts";
import { entryAt, showPath } from "./paths.ts";
import { readContent } from "./read-content.ts";
import { artifactsOf } from "./save-job.ts";

/** Sizes in bytes. The root has the empty path and name. */
export interface VersionEntry {
  /** `pathBytes` as text: bytes that are not UTF-8 are shown as U+FFFD. */
  readonly path: string;
  readonly pathBytes: Buffer;
  readonly name: string;
  readonly nameBytes: Buffer;
  readonly kind: EntryKind;
  /** 0 of a directory, the target's length of a symbolic link. */
  readonly sizeBytes: number;
  /** Permission bits, with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Nanoseconds since 1970. */
  readonly mtimeNs: bigint;
  readonly linkTarget?: string;
  readonly linkTargetBytes?: Buffer;
  /** Of a file: hex. Beyond 1 MiB it is of the digests of its chunks, see index.ts. */
  readonly sha256?: string;
  /** Of a further name of a file: the path of its first name. */
  readonly linkOf?: Buffer;
  readonly attributes: readonly { readonly name: string; readonly value: Buffer }[];
}

/** Loads the manifest (through the cache, if given). Rejects with `artifact_missing` or `artifact_corrupt`. */
export async function openVersion(
  artifacts: ArtifactStore,
  manifestDigest: string,
  cache?: ManifestCache,
): Promise<VersionReader> {
  const load = () => loadManifest(new StoreAccess(artifacts), manifestDigest);
  return new VersionReader(artifacts, await (cache === undefined ? load() : cache.get(manifestDigest, load)));
}

export class VersionReader {
  readonly #artifacts: ArtifactStore;
  readonly loaded: LoadedManifest;
  readonly manifest: Manifest;

  constructor(artifacts: ArtifactStore, loaded: LoadedManifest) {
    this.#artifacts = artifacts;
    this.loaded = loaded;
    this.manifest = loaded.manifest;
  }

  get manifestDigest(): string {
    return this.loaded.digest;
  }

  get contentDigest(): string {
    return this.manifest.contentDigest;
  }

  get sizeBytes(): number {
    return this.manifest.sizeBytes;
  }

  get entryCount(): number {
    return this.manifest.count;
  }

  /** The manifest first, then everything else that the version needs. */
  get artifacts(): readonly string[] {
    return artifactsOf(this.loaded);
  }

  /** Symbolic links are not followed. Throws `not_found`, `invalid_path`. */
  stat(path: string | Uint8Array): VersionEntry {
    return this.entry(entryAt(this.manifest, path));
  }

  /** Direct children by the bytes of their names, those after the name `after`; `next` is the `after` of what follows. */
  list(
    path: string | Uint8Array,
    options: { readonly after?: string | Uint8Array | undefined; readonly limit: number },
  ): { readonly entries: readonly VersionEntry[]; readonly next?: Buffer } {
    const directory = entryAt(this.manifest, path);
    if (this.manifest.kind(directory) !== "directory")
      throw new WorkspaceVersionError("not_found", `${showPath(path)} is no directory in this version`);
    const children = this.manifest.children(directory);
    let from = 0;
    if (options.after !== undefined) {
      const after = Buffer.from(options.after as string).toString("latin1");
      from = this.manifest.childrenFrom(directory, after);
      const at = children[from];
      if (at !== undefined && this.manifest.name(at) === after) from += 1;
    }
    const to = Math.min(children.length, from + options.limit);
    const entries = Array.from(children.subarray(from, to), (child) => this.entry(child));
    const last = entries.at(-1);
    return to < children.length && last !== undefined ? { entries, next: last.nameBytes } : { entries };
  }

  /**
   * The file's bytes from `start` (default 0) up to and without `end` (default its size). Throws `not_found`, `is_a_directory`,
   * `not_a_file` (a symbolic link); the stream errors with `artifact_missing` or `artifact_corrupt`.
   */
  read(
    path: string | Uint8Array,
    range: { readonly start?: number | undefined; readonly end?: number | undefined } = {},
  ): Readable {
    const entry = entryAt(this.manifest, path);
    const kind = this.manifest.kind(entry);
    if (kind !== "file") {
      const reason = kind === "directory" ? "is_a_directory" : "not_a_file";
      throw new WorkspaceVersionError(reason, `${showPath(path)} is a ${kind}, not a file, in this version`);
    }
    return Readable.from(this.contentOf(entry, range), { objectMode: false });
  }

  /** Of an entry that is a file, by its number. */
  contentOf(entry: number, range: { start?: number | undefined; end?: number | undefined } = {}) {
    const size = this.manifest.size[entry] as number;
    const end = Math.min(size, range.end ?? size);
    return readContent(this.#artifacts, this.manifest, entry, Math.min(end, range.start ?? 0), end);
  }

  /** All of them, the root first: a directory, then all that is in it. */
  *entries(): Generator<VersionEntry> {
    for (let entry = 0; entry < this.manifest.count; entry += 1) yield this.entry(entry);
  }

  /** By its number in the order of `entries`. */
  entry(entry: number): VersionEntry {
    const { manifest } = this;
    const pathBytes = manifest.path(entry);
    const nameBytes = Buffer.from(manifest.name(entry), "latin1");
    const kind = manifest.kind(entry);
    const target = manifest.targets.get(entry);
    const linkTargetBytes = target === undefined ? undefined : Buffer.from(target, "latin1");
    const first = manifest.links.get(entry);
    return {
      path: pathBytes.toString("utf8"),
      pathBytes,
      name: nameBytes.toString("utf8"),
      nameBytes,
      kind,
      sizeBytes: manifest.size[entry] as number,
      mode: (manifest.mode[entry] as number) & 0o7777,
      uid: manifest.uid[entry] as number,
      gid: manifest.gid[entry] as number,
      mtimeNs:
        BigInt(manifest.mtimeSeconds[entry] as number) * 1_000_000_000n +
        BigInt(manifest.mtimeNanoseconds[entry] as number),
      ...(linkTargetBytes && { linkTarget: linkTargetBytes.toString("utf8"), linkTargetBytes }),
      ...(kind === "file" && { sha256: manifest.sha256(entry).toString("hex") }),
      ...(first !== undefined && { linkOf: manifest.path(first) }),
      attributes: manifest.attributes.get(entry) ?? [],
    };
  }
}
