/** A version's tree in memory, to be changed by paths that were checked, and entered into a new manifest. */
import type { ContentStore } from "./content-store.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { type EntryMetadata, S_IFDIR, S_IFLNK, S_IFREG, type VersionLimits } from "./format.ts";
import type { Manifest } from "./manifest.ts";
import type { ManifestBuilder } from "./manifest-builder.ts";
import { showPath } from "./paths.ts";

/** A file's content and metadata; several names may share it. */
export interface FileBody {
  readonly metadata: EntryMetadata;
  /** As ManifestBuilder.add takes it. */
  readonly content: number;
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

interface DirectoryBody {
  metadata: EntryMetadata;
  readonly children: Map<string, TreeBody>;
  /** The metadata were given, and stay when something is put into it. */
  given: boolean;
}

type TreeBody =
  | { readonly kind: "directory"; readonly directory: DirectoryBody }
  | { readonly kind: "file"; readonly file: FileBody }
  | { readonly kind: "symlink"; readonly metadata: EntryMetadata };

export class MemoryTree {
  readonly #root: DirectoryBody;
  readonly #now: { readonly seconds: number; readonly nanoseconds: number };
  readonly #limits: VersionLimits;
  #count = 1;

  /** Empty, or the tree of `base`. What is changed gets the time `now`. */
  constructor(base: Manifest | undefined, nowNs: bigint, limits: VersionLimits) {
    this.#now = {
      seconds: Number(nowNs / 1_000_000_000n),
      nanoseconds: Number(nowNs % 1_000_000_000n),
    };
    this.#limits = limits;
    this.#root = base === undefined ? this.#newDirectory({ uid: 0, gid: 0 }) : this.#treeOf(base);
  }

  #treeOf(base: Manifest): DirectoryBody {
    const nodes: DirectoryBody[] = [];
    const files = new Map<number, FileBody>();
    for (let entry = 0; entry < base.count; entry += 1) {
      const metadata = metadataOf(base, entry);
      const kind = base.kind(entry);
      const directory = { metadata, children: new Map<string, TreeBody>(), given: false };
      if (kind === "directory") nodes[entry] = directory;
      if (entry === 0) continue;
      const first = base.links.get(entry);
      const file: FileBody = (first === undefined ? undefined : files.get(first)) ?? {
        metadata,
        content: base.content[entry] as number,
      };
      if (kind === "file") files.set(entry, file);
      const body: TreeBody =
        kind === "directory" ? { kind, directory } : kind === "file" ? { kind, file } : { kind, metadata };
      nodes[base.parent[entry] as number]?.children.set(base.name(entry), body);
    }
    this.#count = base.count;
    return nodes[0] as DirectoryBody;
  }

  #newDirectory(owner: Owner): DirectoryBody {
    const { seconds, nanoseconds } = this.#now;
    const metadata = {
      mode: S_IFDIR | 0o755,
      uid: owner.uid,
      gid: owner.gid,
      mtimeSeconds: seconds,
      mtimeNanoseconds: nanoseconds,
      size: 0,
    };
    return { metadata, children: new Map(), given: false };
  }

  /** The owner of what is put there without one: that of the nearest directory above that exists. */
  ownerAbove(names: readonly string[]): Owner {
    let at = this.#root;
    for (const name of names.slice(0, -1)) {
      const below = at.children.get(name);
      if (below?.kind !== "directory") break;
      at = below.directory;
    }
    return at.metadata;
  }

  /** The file at the path, or undefined. */
  file(names: readonly string[]): FileBody | undefined {
    const body = this.#find(names);
    return body?.kind === "file" ? body.file : undefined;
  }

  putFile(names: readonly string[], file: FileBody): void {
    this.#put(names, { kind: "file", file });
  }

  putSymlink(names: readonly string[], metadata: EntryMetadata): void {
    this.#put(names, { kind: "symlink", metadata });
  }

  /** An existing directory keeps what is in it. */
  putDirectory(names: readonly string[], metadata: EntryMetadata): void {
    const existing = this.#find(names);
    if (existing?.kind === "directory") Object.assign(existing.directory, { metadata, given: true });
    else this.#put(names, { kind: "directory", directory: { metadata, children: new Map(), given: true } });
  }

  /** With all below. False when there is no such path. */
  remove(names: readonly string[]): boolean {
    const parent = this.#find(names.slice(0, -1));
    const name = names.at(-1);
    if (parent?.kind !== "directory" || name === undefined) return false;
    const body = parent.directory.children.get(name);
    if (body === undefined) return false;
    parent.directory.children.delete(name);
    this.#count -= countOf(body);
    this.#touch(parent.directory);
    return true;
  }

  #find(names: readonly string[]): TreeBody | undefined {
    let at: TreeBody | undefined = { kind: "directory", directory: this.#root };
    for (const name of names) at = at?.kind === "directory" ? at.directory.children.get(name) : undefined;
    return at;
  }

  #put(names: readonly string[], body: TreeBody): void {
    const name = names.at(-1);
    if (name === undefined) throw invalid(names, "the root is a directory and stays one");
    if (names.length > this.#limits.maxDepth) throw invalid(names, "it has too many levels");
    const parent = this.#makeParents(names);
    const existing = parent.children.get(name);
    if (existing?.kind === "directory" && body.kind !== "directory" && existing.directory.children.size > 0)
      throw invalid(names, "there is a directory that is not empty");
    if (existing === undefined) {
      this.#countOne();
      this.#touch(parent);
    }
    parent.children.set(name, body);
  }

  #makeParents(names: readonly string[]): DirectoryBody {
    let at = this.#root;
    for (const name of names.slice(0, -1)) {
      let below = at.children.get(name);
      if (below === undefined) {
        this.#countOne();
        below = { kind: "directory", directory: this.#newDirectory(at.metadata) };
        at.children.set(name, below);
        this.#touch(at);
      }
      if (below.kind !== "directory") throw invalid(names, `it lies below a ${below.kind}`);
      at = below.directory;
    }
    return at;
  }

  #touch(directory: DirectoryBody): void {
    if (directory.given) return;
    const { seconds, nanoseconds } = this.#now;
    directory.metadata = { ...directory.metadata, mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds };
  }

  #countOne(): void {
    this.#count += 1;
    if (this.#count > this.#limits.maxEntries)
      throw new WorkspaceVersionError("too_large", `there are more than ${this.#limits.maxEntries} entries`);
  }

  /** Enters everything, in the manifest's order; from time to time it lets others run. */
  async enter(builder: ManifestBuilder, contents: ContentStore): Promise<void> {
    const first = new Map<FileBody, number>();
    builder.add(0, "", this.#root.metadata, -1);
    const stack = [sorted(this.#root)];
    for (let level = stack.at(-1); level !== undefined; level = stack.at(-1)) {
      const next = level.pop();
      if (next === undefined) {
        stack.pop();
        continue;
      }
      const [name, body] = next;
      const depth = stack.length;
      if (body.kind === "directory") {
        builder.add(depth, name, body.directory.metadata, -1);
        stack.push(sorted(body.directory));
      } else if (body.kind === "symlink") builder.add(depth, name, body.metadata, -1);
      else {
        const known = first.get(body.file);
        if (known !== undefined) builder.addLink(depth, name, known, body.file.metadata);
        else first.set(body.file, builder.add(depth, name, body.file.metadata, body.file.content));
      }
      if (builder.count % 10_000 === 0) await new Promise(setImmediate);
      if (contents.full) await contents.drained();
    }
  }
}

/** Last first, to be popped. */
const sorted = (directory: DirectoryBody) => [...directory.children].sort(([a], [b]) => (a < b ? 1 : -1));

function countOf(body: TreeBody): number {
  let count = 0;
  const stack = [body];
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    count += 1;
    if (at.kind === "directory") for (const child of at.directory.children.values()) stack.push(child);
  }
  return count;
}

function metadataOf(manifest: Manifest, entry: number): EntryMetadata {
  return {
    mode: manifest.mode[entry] as number,
    uid: manifest.uid[entry] as number,
    gid: manifest.gid[entry] as number,
    mtimeSeconds: manifest.mtimeSeconds[entry] as number,
    mtimeNanoseconds: manifest.mtimeNanoseconds[entry] as number,
    size: manifest.size[entry] as number,
    target: manifest.targets.get(entry),
    attributes: manifest.attributes.get(entry),
    extents: manifest.extents.get(entry),
  };
}

function invalid(names: readonly string[], what: string): WorkspaceVersionError {
  const path = Buffer.from(names.join("/").slice(0, 1000), "latin1");
  return new WorkspaceVersionError("invalid_path", `${showPath(path)} cannot be put there: ${what}`);
}

export const kindBits = { file: S_IFREG, directory: S_IFDIR, symlink: S_IFLNK };
