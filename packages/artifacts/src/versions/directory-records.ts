/** A directory's entries with their stat records, sorted by the bytes of their names. */
import { scan, scanBytes } from "./syscalls.ts";

export interface DirectoryRecords {
  /** latin1, sorted. */
  readonly names: readonly string[];
  /** By entry, where its record starts in `words`. */
  readonly at: Uint32Array;
  readonly words: Uint32Array;
}

const room = Buffer.allocUnsafeSlow(scanBytes);

/** Reads the directory from the descriptor's position on; at most `maxEntries`, else undefined. */
export function readRecords(fd: number, maxEntries: number): DirectoryRecords | undefined {
  const parts: Buffer[] = [];
  let bytes = 0;
  let records = 0;
  for (let length = scan(fd, room); length > 0; length = scan(fd, room)) {
    parts.push(Buffer.from(room.subarray(0, length)));
    bytes += length;
    for (let at = 0; at < length; at += room.readUInt16LE(at)) records += 1;
    if (records > maxEntries) return undefined;
  }
  const all = new Uint8Array(bytes);
  let end = 0;
  for (const part of parts) {
    all.set(part, end);
    end += part.length;
  }
  const words = new Uint32Array(all.buffer);
  const buffer = Buffer.from(all.buffer);
  const places = new Map<string, number>();
  for (let at = 0; at < bytes; at += buffer.readUInt16LE(at)) {
    // One that vanished between its name and its stat is left out.
    if (words[at / 4 + 1] === 0)
      places.set(buffer.toString("latin1", at + 80, at + 80 + buffer.readUInt16LE(at + 2)), at / 4);
  }
  const names = [...places.keys()].sort();
  return { names, at: Uint32Array.from(names, (name) => places.get(name) as number), words };
}

/** The fields of a record that starts at word `at`. */
export const record = {
  mode: (words: Uint32Array, at: number) => words[at + 2] as number,
  links: (words: Uint32Array, at: number) => words[at + 3] as number,
  uid: (words: Uint32Array, at: number) => words[at + 4] as number,
  gid: (words: Uint32Array, at: number) => words[at + 5] as number,
  sameMount: (words: Uint32Array, at: number, other: Uint32Array) =>
    words[at + 6] === other[6] && words[at + 7] === other[7],
  /** Of the device and the inode. */
  identity: (words: Uint32Array, at: number) =>
    `${words[at + 8]}:${words[at + 9]}:${words[at + 10]}:${words[at + 11]}`,
  size: (words: Uint32Array, at: number) => (words[at + 12] as number) + (words[at + 13] as number) * 2 ** 32,
  mtimeSeconds: (words: Uint32Array, at: number) =>
    (words[at + 14] as number) + ((words[at + 15] as number) | 0) * 2 ** 32,
  mtimeNanoseconds: (words: Uint32Array, at: number) => words[at + 18] as number,
};

/** A stat record as words. */
export function wordsOf(stat: Buffer): Uint32Array {
  return new Uint32Array(stat.buffer.slice(stat.byteOffset, stat.byteOffset + stat.length));
}

/** Whether two records are of the same inode, unchanged between them. */
export function sameState(a: Uint32Array, aAt: number, b: Uint32Array, bAt: number): boolean {
  for (let word = 10; word < 20; word += 1) if (a[aAt + word] !== b[bAt + word]) return false;
  return true;
}
