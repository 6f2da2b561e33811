/** A decoded manifest: columns by entry, tables of contents, pieces, blocks and packs. Nothing in it is trusted before `check`. */
import { ColumnReader, isCount, isRecord } from "./columns.ts";
import {
  chunkBytes,
  type EntryKind,
  kindOf,
  type LargeContent,
  metadataMaxBytes,
  type Pack,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
} from "./format.ts";
import { checkManifest } from "./manifest-check.ts";
import type { ExtendedAttribute } from "./syscalls.ts";

/** The order of entries: a directory, then all that is in it, its children by the bytes of their names. Entry 0 is the root. */
export class Manifest {
  readonly raw: Buffer;
  readonly count: number;
  readonly contentDigest: string;
  /** Of all files, with their holes, hard links once. */
  readonly sizeBytes: number;
  readonly packs: readonly Pack[];

  /** 0 of the root only. */
  readonly depth: Uint16Array;
  readonly nameLength: Uint8Array;
  readonly names: Buffer;
  readonly mode: Uint16Array;
  readonly uid: Uint32Array;
  readonly gid: Uint32Array;
  readonly mtimeSeconds: Float64Array;
  readonly mtimeNanoseconds: Uint32Array;
  readonly size: Float64Array;
  /** -1 of what has no content; a piece of a file of up to one chunk; else an index of `large`. */
  readonly content: Int32Array;
  readonly targets = new Map<number, string>();
  readonly attributes = new Map<number, readonly ExtendedAttribute[]>();
  /** A further name of a file -> its first name. */
  readonly links = new Map<number, number>();
  readonly extents = new Map<number, Float64Array>();

  readonly large: LargeContent[] = [];
  readonly pieceSha256: Buffer;
  readonly pieceLength: Uint32Array;
  readonly pieceBlock: Uint32Array;
  readonly pieceOffset: Uint32Array;
  readonly blockPack: Uint32Array;
  readonly blockStart: Uint32Array;
  readonly blockStored: Uint32Array;
  readonly blockRaw: Uint32Array;

  /** Derived. */
  readonly nameStart: Uint32Array;
  readonly parent: Uint32Array;
  /** The entry after the last one below. */
  readonly end: Uint32Array;
  #children: { readonly start: Uint32Array; readonly list: Uint32Array } | undefined;

  /** Throws an Error that says what is wrong. `checked`: this process wrote these bytes once, and they are as they were; or the caller takes the `checkSteps`. */
  constructor(raw: Buffer, options: { readonly checked?: boolean } = {}) {
    this.raw = raw;
    const reader = new ColumnReader(raw);
    const { head } = reader;
    if (head.format !== 1) throw new Error("it is of another format");
    if (!isCount(head.entries) || !isCount(head.sizeBytes) || typeof head.contentDigest !== "string")
      throw new Error("its head is of another shape");
    const count = head.entries;
    this.count = count;
    this.sizeBytes = head.sizeBytes;
    this.contentDigest = head.contentDigest;
    this.packs = readPacks(head.packs);

    this.depth = reader.read("depth", Uint16Array, count);
    this.nameLength = reader.read("nameLength", Uint8Array, count);
    this.names = asBuffer(reader.read("names", Uint8Array));
    this.mode = reader.read("mode", Uint16Array, count);
    this.uid = reader.read("uid", Uint32Array, count);
    this.gid = reader.read("gid", Uint32Array, count);
    this.mtimeSeconds = reader.read("mtimeSeconds", Float64Array, count);
    this.mtimeNanoseconds = reader.read("mtimeNanoseconds", Uint32Array, count);
    this.size = reader.read("size", Float64Array, count);
    this.pieceLength = reader.read("pieceLength", Uint32Array);
    this.pieceSha256 = asBuffer(reader.read("pieceSha256", Uint8Array, this.pieceLength.length * 32));
    this.pieceOffset = reader.read("pieceOffset", Uint32Array, this.pieceLength.length);
    this.pieceBlock = summed(reader.read("pieceBlockDelta", Int32Array, this.pieceLength.length));
    this.blockPack = reader.read("blockPack", Uint32Array);
    this.blockStart = reader.read("blockStart", Uint32Array, this.blockPack.length);
    this.blockStored = reader.read("blockStored", Uint32Array, this.blockPack.length);
    this.blockRaw = reader.read("blockRaw", Uint32Array, this.blockPack.length);

    this.nameStart = new Uint32Array(count + 1);
    for (let i = 0; i < count; i += 1)
      this.nameStart[i + 1] = (this.nameStart[i] as number) + (this.nameLength[i] as number);
    this.parent = new Uint32Array(count);
    this.end = new Uint32Array(count).fill(count);
    this.#readTree();
    this.content = this.#readContent(reader);
    this.#readSparse(reader);
    if (options.checked !== true) checkManifest(this);
  }

  #readTree(): void {
    const open: number[] = [];
    for (let i = 0; i < this.count; i += 1) {
      const depth = this.depth[i] as number;
      if (depth > open.length || (depth === 0) !== (i === 0)) throw new Error(`entry ${i} hangs nowhere`);
      while (open.length > depth) this.end[open.pop() as number] = i;
      if (i > 0) {
        const parent = open[depth - 1] as number;
        if (((this.mode[parent] as number) & S_IFMT) !== S_IFDIR)
          throw new Error(`entry ${i} is in what is no directory`);
        this.parent[i] = parent;
      }
      open.push(i);
    }
  }

  #readContent(reader: ColumnReader): Int32Array {
    const content = new Int32Array(this.count).fill(-1);
    const deltas = reader.read("contentDelta", Int32Array);
    let at = 0;
    let last = -1;
    for (let i = 0; i < this.count; i += 1) {
      if (((this.mode[i] as number) & S_IFMT) !== S_IFREG || this.size[i] === 0) continue;
      const delta = deltas[at];
      if (delta === undefined) throw new Error("contents are missing");
      at += 1;
      last += delta;
      content[i] = last;
    }
    if (at !== deltas.length) throw new Error("there are contents of no entry");
    const sha256 = asBuffer(reader.read("largeSha256", Uint8Array));
    const counts = reader.read("largeChunks", Uint32Array, sha256.length / 32);
    const chunkIndex = reader.read("chunkIndex", Uint32Array);
    const chunkPiece = reader.read("chunkPiece", Uint32Array, chunkIndex.length);
    let from = 0;
    counts.forEach((chunks, index) => {
      this.large.push({
        sha256: sha256.subarray(index * 32, index * 32 + 32),
        chunkIndex: chunkIndex.subarray(from, from + chunks),
        chunkPiece: chunkPiece.subarray(from, from + chunks),
      });
      from += chunks;
    });
    if (from !== chunkIndex.length) throw new Error("there are chunks of no file");
    return content;
  }

  #readSparse(reader: ColumnReader): void {
    const targets = asBuffer(reader.read("targets", Uint8Array));
    const attributeSets = asBuffer(reader.read("attributeSets", Uint8Array));
    const extents = reader.read("extents", Float64Array);
    if (targets.length + extents.byteLength > metadataMaxBytes || attributeSets.length > 2 * metadataMaxBytes)
      throw new Error("its targets, extended attributes and extents are too large");
    const targetEntries = reader.read("targetEntries", Uint32Array);
    const targetLengths = reader.read("targetLengths", Uint16Array, targetEntries.length);
    let at = 0;
    targetEntries.forEach((entry, index) => {
      const length = targetLengths[index] as number;
      this.targets.set(entry, targets.toString("latin1", at, at + length));
      at += length;
    });
    if (at !== targets.length) throw new Error("targets of links are damaged");

    const sets = readAttributeSets(attributeSets);
    const attributePairs = reader.read("attributeEntries", Uint32Array);
    for (let i = 0; i + 1 < attributePairs.length; i += 2) {
      const set = sets[attributePairs[i + 1] as number];
      if (set === undefined) throw new Error("extended attributes are missing");
      this.attributes.set(attributePairs[i] as number, set);
    }
    const linkPairs = reader.read("links", Uint32Array);
    for (let i = 0; i + 1 < linkPairs.length; i += 2)
      this.links.set(linkPairs[i] as number, linkPairs[i + 1] as number);
    const extentCounts = reader.read("extentEntries", Uint32Array);
    let from = 0;
    for (let i = 0; i + 1 < extentCounts.length; i += 2) {
      const length = extentCounts[i + 1] as number;
      this.extents.set(extentCounts[i] as number, extents.subarray(from, from + length));
      from += length;
    }
    if (from !== extents.length) throw new Error("extents are damaged");
  }

  /** latin1: a character is a byte. */
  name(entry: number): string {
    return this.names.toString("latin1", this.nameStart[entry], this.nameStart[entry + 1]);
  }

  kind(entry: number): EntryKind {
    return kindOf(this.mode[entry] as number);
  }

  /** Bytes of the path relative to the root, which is the empty path. */
  path(entry: number): Buffer {
    const parts: string[] = [];
    for (let at = entry; at !== 0; at = this.parent[at] as number) parts.push(this.name(at));
    return Buffer.from(parts.reverse().join("/"), "latin1");
  }

  /** The children of a directory, by the bytes of their names. */
  children(directory: number): Uint32Array {
    this.#children ??= this.#listChildren();
    const { start, list } = this.#children;
    return list.subarray(start[directory], start[directory + 1]);
  }

  #listChildren() {
    const start = new Uint32Array(this.count + 1);
    for (let i = 1; i < this.count; i += 1) (start[(this.parent[i] as number) + 1] as number) += 1;
    for (let i = 0; i < this.count; i += 1) start[i + 1] = (start[i + 1] as number) + (start[i] as number);
    const next = start.slice();
    const list = new Uint32Array(Math.max(0, this.count - 1));
    for (let i = 1; i < this.count; i += 1) {
      const parent = this.parent[i] as number;
      list[next[parent] as number] = i;
      next[parent] = (next[parent] as number) + 1;
    }
    return { start, list };
  }

  /** The child of that name, or undefined. */
  child(directory: number, name: string): number | undefined {
    const children = this.children(directory);
    const at = this.childrenFrom(directory, name);
    const found = children[at];
    return found !== undefined && this.name(found) === name ? found : undefined;
  }

  /** The index in `children` of the first one whose name is not before `name`. */
  childrenFrom(directory: number, name: string): number {
    const children = this.children(directory);
    let low = 0;
    let high = children.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.name(children[middle] as number) < name) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Of a file's content, or of no bytes. 32 bytes. */
  sha256(entry: number): Buffer {
    const content = this.content[entry] as number;
    if (content < 0) return emptySha256;
    if (this.isLarge(entry)) return (this.large[content] as LargeContent).sha256;
    return this.pieceSha256.subarray(content * 32, content * 32 + 32);
  }

  isLarge(entry: number): boolean {
    return (this.size[entry] as number) > chunkBytes;
  }

  /** What the manifest holds in memory. */
  get memoryBytes(): number {
    return this.raw.length + this.count * 24 + this.pieceLength.length * 4 + this.targets.size * 100;
  }
}

const emptySha256 = Buffer.from("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "hex");

const asBuffer = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);

function summed(deltas: Int32Array): Uint32Array {
  const values = new Uint32Array(deltas.length);
  let sum = 0;
  for (let i = 0; i < deltas.length; i += 1) {
    sum += deltas[i] as number;
    values[i] = sum;
  }
  return values;
}

function readPacks(given: unknown): Pack[] {
  if (!Array.isArray(given)) throw new Error("its list of packs is missing");
  return given.map((pack: unknown) => {
    if (!isRecord(pack) || !isCount(pack.storedBytes) || !isCount(pack.rawBytes))
      throw new Error("its list of packs is damaged");
    if (typeof pack.digest !== "string" || !/^sha256:[0-9a-f]{64}$/.test(pack.digest))
      throw new Error("a pack has no digest");
    return { digest: pack.digest, storedBytes: pack.storedBytes, rawBytes: pack.rawBytes };
  });
}

function readAttributeSets(json: Buffer): ExtendedAttribute[][] {
  const sets: unknown = json.length === 0 ? [] : JSON.parse(json.toString("utf8"));
  if (!Array.isArray(sets)) throw new Error("extended attributes are damaged");
  return sets.map((set: unknown) => {
    if (!Array.isArray(set)) throw new Error("extended attributes are damaged");
    return set.map((pair: unknown) => {
      const [name, value] = Array.isArray(pair) ? pair : [];
      if (typeof name !== "string" || typeof value !== "string" || !/^[^\0]{1,255}$/.test(name))
        throw new Error("an extended attribute is damaged");
      return { name, value: Buffer.from(value, "base64") };
    });
  });
}
