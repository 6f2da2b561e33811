/**
 * Walks a folder in the manifest's order and enters what is there, taking over from the previous version what did not change.
 *
 * I1 No step follows a symbolic link, and none leaves the root's file system: see open-directories.ts and read-file.ts.
 * I2 A file whose stat is the index's is not opened (stat-index.ts, I1).
 * I3 What vanishes or changes its kind during the walk is left out: the folder never was in a state that had it.
 */
import type { ContentStore } from "./content-store.ts";
import { type DirectoryRecords, readRecords, record, wordsOf } from "./directory-records.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { type EntryMetadata, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, type VersionLimits } from "./format.ts";
import type { Manifest } from "./manifest.ts";
import type { ManifestBuilder } from "./manifest-builder.ts";
import { DirectoryChangedError, type DirectoryNode, type OpenDirectories } from "./open-directories.ts";
import { FileReader, keptAttributes } from "./read-file.ts";
import { type StatIndex, statWords, statWordsStart } from "./stat-index.ts";
import {
  type ExtendedAttribute,
  listAttributes,
  readSymbolicLink,
  SystemCallError,
  statOf,
} from "./syscalls.ts";

export interface SkippedEntry {
  /** Bytes of the path, as latin1. */
  readonly path: string;
  readonly kind: "fifo" | "socket" | "device" | "mount";
}

const S_IFIFO = 0o010000;
const S_IFSOCK = 0o140000;

/** At most so many are named. */
const maxSkipped = 1000;

/** Paths to leave out, as a tree of names; true: it and all below. */
export type Excluded = Map<string, Excluded | true>;

export interface ScanOptions {
  readonly directories: OpenDirectories;
  readonly contents: ContentStore;
  readonly builder: ManifestBuilder;
  readonly index: StatIndex;
  readonly previous: { readonly manifest: Manifest; readonly stats: Uint32Array } | undefined;
  readonly excluded: Excluded;
  readonly limits: VersionLimits;
  /** Throws when the save was given up. */
  readonly checkAborted: () => void;
}

interface Level {
  readonly node: DirectoryNode;
  readonly records: DirectoryRecords;
  readonly excluded: Excluded | undefined;
  /** The previous version's children of this directory, and the next of them. */
  readonly before: Uint32Array;
  beforeNext: number;
  next: number;
}

const none = new Uint32Array(0);

export async function scanTree(options: ScanOptions) {
  const scan = new TreeScan(options);
  await scan.run();
  const { reader, skipped, skippedCount, unstable } = scan;
  return { ...reader.stats, skipped, skippedCount, unstable };
}

class TreeScan {
  readonly #options: ScanOptions;
  readonly reader: FileReader;
  readonly skipped: SkippedEntry[] = [];
  skippedCount = 0;
  unstable = 0;
  readonly #root: Uint32Array;
  /** Inode -> the first entry with it, of files that have several names. */
  readonly #linked = new Map<string, { readonly entry: number; readonly metadata: EntryMetadata }>();

  constructor(options: ScanOptions) {
    this.#options = options;
    const { directories, contents, builder, limits, checkAborted } = options;
    this.#root = wordsOf(statOf(directories.fd(directories.root), ""));
    this.reader = new FileReader({ contents, builder, root: this.#root, limits, checkAborted });
  }

  async run(): Promise<void> {
    const { directories, previous, excluded, checkAborted } = this.#options;
    const levels = [
      this.#enter(directories.root, this.#root, 0, previous === undefined ? undefined : 0, excluded),
    ];
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      if (level.next === level.records.names.length) {
        if (level.node.parent !== undefined) directories.close(level.node);
        levels.pop();
        continue;
      }
      checkAborted();
      const below = await this.#visit(level, level.next++).catch(leftOut);
      if (below !== undefined) levels.push(below);
    }
  }

  #enter(
    node: DirectoryNode,
    stat: Uint32Array,
    at: number,
    before: number | undefined,
    excluded: Excluded | undefined,
  ): Level {
    const { directories, limits, previous } = this.#options;
    if (node.depth > limits.maxDepth)
      throw new WorkspaceVersionError(
        "too_large",
        `the workspace has more than ${limits.maxDepth} levels of directories`,
      );
    const fd = directories.fd(node);
    const attributes =
      before !== undefined && this.#isUnchanged(stat, at, before)
        ? previous?.manifest.attributes.get(before)
        : keptAttributes(listAttributes(fd));
    const records = readRecords(fd, limits.maxEntries);
    if (records === undefined) throw tooMany(limits);
    this.#add(node.depth, node.name, metadataOf(stat, at, { size: 0, attributes }), -1, stat, at);
    const children = before === undefined ? none : (previous?.manifest.children(before) ?? none);
    return { node, records, excluded, before: children, beforeNext: 0, next: 0 };
  }

  /** Enters the directory's entry of that number; answers with the level below when it is a directory. */
  async #visit(level: Level, number: number): Promise<Level | undefined> {
    const { names, at: places, words } = level.records;
    const name = names[number] as string;
    const at = places[number] as number;
    const excluded = level.excluded?.get(name);
    if (excluded === true) return undefined;
    const before = this.#findBefore(level, name);
    const kind = record.mode(words, at) & S_IFMT;
    if (kind !== S_IFDIR && kind !== S_IFLNK && kind !== S_IFREG) {
      this.#skip(level, name, kind === S_IFIFO ? "fifo" : kind === S_IFSOCK ? "socket" : "device");
      return undefined;
    }
    if (!record.sameDevice(words, at, this.#root)) {
      this.#skip(level, name, "mount");
      return undefined;
    }
    if (kind === S_IFDIR) {
      const node: DirectoryNode = { parent: level.node, name, depth: level.node.depth + 1 };
      this.#options.directories.fd(node);
      return this.#enter(node, words, at, before, excluded);
    }
    const depth = level.node.depth + 1;
    if (before !== undefined && this.#isUnchanged(words, at, before))
      this.#takeOver(depth, name, before, words, at);
    else if (kind === S_IFLNK) this.#addLink(level.node, depth, name, words, at);
    else await this.#addFile(level.node, depth, name, words, at);
    return undefined;
  }

  #findBefore(level: Level, name: string): number | undefined {
    const manifest = this.#options.previous?.manifest;
    if (manifest === undefined) return undefined;
    while (level.beforeNext < level.before.length) {
      const entry = level.before[level.beforeNext] as number;
      const found = manifest.name(entry);
      if (found > name) return undefined;
      level.beforeNext += 1;
      if (found === name) return entry;
    }
    return undefined;
  }

  #isUnchanged(words: Uint32Array, at: number, before: number): boolean {
    const stats = this.#options.previous?.stats;
    if (stats === undefined) return false;
    const from = before * statWords;
    for (let i = 0; i < statWords; i += 1)
      if (stats[from + i] !== words[at + statWordsStart + i]) return false;
    return true;
  }

  /** I2. */
  #takeOver(depth: number, name: string, before: number, words: Uint32Array, at: number): void {
    const manifest = (this.#options.previous as { manifest: Manifest }).manifest;
    if (this.#addKnownLink(depth, name, words, at)) return;
    const metadata = metadataOf(words, at, {
      size: manifest.size[before] as number,
      target: manifest.targets.get(before),
      attributes: manifest.attributes.get(before),
      extents: manifest.extents.get(before),
    });
    const entry = this.#add(depth, name, metadata, manifest.content[before] as number, words, at);
    this.#rememberLink(words, at, entry, metadata);
  }

  #addLink(node: DirectoryNode, depth: number, name: string, words: Uint32Array, at: number): void {
    const fd = this.#options.directories.fd(node);
    const target = readSymbolicLink(fd, name);
    const attributes = keptAttributes(listAttributes(fd, name));
    this.#add(depth, name, metadataOf(words, at, { size: target.length, target, attributes }), -1, words, at);
  }

  async #addFile(node: DirectoryNode, depth: number, name: string, words: Uint32Array, at: number) {
    if (this.#addKnownLink(depth, name, words, at)) return;
    const found = await this.reader.read(this.#options.directories.fd(node), name);
    if (found === undefined) return;
    if (!found.stable) this.unstable += 1;
    const { stat, size, attributes, extents } = found;
    const metadata = metadataOf(stat, 0, { size, attributes, extents });
    const entry = this.#add(depth, name, metadata, found.content, found.stable ? stat : undefined, 0);
    this.#rememberLink(stat, 0, entry, metadata);
  }

  #addKnownLink(depth: number, name: string, words: Uint32Array, at: number): boolean {
    if (record.links(words, at) < 2 || (record.mode(words, at) & S_IFMT) !== S_IFREG) return false;
    const first = this.#linked.get(record.inode(words, at));
    if (first === undefined) return false;
    this.#checkCount();
    this.#options.builder.addLink(depth, name, first.entry, first.metadata);
    this.#options.index.add(words, at);
    return true;
  }

  #rememberLink(words: Uint32Array, at: number, entry: number, metadata: EntryMetadata): void {
    if (record.links(words, at) > 1 && (record.mode(words, at) & S_IFMT) === S_IFREG)
      this.#linked.set(record.inode(words, at), { entry, metadata });
  }

  #add(
    depth: number,
    name: string,
    metadata: EntryMetadata,
    content: number,
    stat: Uint32Array | undefined,
    at: number,
  ): number {
    this.#checkCount();
    this.#options.index.add(stat, at);
    return this.#options.builder.add(depth, name, metadata, content);
  }

  #checkCount(): void {
    if (this.#options.builder.count >= this.#options.limits.maxEntries) throw tooMany(this.#options.limits);
  }

  #skip(level: Level, name: string, kind: SkippedEntry["kind"]): void {
    this.skippedCount += 1;
    if (this.skipped.length >= maxSkipped) return;
    const parts = [name];
    for (let at: DirectoryNode | undefined = level.node; at?.parent !== undefined; at = at.parent)
      parts.push(at.name);
    this.skipped.push({ path: parts.reverse().join("/"), kind });
  }
}

function metadataOf(
  words: Uint32Array,
  at: number,
  rest: {
    readonly size: number;
    readonly target?: string | undefined;
    readonly attributes?: readonly ExtendedAttribute[] | undefined;
    readonly extents?: Float64Array | undefined;
  },
): EntryMetadata {
  return {
    mode: record.mode(words, at),
    uid: record.uid(words, at),
    gid: record.gid(words, at),
    mtimeSeconds: record.mtimeSeconds(words, at),
    mtimeNanoseconds: record.mtimeNanoseconds(words, at),
    ...rest,
  };
}

function tooMany(limits: VersionLimits) {
  return new WorkspaceVersionError("too_large", `the workspace has more than ${limits.maxEntries} entries`);
}

/** I3. */
function leftOut(error: unknown): undefined {
  if (error instanceof DirectoryChangedError) return undefined;
  if (error instanceof SystemCallError) {
    if (["ENOENT", "ENOTDIR", "ELOOP", "ESTALE", "EINVAL"].includes(error.code)) return undefined;
    throw new WorkspaceVersionError(
      "folder_unusable",
      `the workspace folder cannot be read: ${error.message}`,
      {
        cause: error,
      },
    );
  }
  throw error;
}
