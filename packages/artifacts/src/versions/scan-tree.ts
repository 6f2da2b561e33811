/**
 * Walks a folder in the manifest's order and enters what is there, taking over from the previous version what did not change.
 *
 * I1 No step follows a symbolic link, and none leaves the root's file system: see open-directories.ts and read-file.ts.
 * I2 A file whose stat is the index's is not opened (stat-index.ts, I1).
 * I3 A directory whose own stat is the index's has the names that it had: each is looked at, none is listed.
 * I4 What vanishes or changes its kind during the walk is left out: the folder never was in a state that had it.
 */
import type { ContentStore } from "./content-store.ts";
import { type DirectoryRecords, readRecords, record, wordsOf } from "./directory-records.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, type VersionLimits } from "./format.ts";
import type { ManifestBuilder } from "./manifest-builder.ts";
import { DirectoryChangedError, type DirectoryNode, type OpenDirectories } from "./open-directories.ts";
import { FileReader, keptAttributes } from "./read-file.ts";
import type { StatIndex } from "./stat-index.ts";
import { compareEntries, listAttributes, readSymbolicLink, SystemCallError, statOf } from "./syscalls.ts";
import { metadataOf, type PreviousTree, TreeEntries, tooMany } from "./tree-entries.ts";

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
  readonly previous: PreviousTree | undefined;
  readonly excluded: Excluded;
  readonly limits: VersionLimits;
  /** Throws when the save was given up. */
  readonly checkAborted: () => void;
}

interface LevelBase {
  readonly node: DirectoryNode;
  /** Of the directory itself, in the new version. */
  readonly entry: number;
  next: number;
}

/** A directory whose entries were read, beside what it had in the previous version. */
interface ReadLevel extends LevelBase {
  readonly kind: "read";
  readonly records: DirectoryRecords;
  readonly excluded: Excluded | undefined;
  readonly before: Uint32Array;
  beforeNext: number;
}

/** A directory with the same names as in the previous version (I3): `status` says of each what `compareEntries` does. */
interface KnownLevel extends LevelBase {
  readonly kind: "known";
  readonly before: Uint32Array;
  readonly status: Uint8Array;
}

type Level = ReadLevel | KnownLevel;

const none = new Uint32Array(0);
/** The number of an entry that is still to be copied. */
const later = -1;

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
  readonly #entries: TreeEntries;

  constructor(options: ScanOptions) {
    this.#options = options;
    const { directories, contents, builder, limits, checkAborted } = options;
    this.#entries = new TreeEntries(options);
    this.#root = wordsOf(statOf(directories.fd(directories.root), ""));
    this.reader = new FileReader({ contents, builder, root: this.#root, limits, checkAborted });
  }

  async run(): Promise<void> {
    const { directories, previous, excluded, checkAborted } = this.#options;
    const before = previous === undefined ? undefined : 0;
    const isExcluding = excluded.size > 0 ? excluded : undefined;
    const levels = [this.#enter(directories.root, this.#root, 0, before, isExcluding)];
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const below = level.kind === "known" ? this.#nextKnown(level) : this.#nextRead(level);
      if (below === undefined) {
        if (level.node.parent !== undefined) directories.close(level.node);
        levels.pop();
        continue;
      }
      checkAborted();
      const entered = below instanceof Promise ? await below.catch(leftOut) : below;
      if (entered !== null && entered !== undefined) levels.push(entered);
    }
    this.#entries.endRun();
  }

  #enter(
    node: DirectoryNode,
    stat: Uint32Array,
    at: number,
    before: number | undefined,
    excluded: Excluded | undefined,
  ): Level {
    const { directories, limits, previous } = this.#options;
    const fd = directories.fd(node);
    this.#checkDepth(node);
    if (before !== undefined && this.#entries.isUnchanged(stat, at, before) && excluded === undefined)
      return this.#enterKnown(node, before);
    const records = readRecords(fd, limits.maxEntries);
    if (records === undefined) throw tooMany(limits);
    const attributes = keptAttributes(listAttributes(fd));
    const metadata = metadataOf(stat, at, { size: 0, attributes });
    const entry = this.#entries.add(node.depth, node.name, metadata, -1, stat, at);
    const children = before === undefined ? none : (previous?.manifest.children(before) ?? none);
    return { kind: "read", node, entry, records, excluded, before: children, beforeNext: 0, next: 0 };
  }

  /** I3. */
  #enterKnown(node: DirectoryNode, before: number): KnownLevel {
    const { manifest, stats } = this.#options.previous as PreviousTree;
    const fd = this.#options.directories.fd(node);
    const children = manifest.children(before);
    const compared = { names: manifest.names, starts: manifest.nameStart, stats };
    const status = compareEntries(fd, this.#root.subarray(6, 8), compared, children);
    this.#entries.keep(before);
    return { kind: "known", node, entry: later, before: children, status, next: 0 };
  }

  #checkDepth({ depth }: DirectoryNode): void {
    const { maxDepth } = this.#options.limits;
    if (depth <= maxDepth) return;
    throw new WorkspaceVersionError(
      "too_large",
      `the workspace has more than ${maxDepth} levels of directories`,
    );
  }

  /** The next thing to be done in the directory: null when that was little, undefined at the end. */
  #nextKnown(level: KnownLevel): Promise<Level | undefined> | Level | null | undefined {
    const { manifest } = this.#options.previous as PreviousTree;
    for (; level.next < level.before.length; level.next += 1) {
      const entry = level.before[level.next] as number;
      const status = level.status[level.next] as number;
      const isDirectory = manifest.kind(entry) === "directory";
      if (status === 1 && !isDirectory) {
        this.#entries.keep(entry);
        continue;
      }
      level.next += 1;
      if (!isDirectory || status === 0) return this.#visitAgain(level, entry);
      const node = { parent: level.node, name: manifest.name(entry), depth: level.node.depth + 1 };
      const opened = this.#openKnown(node, entry);
      return opened ?? this.#visitAgain(level, entry);
    }
    return undefined;
  }

  /** Undefined when the directory changed just now. */
  #openKnown(node: DirectoryNode, entry: number): Level | undefined {
    try {
      this.#options.directories.fd(node);
    } catch (error) {
      return leftOut(error);
    }
    this.#checkDepth(node);
    return this.#enterKnown(node, entry);
  }

  async #visitAgain(level: KnownLevel, before: number): Promise<Level | undefined> {
    const name = (this.#options.previous as PreviousTree).manifest.name(before);
    const words = wordsOf(statOf(this.#options.directories.fd(level.node), name));
    return this.#visit(level, name, words, 0, before, undefined);
  }

  #nextRead(level: ReadLevel): Promise<Level | undefined> | null | undefined {
    const number = level.next;
    const { names, at, words } = level.records;
    const name = names[number];
    if (name === undefined) return undefined;
    level.next += 1;
    const excluded = level.excluded?.get(name);
    if (excluded === true) {
      this.#options.index.forget(level.entry);
      return null;
    }
    return this.#visit(level, name, words, at[number] as number, this.#findBefore(level, name), excluded);
  }

  /** Enters what the record at `at` is of; answers with the level below when it is a directory. */
  async #visit(
    level: Level,
    name: string,
    words: Uint32Array,
    at: number,
    before: number | undefined,
    excluded: Excluded | undefined,
  ): Promise<Level | undefined> {
    const kind = record.mode(words, at) & S_IFMT;
    if (kind !== S_IFDIR && kind !== S_IFLNK && kind !== S_IFREG) {
      this.#skip(level, name, kind === S_IFIFO ? "fifo" : kind === S_IFSOCK ? "socket" : "device");
      return undefined;
    }
    if (!record.sameMount(words, at, this.#root)) {
      this.#skip(level, name, "mount");
      return undefined;
    }
    const depth = level.node.depth + 1;
    if (kind === S_IFDIR) {
      const node: DirectoryNode = { parent: level.node, name, depth };
      this.#options.directories.fd(node);
      return this.#enter(node, words, at, before, excluded);
    }
    if (before !== undefined && this.#entries.isUnchanged(words, at, before))
      this.#entries.takeOver(depth, name, before, words, at);
    else if (kind === S_IFLNK) this.#addLink(level.node, depth, name, words, at);
    else await this.#addFile(level.node, depth, name, words, at);
    return undefined;
  }

  #findBefore(level: ReadLevel, name: string): number | undefined {
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

  #addLink(node: DirectoryNode, depth: number, name: string, words: Uint32Array, at: number): void {
    const fd = this.#options.directories.fd(node);
    const target = readSymbolicLink(fd, name);
    const attributes = keptAttributes(listAttributes(fd, name));
    this.#entries.add(
      depth,
      name,
      metadataOf(words, at, { size: target.length, target, attributes }),
      -1,
      words,
      at,
    );
  }

  async #addFile(node: DirectoryNode, depth: number, name: string, words: Uint32Array, at: number) {
    if (this.#entries.addKnownLink(depth, name, words, at)) return;
    const found = await this.reader.read(this.#options.directories.fd(node), name);
    if (found === undefined) return;
    if (!found.stable) this.unstable += 1;
    const { stat, size, attributes, extents } = found;
    const metadata = metadataOf(stat, 0, { size, attributes, extents });
    const entry = this.#entries.add(depth, name, metadata, found.content, found.stable ? stat : undefined, 0);
    this.#entries.rememberLink(stat, 0, entry, metadata);
  }

  #skip(level: Level, name: string, kind: SkippedEntry["kind"]): void {
    // What is skipped is said each time: the directory must be read again then.
    if (level.entry !== later) this.#options.index.forget(level.entry);
    this.skippedCount += 1;
    if (this.skipped.length >= maxSkipped) return;
    const parts = [name];
    for (let at: DirectoryNode | undefined = level.node; at?.parent !== undefined; at = at.parent)
      parts.push(at.name);
    this.skipped.push({ path: parts.reverse().join("/"), kind });
  }
}

/** I4. */
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
