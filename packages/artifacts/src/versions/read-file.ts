/**
 * The content of one file of a folder that may be changing.
 *
 * I1 Only a regular file of the folder's file system is opened for reading: its name is opened as a mere reference first, without
 *    following a link and without touching a device or FIFO, and what was looked at is what is opened.
 * I2 A file that differs between before and after is read again, `attempts` times in all; the last reading stands then, and is not
 *    trusted by the next save.
 */
import { readSync } from "node:fs";
import { Growing } from "./columns.ts";
import type { ContentStore } from "./content-store.ts";
import { record, sameState, wordsOf } from "./directory-records.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { chunkBytes, packMaxBytes, S_IFMT, S_IFREG, type VersionLimits } from "./format.ts";
import type { ManifestBuilder } from "./manifest-builder.ts";
import {
  close,
  type ExtendedAttribute,
  listAttributes,
  nextData,
  openForReading,
  openPath,
  statOf,
} from "./syscalls.ts";

const attempts = 3;
const maxExtents = 1_000_000;
const buffer = Buffer.allocUnsafeSlow(chunkBytes + 1);
const zeros = Buffer.alloc(chunkBytes);

export interface FileContent {
  readonly stat: Uint32Array;
  readonly stable: boolean;
  readonly size: number;
  readonly content: number;
  readonly extents: Float64Array | undefined;
  readonly attributes: readonly ExtendedAttribute[];
}

export interface FileReaderStats {
  /** Files opened for reading, again included. */
  opened: number;
  hashedBytes: number;
}

export class FileReader {
  readonly stats: FileReaderStats = { opened: 0, hashedBytes: 0 };
  readonly #contents: ContentStore;
  readonly #builder: ManifestBuilder;
  readonly #root: Uint32Array;
  readonly #limits: VersionLimits;
  readonly #checkAborted: () => void;

  constructor(options: {
    readonly contents: ContentStore;
    readonly builder: ManifestBuilder;
    /** The record of the folder's root. */
    readonly root: Uint32Array;
    readonly limits: VersionLimits;
    readonly checkAborted: () => void;
  }) {
    this.#contents = options.contents;
    this.#builder = options.builder;
    this.#root = options.root;
    this.#limits = options.limits;
    this.#checkAborted = options.checkAborted;
  }

  /** Undefined when it is no regular file of this file system any more. Throws SystemCallError when it vanished. */
  async read(directory: number, name: string): Promise<FileContent | undefined> {
    const path = openPath(directory, name);
    try {
      for (let attempt = 1; ; attempt += 1) {
        const before = wordsOf(statOf(path, ""));
        if ((record.mode(before, 0) & S_IFMT) !== S_IFREG || !record.sameMount(before, 0, this.#root))
          return undefined;
        const fd = openForReading(path);
        this.stats.opened += 1;
        try {
          const found = await this.#readOpen(fd, record.size(before, 0), name);
          const after = wordsOf(statOf(fd, ""));
          const stable = found.complete && sameState(before, 0, after, 0);
          if (stable || attempt === attempts) return { ...found, stat: after, stable };
        } finally {
          close(fd);
        }
      }
    } finally {
      close(path);
    }
  }

  async #readOpen(fd: number, size: number, name: string) {
    if (size > this.#limits.maxFileBytes || !Number.isSafeInteger(size))
      throw new WorkspaceVersionError(
        "too_large",
        `file ${JSON.stringify(name)} of the workspace has ${size} bytes; the limit is ${this.#limits.maxFileBytes}`,
      );
    const attributes = keptAttributes(listAttributes(fd));
    const extents = findExtents(fd, size, name);
    if (size > chunkBytes) return { ...(await this.#readLarge(fd, size, extents)), attributes, extents };
    const length = readFully(fd, buffer, size + 1, 0);
    this.#count(length);
    const shown = Math.min(length, size);
    const content = shown === 0 ? -1 : this.#contents.add(buffer.subarray(0, shown));
    if (this.#contents.full) await this.#contents.drained();
    return {
      size: shown,
      content,
      complete: length === size,
      attributes,
      extents: shown === size ? extents : undefined,
    };
  }

  async #readLarge(fd: number, size: number, extents: Float64Array | undefined) {
    const chunkIndex = new Growing(Uint32Array);
    const chunkPiece = new Growing(Uint32Array);
    const huge = size >= packMaxBytes;
    let complete = true;
    let next = 0;
    const stretches = extents ?? Float64Array.of(0, size);
    for (let i = 0; i < stretches.length; i += 2) {
      const last = Math.ceil((stretches[i + 1] as number) / chunkBytes);
      for (
        let chunk = Math.max(next, Math.floor((stretches[i] as number) / chunkBytes));
        chunk < last;
        chunk += 1
      ) {
        this.#checkAborted();
        const length = Math.min(chunkBytes, size - chunk * chunkBytes);
        const found = readFully(fd, buffer, length, chunk * chunkBytes);
        this.#count(found);
        if (found < length) {
          complete = false;
          buffer.fill(0, found, length);
        }
        const bytes = buffer.subarray(0, length);
        if (!bytes.equals(zeros.subarray(0, length))) {
          chunkIndex.push(chunk);
          chunkPiece.push(this.#contents.add(bytes, huge));
          if (this.#contents.full) await this.#contents.drained();
        }
        next = chunk + 1;
      }
    }
    if (huge) this.#contents.endHugeFile();
    const content = this.#builder.addLarge(size, chunkIndex.taken().slice(), chunkPiece.taken().slice());
    return { size, content, complete };
  }

  #count(bytes: number): void {
    this.stats.hashedBytes += bytes;
    if (this.stats.hashedBytes > this.#limits.maxBytes)
      throw new WorkspaceVersionError(
        "too_large",
        `the workspace has more than ${this.#limits.maxBytes} bytes of data`,
      );
  }
}

function readFully(fd: number, into: Buffer, length: number, position: number): number {
  let filled = 0;
  while (filled < length) {
    const read = readSync(fd, into, filled, length - filled, position + filled);
    if (read === 0) break;
    filled += read;
  }
  return filled;
}

/** Undefined when the file has no hole. */
function findExtents(fd: number, size: number, name: string): Float64Array | undefined {
  const extents: number[] = [];
  for (let from = 0; from < size; ) {
    const data = nextData(fd, from);
    if (data === undefined || data.start >= size) break;
    extents.push(data.start, Math.min(data.end, size));
    if (extents.length > 2 * maxExtents)
      throw new WorkspaceVersionError(
        "too_large",
        `file ${JSON.stringify(name)} of the workspace has more than ${maxExtents} holes`,
      );
    from = data.end;
  }
  return extents.length === 2 && extents[0] === 0 && extents[1] === size
    ? undefined
    : Float64Array.from(extents);
}

/** Without those that a host sets for itself. */
export function keptAttributes(attributes: readonly ExtendedAttribute[]): ExtendedAttribute[] {
  return attributes.filter(
    ({ name }) =>
      name !== "security.selinux" &&
      name !== "security.ima" &&
      name !== "security.evm" &&
      !name.startsWith("trusted.overlay."),
  );
}
