/** The numbers of the format, and the types that its readers and writers share. */
import type { ExtendedAttribute } from "./syscalls.ts";

/** A file's content is cut at multiples of this; what is stored and found again is such a chunk, a piece once it is stored. */
export const chunkBytes = 1024 * 1024;
/** Pieces are compressed together up to this much, so that small files share a window; a larger piece is a block of its own. */
export const blockBytes = 256 * 1024;
/** Of content, before compression. A pack ends after `packMinBytes` where a piece's digest says so, at `packMaxBytes` at the latest. */
export const packMinBytes = 8 * 1024 * 1024;
export const packMaxBytes = 16 * 1024 * 1024;
/** A manifest of a million entries takes about 120 MiB. */
export const manifestMaxBytes = 512 * 1024 * 1024;
/** Of targets of links, extended attributes and extents together: what reads a manifest has them in memory, and the guest chooses them. */
export const metadataMaxBytes = 128 * 1024 * 1024;

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;

export type EntryKind = "file" | "directory" | "symlink";

export function kindOf(mode: number): EntryKind {
  if ((mode & S_IFMT) === S_IFDIR) return "directory";
  return (mode & S_IFMT) === S_IFLNK ? "symlink" : "file";
}

export interface VersionLimits {
  /** Entries of the tree, its root included. */
  readonly maxEntries: number;
  /** Of files' data; holes do not count. */
  readonly maxBytes: number;
  /** Of one file, holes included. */
  readonly maxFileBytes: number;
  /** Components of a path. */
  readonly maxDepth: number;
}

/** A million entries, 1 TiB of data, files of 16 TiB with their holes, 4,096 levels. */
export const defaultVersionLimits: VersionLimits = {
  maxEntries: 1_000_000,
  maxBytes: 1024 ** 4,
  maxFileBytes: 16 * 1024 ** 4,
  maxDepth: 4096,
};

export interface Pack {
  readonly digest: string;
  readonly storedBytes: number;
  /** Of all pieces in it, those that no file refers to any more included. */
  readonly rawBytes: number;
}

/** The content of a file of more than one chunk: its chunks that are not all zero. */
export interface LargeContent {
  /** See `ManifestBuilder.addLarge`. */
  readonly sha256: Buffer;
  readonly chunkIndex: Uint32Array;
  readonly chunkPiece: Uint32Array;
}

/** Everything about an entry but where it hangs and what is in it. */
export interface EntryMetadata {
  /** With the bits of the kind. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly size: number;
  /** latin1: a character is a byte. */
  readonly target?: string | undefined;
  readonly attributes?: readonly ExtendedAttribute[] | undefined;
  /** Stretches of data as start, end, start, end, ...; absent when there is no hole. */
  readonly extents?: Float64Array | undefined;
}
