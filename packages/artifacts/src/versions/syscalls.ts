/**
 * Files relative to an open directory, never through a symbolic link: what a folder that somebody else changes needs, and what
 * node:fs lacks (openat and its kin, nanosecond times of links, extended attributes, holes, a directory with its stats in one call).
 *
 * Synchronous: for worker threads. Names are latin1 strings of one component: a character is a byte. Every function throws a
 * `SystemCallError` with `code`; descriptors are closed with `close`. Linux only; the addon is loaded at the first use.
 */
import { constants } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { getSystemErrorName } from "node:util";
import { WorkspaceVersionError } from "./errors.ts";

interface Addon {
  call(number: number, ...args: readonly (number | Uint8Array)[]): number;
  stat(directory: number, name: Uint8Array, out: Uint8Array): number;
  scan(directory: number, out: Uint8Array): number;
  compare(
    directory: number,
    mount: Uint32Array,
    names: Uint8Array,
    starts: Uint32Array,
    entries: Uint32Array,
    stats: Uint32Array,
    out: Uint8Array,
  ): number;
}

/** By processor: x86-64, then arm64. */
const numbers = {
  openat: [257, 56],
  close: [3, 57],
  mkdirat: [258, 34],
  fchownat: [260, 54],
  linkat: [265, 37],
  symlinkat: [266, 36],
  readlinkat: [267, 78],
  fchmod: [91, 52],
  utimensat: [280, 88],
  lseek: [8, 62],
  ftruncate: [77, 46],
  lsetxattr: [189, 6],
  fsetxattr: [190, 7],
  lgetxattr: [192, 9],
  fgetxattr: [193, 10],
  llistxattr: [195, 12],
  flistxattr: [196, 13],
} as const;

const AT_EMPTY_PATH = 0x1000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_FDCWD = -100;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const UTIME_OMIT = 0x3ffffffe;
const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_NONBLOCK } = constants;

/** Bytes of a stat record, and where its fields are; native/files.c has the list. */
export const statBytes = 80;
export const scanBytes = 128 * 1024;

export class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  readonly code: string;
  constructor(call: string, code: string) {
    super(`${call} failed: ${code}`);
    this.code = code;
  }
}

let loaded: Addon | undefined;

function addon(): Addon {
  if (loaded === undefined) {
    const file = join(dirname(fileURLToPath(import.meta.url)), "../../native", `files-${process.arch}.node`);
    if (process.platform !== "linux")
      throw new WorkspaceVersionError("folder_unusable", "workspace folders can be saved on Linux only");
    const module = { exports: {} };
    process.dlopen(module, file);
    loaded = module.exports as Addon;
  }
  return loaded;
}

const processor = process.arch === "arm64" ? 1 : 0;

function failed(call: string, result: number): SystemCallError {
  return new SystemCallError(call, getSystemErrorName(result));
}

function call(name: keyof typeof numbers, ...args: readonly (number | Uint8Array)[]): number {
  const result = addon().call(numbers[name][processor], ...args);
  if (result < 0) throw failed(name, result);
  return result;
}

const cString = (name: string) => Buffer.from(`${name}\0`, "latin1");

/** The directory at an absolute path of the host, symbolic links followed: for a path that we chose. */
export function openRoot(path: string | Uint8Array): number {
  const bytes = Buffer.concat([Buffer.from(path as string), Buffer.of(0)]);
  return call("openat", AT_FDCWD, bytes, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

export function openDirectory(directory: number, name: string): number {
  return call("openat", directory, cString(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
}

/** A descriptor that opens nothing: neither a device nor a FIFO notices. For `statOf` and `openForReading`. */
export function openPath(directory: number, name: string): number {
  return call("openat", directory, cString(name), O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
}

/** The file that a descriptor of `openPath` stands for, whatever its name leads to by now. */
export function openForReading(path: number): number {
  return call("openat", AT_FDCWD, cString(`/proc/self/fd/${path}`), O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
}

export function createFile(directory: number, name: string): number {
  return call(
    "openat",
    directory,
    cString(name),
    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
    0o600,
  );
}

export function openForWriting(directory: number, name: string): number {
  return call("openat", directory, cString(name), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
}

export function close(fd: number): void {
  addon().call(numbers.close[processor], fd);
}

export function makeDirectory(directory: number, name: string): void {
  call("mkdirat", directory, cString(name), 0o700);
}

export function makeSymbolicLink(directory: number, name: string, target: string): void {
  call("symlinkat", cString(target), directory, cString(name));
}

export function makeLink(from: number, fromName: string, to: number, toName: string): void {
  call("linkat", from, cString(fromName), to, cString(toName), 0);
}

const targetBuffer = Buffer.alloc(4096);

export function readSymbolicLink(directory: number, name: string): string {
  const length = call("readlinkat", directory, cString(name), targetBuffer, targetBuffer.length);
  return targetBuffer.toString("latin1", 0, length);
}

/** Of a name in the directory (a link itself), or with the empty name of the descriptor. */
export function setOwner(directory: number, name: string, uid: number, gid: number): void {
  call("fchownat", directory, cString(name), uid, gid, name === "" ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW);
}

export function setMode(fd: number, mode: number): void {
  call("fchmod", fd, mode);
}

/** Likewise; the time of access stays. */
export function setModified(directory: number, name: string, seconds: number, nanoseconds: number): void {
  const times = Buffer.alloc(32);
  times.writeBigInt64LE(BigInt(UTIME_OMIT), 8);
  times.writeBigInt64LE(BigInt(seconds), 16);
  times.writeBigInt64LE(BigInt(nanoseconds), 24);
  call("utimensat", directory, name === "" ? 0 : cString(name), times, name === "" ? 0 : AT_SYMLINK_NOFOLLOW);
}

export function truncate(fd: number, size: number): void {
  call("ftruncate", fd, size);
}

/** The next stretch of data at or after `from`, or undefined when there is none. */
export function nextData(fd: number, from: number): { start: number; end: number } | undefined {
  try {
    const start = call("lseek", fd, from, SEEK_DATA);
    return { start, end: call("lseek", fd, start, SEEK_HOLE) };
  } catch (error) {
    if (error instanceof SystemCallError && error.code === "ENXIO") return undefined;
    throw error;
  }
}

/** The record of a name in the directory, or with the empty name of the descriptor. */
export function statOf(directory: number, name: string): Buffer {
  const record = Buffer.alloc(statBytes);
  const result = addon().stat(directory, cString(name), record);
  if (result < 0) throw failed("statx", result);
  return record;
}

/** Fills `out` (`scanBytes`) with records of the next entries and returns their bytes, 0 at the end. Names are in no order. */
export function scan(directory: number, out: Uint8Array): number {
  const result = addon().scan(directory, out);
  if (result < 0) throw failed("getdents64", result);
  return result;
}

export interface ComparedNames {
  /** Names one after the other; that of entry n is from `starts[n]` to `starts[n + 1]`. */
  readonly names: Uint8Array;
  readonly starts: Uint32Array;
  /** Ten words by entry: a record from its inode on. */
  readonly stats: Uint32Array;
}

/** By one of `entries`: 0 what is at its name now differs from `stats` or is not on that mount, 1 it is the same, 2 so with several links. */
export function compareEntries(
  directory: number,
  mount: Uint32Array,
  { names, starts, stats }: ComparedNames,
  entries: Uint32Array,
): Uint8Array {
  const out = new Uint8Array(entries.length);
  const result = addon().compare(directory, mount, names, starts, entries, stats, out);
  if (result < 0) throw failed("statx", result);
  return out;
}

export interface ExtendedAttribute {
  readonly name: string;
  readonly value: Buffer;
}

const attributeBuffer = Buffer.alloc(65_536);

/** Sorted by name. Those of a link: give its directory and its name. Attributes that vanish meanwhile are left out. */
export function listAttributes(fd: number, linkName?: string): ExtendedAttribute[] {
  const path = linkName === undefined ? undefined : cString(`/proc/self/fd/${fd}/${linkName}`);
  const listed = optionally(() =>
    path === undefined
      ? call("flistxattr", fd, attributeBuffer, attributeBuffer.length)
      : call("llistxattr", path, attributeBuffer, attributeBuffer.length),
  );
  if (!listed) return [];
  const names = attributeBuffer.toString("latin1", 0, listed - 1).split("\0");
  return names.sort().flatMap((name) => {
    const length = optionally(() =>
      path === undefined
        ? call("fgetxattr", fd, cString(name), attributeBuffer, attributeBuffer.length)
        : call("lgetxattr", path, cString(name), attributeBuffer, attributeBuffer.length),
    );
    return length === undefined ? [] : [{ name, value: Buffer.from(attributeBuffer.subarray(0, length)) }];
  });
}

/** False when the file system or our rights do not allow this attribute. */
export function setAttribute(fd: number, attribute: ExtendedAttribute, linkName?: string): boolean {
  const { name, value } = attribute;
  const set = optionally(() =>
    linkName === undefined
      ? call("fsetxattr", fd, cString(name), value, value.length, 0)
      : call("lsetxattr", cString(`/proc/self/fd/${fd}/${linkName}`), cString(name), value, value.length, 0),
  );
  return set !== undefined;
}

function optionally(work: () => number): number | undefined {
  try {
    return work();
  } catch (error) {
    const expected = ["ENODATA", "EOPNOTSUPP", "ENOTSUP", "EPERM", "EACCES", "EINVAL"];
    if (error instanceof SystemCallError && expected.includes(error.code)) return undefined;
    throw error;
  }
}
