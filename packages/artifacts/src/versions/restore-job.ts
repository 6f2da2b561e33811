/**
 * Restoring a version into an empty folder that nobody else is in, as its thread does it.
 *
 * I1 Nothing is written outside of the folder: every step is one name below a descriptor of a directory that was made here, and
 *    no link is followed (names have no slash, parents are directories: manifest-check.ts).
 * I2 Every pack is fetched once; `packsAhead` of them are in memory.
 * I3 Owner, mode, extended attributes and times are set in this order, and a directory's after all that is in it: each would undo the next.
 */
import { writeSync } from "node:fs";
import type { ArtifactAccess } from "./artifact-access.ts";
import { readRecords } from "./directory-records.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { chunkBytes, packMaxBytes } from "./format.ts";
import type { Manifest } from "./manifest.ts";
import { loadManifest } from "./manifest-artifact.ts";
import { type DirectoryNode, OpenDirectories } from "./open-directories.ts";
import { type PlacedPiece, readPack } from "./pack-blocks.ts";
import { type PieceUsers, piecesByPack, usersOfPieces } from "./piece-users.ts";
import { indexRestored } from "./restored-index.ts";
import type { StatIndex } from "./stat-index.ts";
import {
  close,
  createFile,
  makeDirectory,
  makeLink,
  makeSymbolicLink,
  openForWriting,
  SystemCallError,
  setAttribute,
  setMode,
  setModified,
  setOwner,
  truncate,
} from "./syscalls.ts";

const packsAhead = 2;

export interface RestoreJob {
  readonly folder: string;
  readonly manifestDigest: string;
  readonly index: string | undefined;
}

export interface RestoreOutcome {
  readonly entryCount: number;
  readonly sizeBytes: number;
  /** Holes not counted. */
  readonly writtenBytes: number;
  readonly packs: number;
  /** Extended attributes that this file system or these rights do not allow. */
  readonly attributesNotSet: number;
  /** Why the index could not be written: the first save reads everything. */
  readonly indexError?: string;
  readonly totalMs: number;
}

export async function restoreFolder(
  job: RestoreJob,
  artifacts: ArtifactAccess,
  checkAborted: () => void,
): Promise<RestoreOutcome> {
  const from = performance.now();
  const version = await loadManifest(artifacts, job.manifestDigest);
  const { manifest } = version;
  const restore = new Restore(job.folder, manifest, checkAborted);
  let indexError: string | undefined;
  try {
    restore.makeTree();
    await restore.writeContents(artifacts);
    restore.makeLinks();
    restore.finishDirectories();
    if (job.index !== undefined) indexError = await (await restore.index().stage(job.index, version))();
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    throw new WorkspaceVersionError(
      "folder_unusable",
      `the workspace cannot be restored into ${job.folder}: ${error.message}`,
      { cause: error },
    );
  } finally {
    restore.close();
  }
  return {
    entryCount: manifest.count,
    sizeBytes: manifest.sizeBytes,
    packs: manifest.packs.length,
    ...restore.stats,
    ...(indexError !== undefined && { indexError }),
    totalMs: performance.now() - from,
  };
}

class Restore {
  readonly stats = { writtenBytes: 0, attributesNotSet: 0 };
  readonly #manifest: Manifest;
  readonly #directories: OpenDirectories;
  readonly #nodes: (DirectoryNode | undefined)[];
  readonly #users: PieceUsers;
  /** Chunks still to come, of large files that were begun. */
  readonly #begun = new Map<number, number>();
  readonly #checkAborted: () => void;

  constructor(folder: string, manifest: Manifest, checkAborted: () => void) {
    this.#manifest = manifest;
    this.#checkAborted = checkAborted;
    this.#directories = new OpenDirectories(folder);
    this.#nodes = new Array(manifest.count);
    this.#nodes[0] = this.#directories.root;
    this.#users = usersOfPieces(manifest);
    const found = readRecords(this.#directories.fd(this.#directories.root), 1000);
    if (found === undefined || found.names.length > 0) {
      this.close();
      throw new WorkspaceVersionError(
        "folder_unusable",
        `the folder ${folder} must be empty to restore into it`,
      );
    }
  }

  close(): void {
    this.#directories.closeAll();
  }

  /** Directories, links, and files without content. */
  makeTree(): void {
    const manifest = this.#manifest;
    for (let entry = 1; entry < manifest.count; entry += 1) {
      if (entry % 256 === 0) this.#checkAborted();
      const kind = manifest.kind(entry);
      const name = manifest.name(entry);
      const parent = this.#nodes[manifest.parent[entry] as number] as DirectoryNode;
      if (kind === "directory") {
        makeDirectory(this.#directories.fd(parent), name);
        this.#nodes[entry] = { parent, name, depth: parent.depth + 1 };
      } else if (kind === "symlink") {
        const fd = this.#directories.fd(parent);
        makeSymbolicLink(fd, name, manifest.targets.get(entry) as string);
        this.#setOwner(fd, name, entry);
        this.#setAttributes(fd, entry, name);
        this.#setModified(fd, name, entry);
      } else if (this.#hasNoPiece(entry) && !manifest.links.has(entry)) {
        const fd = createFile(this.#directories.fd(parent), name);
        try {
          truncate(fd, manifest.size[entry] as number);
          this.#finish(fd, entry);
        } finally {
          close(fd);
        }
      }
    }
  }

  #hasNoPiece(entry: number): boolean {
    const { size, large, content } = this.#manifest;
    if (size[entry] === 0) return true;
    return this.#manifest.isLarge(entry) && large[content[entry] as number]?.chunkIndex.length === 0;
  }

  /** I2. */
  async writeContents(artifacts: ArtifactAccess): Promise<void> {
    const { packs } = this.#manifest;
    const pieces = piecesByPack(this.#manifest);
    const ahead: Promise<Uint8Array>[] = [];
    let next = 0;
    const fetchNext = () => {
      const pack = packs[next];
      if (pack === undefined) return;
      next += 1;
      const fetched = artifacts.fetch(pack.digest, packMaxBytes);
      fetched.catch(() => undefined);
      ahead.push(fetched);
    };
    for (let i = 0; i < packsAhead; i += 1) fetchNext();
    for (let index = 0; index < packs.length; index += 1) {
      const bytes = (await ahead.shift()) as Uint8Array;
      fetchNext();
      this.#checkAborted();
      this.#writePack(packs[index]?.digest as string, bytes, pieces[index] ?? []);
    }
  }

  #writePack(digest: string, bytes: Uint8Array, pieces: readonly PlacedPiece[]): void {
    const { blockStart, blockStored, blockRaw } = this.#manifest;
    const block = (at: number) => ({
      start: blockStart[at] as number,
      stored: blockStored[at] as number,
      raw: blockRaw[at] as number,
    });
    for (const { piece, content } of readPack(digest, bytes, pieces, block)) {
      const end = this.#users.start[piece + 1] as number;
      for (let user = this.#users.start[piece] as number; user < end; user += 1)
        this.#writePiece(this.#users.entry[user] as number, this.#users.chunk[user] as number, content);
    }
  }

  #writePiece(entry: number, chunk: number, content: Buffer): void {
    const manifest = this.#manifest;
    const name = manifest.name(entry);
    const parent = this.#directories.fd(this.#nodes[manifest.parent[entry] as number] as DirectoryNode);
    const large = manifest.isLarge(entry) ? manifest.large[manifest.content[entry] as number] : undefined;
    const left = (this.#begun.get(entry) ?? large?.chunkIndex.length ?? 1) - 1;
    const begun = this.#begun.has(entry);
    const fd = begun ? openForWriting(parent, name) : createFile(parent, name);
    try {
      const extents = manifest.extents.get(entry);
      if (!begun && (large !== undefined || extents !== undefined))
        truncate(fd, manifest.size[entry] as number);
      this.#write(fd, content, chunk * chunkBytes, extents);
      if (left > 0) this.#begun.set(entry, left);
      else {
        this.#begun.delete(entry);
        this.#finish(fd, entry);
      }
    } finally {
      close(fd);
    }
  }

  index(): StatIndex {
    return indexRestored(this.#manifest, this.#directories, this.#nodes);
  }

  /** The part of the content that is in `extents`: the rest are holes, and zero. */
  #write(fd: number, content: Buffer, position: number, extents: Float64Array | undefined): void {
    const write = (from: number, to: number) => {
      this.stats.writtenBytes += to - from;
      for (let at = from; at < to; ) at += writeSync(fd, content, at, to - at, position + at);
    };
    if (extents === undefined) {
      write(0, content.length);
      return;
    }
    for (let i = firstExtentAfter(extents, position); i < extents.length; i += 2) {
      const start = extents[i] as number;
      if (start >= position + content.length) break;
      write(Math.max(0, start - position), Math.min(content.length, (extents[i + 1] as number) - position));
    }
  }

  makeLinks(): void {
    const manifest = this.#manifest;
    for (const [entry, first] of manifest.links) {
      const from = this.#nodes[manifest.parent[first] as number] as DirectoryNode;
      const to = this.#nodes[manifest.parent[entry] as number] as DirectoryNode;
      const toFd = this.#directories.fd(to);
      // Opening the one may close the other only among more than two.
      makeLink(this.#directories.fd(from), manifest.name(first), toFd, manifest.name(entry));
    }
  }

  /** I3. */
  finishDirectories(): void {
    for (let entry = this.#manifest.count - 1; entry >= 0; entry -= 1) {
      const node = this.#nodes[entry];
      if (node !== undefined) this.#finish(this.#directories.fd(node), entry);
    }
  }

  /** I3. */
  #finish(fd: number, entry: number): void {
    this.#setOwner(fd, "", entry);
    setMode(fd, (this.#manifest.mode[entry] as number) & 0o7777);
    this.#setAttributes(fd, entry);
    this.#setModified(fd, "", entry);
  }

  #setOwner(fd: number, name: string, entry: number): void {
    const { uid, gid } = this.#manifest;
    try {
      setOwner(fd, name, uid[entry] as number, gid[entry] as number);
    } catch (error) {
      // Without root's rights everything is ours.
      if (process.getuid?.() === 0) throw error;
    }
  }

  #setAttributes(fd: number, entry: number, linkName?: string): void {
    for (const attribute of this.#manifest.attributes.get(entry) ?? [])
      if (!setAttribute(fd, attribute, linkName)) this.stats.attributesNotSet += 1;
  }

  #setModified(fd: number, name: string, entry: number): void {
    const { mtimeSeconds, mtimeNanoseconds } = this.#manifest;
    setModified(fd, name, mtimeSeconds[entry] as number, mtimeNanoseconds[entry] as number);
  }
}

/** The first extent that ends after `position`. */
function firstExtentAfter(extents: Float64Array, position: number): number {
  let low = 0;
  let high = extents.length / 2;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((extents[middle * 2 + 1] as number) <= position) low = middle + 1;
    else high = middle;
  }
  return low * 2;
}
