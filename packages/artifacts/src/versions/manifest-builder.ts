/** The tree of a version that is being made, entry by entry in the manifest's order, and its encoding. */
import { createHash, type Hash } from "node:crypto";
import { Growing, writeColumns } from "./columns.ts";
import type { ContentStore } from "./content-store.ts";
import { WorkspaceVersionError } from "./errors.ts";
import {
  chunkBytes,
  type EntryMetadata,
  type LargeContent,
  metadataMaxBytes,
  S_IFMT,
  S_IFREG,
} from "./format.ts";
import type { Manifest } from "./manifest.ts";
import { sparseOf } from "./sparse-columns.ts";
import { usedTables } from "./used-tables.ts";

export class ManifestBuilder {
  readonly #depth = new Growing(Uint16Array);
  readonly #nameLength = new Growing(Uint8Array);
  readonly #names = new Growing(Uint8Array);
  readonly #mode = new Growing(Uint16Array);
  readonly #uid = new Growing(Uint32Array);
  readonly #gid = new Growing(Uint32Array);
  readonly #mtimeSeconds = new Growing(Float64Array);
  readonly #mtimeNanoseconds = new Growing(Uint32Array);
  readonly #size = new Growing(Float64Array);
  readonly #content = new Growing(Int32Array);
  readonly #targets: [number, string][] = [];
  readonly #attributeSets = new Map<string, number>();
  readonly #attributes: [number, number][] = [];
  readonly #links: [number, number][] = [];
  readonly #extents: [number, Float64Array][] = [];
  readonly #large: LargeContent[];
  readonly #largeByDigest = new Map<string, number>();
  readonly #contents: ContentStore;
  readonly #previous: Manifest | undefined;
  readonly #sparse: ReturnType<typeof sparseOf>;
  #metadataBytes = 0;
  sizeBytes = 0;

  constructor(contents: ContentStore, previous: Manifest | undefined) {
    this.#contents = contents;
    this.#previous = previous;
    this.#sparse = sparseOf(previous);
    this.#large = [...(previous?.large ?? [])];
    this.#large.forEach((large, index) => {
      this.#largeByDigest.set(large.sha256.toString("latin1"), index);
    });
  }

  get count(): number {
    return this.#depth.length;
  }

  /** -1 of no content, or what `addLarge` or the store answered with. Returns the entry. */
  add(depth: number, name: string, metadata: EntryMetadata, content: number): number {
    const entry = this.count;
    this.#depth.push(depth);
    this.#nameLength.push(name.length);
    this.#addName(name);
    this.#mode.push(metadata.mode);
    this.#uid.push(metadata.uid);
    this.#gid.push(metadata.gid);
    this.#mtimeSeconds.push(metadata.mtimeSeconds);
    this.#mtimeNanoseconds.push(metadata.mtimeNanoseconds);
    this.#size.push(metadata.size);
    this.#content.push(content);
    if (metadata.target !== undefined) this.#addTarget(entry, metadata.target);
    if (metadata.attributes !== undefined && metadata.attributes.length > 0)
      this.#addAttributes(entry, metadata.attributes);
    if (metadata.extents !== undefined) this.#addExtents(entry, metadata.extents);
    if ((metadata.mode & S_IFMT) === S_IFREG) this.sizeBytes += metadata.size;
    return entry;
  }

  #addTarget(entry: number, target: string): void {
    this.#count(target.length);
    this.#targets.push([entry, target]);
  }

  /** Counted by entry: the digest of the tree has them by entry, too. */
  #addAttributes(entry: number, attributes: NonNullable<EntryMetadata["attributes"]>): void {
    for (const { name, value } of attributes) this.#count(name.length + value.length);
    this.#attributes.push([entry, this.#attributeSet(attributes)]);
  }

  #addExtents(entry: number, extents: Float64Array): void {
    this.#count(extents.byteLength);
    this.#extents.push([entry, extents]);
  }

  #count(bytes: number): void {
    this.#metadataBytes += bytes;
    if (this.#metadataBytes > metadataMaxBytes) throw tooMuchMetadata();
  }

  #addName(name: string): void {
    const names = this.#names;
    names.reserve(name.length);
    for (let i = 0; i < name.length; i += 1) names.values[names.length + i] = name.charCodeAt(i);
    names.length += name.length;
  }

  /** Entries of the previous version as they are there, from `from` up to and without `to`. No further names of files among them. */
  copy(from: number, to: number): void {
    const previous = this.#previous as Manifest;
    const start = this.count;
    this.#depth.append(previous.depth.subarray(from, to));
    this.#nameLength.append(previous.nameLength.subarray(from, to));
    this.#names.append(previous.names.subarray(previous.nameStart[from], previous.nameStart[to]));
    this.#mode.append(previous.mode.subarray(from, to));
    this.#uid.append(previous.uid.subarray(from, to));
    this.#gid.append(previous.gid.subarray(from, to));
    this.#mtimeSeconds.append(previous.mtimeSeconds.subarray(from, to));
    this.#mtimeNanoseconds.append(previous.mtimeNanoseconds.subarray(from, to));
    this.#size.append(previous.size.subarray(from, to));
    this.#content.append(previous.content.subarray(from, to));
    for (const [entry, target] of this.#sparse.targets.between(from, to))
      this.#addTarget(start + entry - from, target);
    for (const [entry, attributes] of this.#sparse.attributes.between(from, to))
      this.#addAttributes(start + entry - from, attributes);
    for (const [entry, extents] of this.#sparse.extents.between(from, to))
      this.#addExtents(start + entry - from, extents);
    for (let entry = from; entry < to; entry += 1)
      if (((previous.mode[entry] as number) & S_IFMT) === S_IFREG)
        this.sizeBytes += previous.size[entry] as number;
  }

  /** The file of `first` under a further name. */
  addLink(depth: number, name: string, first: number, metadata: EntryMetadata): number {
    const entry = this.add(depth, name, metadata, this.#content.values[first] as number);
    this.#links.push([entry, first]);
    this.sizeBytes -= metadata.size;
    return entry;
  }

  /** The index of this content among the large ones. */
  addLarge(size: number, chunkIndex: Uint32Array, chunkPiece: Uint32Array): number {
    const digest = createHash("sha256").update(`helmr large file 1\n${size}\n`);
    chunkIndex.forEach((chunk, i) => {
      digest.update(`${chunk}\n`).update(this.#contents.sha256At(chunkPiece[i] as number));
    });
    const sha256 = digest.digest();
    const key = sha256.toString("latin1");
    const known = this.#largeByDigest.get(key);
    if (known !== undefined) return known;
    this.#largeByDigest.set(key, this.#large.length);
    this.#large.push({ sha256, chunkIndex, chunkPiece });
    return this.#large.length - 1;
  }

  /** By piece: 1 when a file of this tree has it. */
  usedPieces(): Uint8Array {
    const used = new Uint8Array(this.#contents.pieceLength.length);
    const content = this.#content.values;
    for (let entry = 0; entry < this.count; entry += 1) {
      if ((content[entry] as number) < 0) continue;
      const large = this.#largeOf(entry);
      if (large === undefined) used[content[entry] as number] = 1;
      else for (const piece of large.chunkPiece) used[piece] = 1;
    }
    return used;
  }

  #largeOf(entry: number): LargeContent | undefined {
    return (this.#size.values[entry] as number) > chunkBytes
      ? this.#large[this.#content.values[entry] as number]
      : undefined;
  }

  #attributeSet(attributes: NonNullable<EntryMetadata["attributes"]>): number {
    const json = JSON.stringify(attributes.map(({ name, value }) => [name, value.toString("base64")]));
    const known = this.#attributeSets.get(json);
    if (known !== undefined) return known;
    this.#attributeSets.set(json, this.#attributeSets.size);
    return this.#attributeSets.size - 1;
  }

  /** Of the tree alone: the same whatever packs its content lies in, and wherever holes are. */
  contentDigest(): string {
    const digest = createHash("sha256").update("helmr workspace tree 1\n");
    const add = (bytes: Uint8Array | Uint16Array | Uint32Array | Float64Array) => {
      digest.update(`${bytes.byteLength}\n`).update(bytes);
    };
    for (const column of this.#treeColumns()) add(column.taken());
    this.#addContents(digest);
    const sets = [...this.#attributeSets.keys()];
    const rest = {
      targets: this.#targets,
      attributes: this.#attributes.map(([entry, set]) => [entry, sets[set]]),
      links: this.#links,
    };
    add(Buffer.from(JSON.stringify(rest)));
    return `sha256:${digest.digest("hex")}`;
  }

  #treeColumns() {
    return [
      this.#depth,
      this.#nameLength,
      this.#names,
      this.#mode,
      this.#uid,
      this.#gid,
      this.#mtimeSeconds,
      this.#mtimeNanoseconds,
      this.#size,
    ];
  }

  #addContents(digest: Hash): void {
    const all = Buffer.allocUnsafe(this.count * 32);
    const pieces = this.#contents.pieceSha256.values;
    let at = 0;
    for (let entry = 0; entry < this.count; entry += 1) {
      const content = this.#content.values[entry] as number;
      if (content < 0) continue;
      const large = this.#largeOf(entry);
      if (large === undefined) all.set(pieces.subarray(content * 32, content * 32 + 32), at);
      else all.set(large.sha256, at);
      at += 32;
    }
    digest.update(all.subarray(0, at));
  }

  /** What refers to no entry any more is left out. Call it when all packs have ended. */
  encode(contentDigest: string): Buffer {
    const { pieceMap, ...tables } = usedTables(this.#contents, this.usedPieces());
    const contents = this.#contentColumns(pieceMap);
    const latin1 = (texts: readonly string[]) => Buffer.from(texts.join(""), "latin1");
    return writeColumns(
      {
        format: 1,
        entries: this.count,
        contentDigest,
        sizeBytes: this.sizeBytes,
        packs: tables.packs,
      },
      {
        depth: this.#depth.taken(),
        nameLength: this.#nameLength.taken(),
        names: this.#names.taken(),
        mode: this.#mode.taken(),
        uid: this.#uid.taken(),
        gid: this.#gid.taken(),
        mtimeSeconds: this.#mtimeSeconds.taken(),
        mtimeNanoseconds: this.#mtimeNanoseconds.taken(),
        size: this.#size.taken(),
        ...contents,
        ...tables.columns,
        targetEntries: Uint32Array.from(this.#targets, ([entry]) => entry),
        targetLengths: Uint16Array.from(this.#targets, ([, target]) => target.length),
        targets: latin1(this.#targets.map(([, target]) => target)),
        attributeSets: Buffer.from(`[${[...this.#attributeSets.keys()].join(",")}]`),
        attributeEntries: Uint32Array.from(this.#attributes.flat()),
        links: Uint32Array.from(this.#links.flat()),
        extentEntries: Uint32Array.from(this.#extents.flatMap(([entry, extents]) => [entry, extents.length])),
        extents: concatenated(this.#extents.map(([, extents]) => extents)),
      },
    );
  }

  #contentColumns(pieceMap: Int32Array) {
    const deltas = new Growing(Int32Array);
    const used = new Map<number, number>();
    let last = -1;
    for (let entry = 0; entry < this.count; entry += 1) {
      let content = this.#content.values[entry] as number;
      if (content < 0) continue;
      if (this.#largeOf(entry) === undefined) content = pieceMap[content] as number;
      else {
        const known = used.get(content) ?? used.size;
        used.set(content, known);
        content = known;
      }
      deltas.push(content - last);
      last = content;
    }
    const large = [...used.keys()].map((index) => this.#large[index] as LargeContent);
    return {
      contentDelta: deltas.taken(),
      largeSha256: Buffer.concat(large.map(({ sha256 }) => sha256)),
      largeChunks: Uint32Array.from(large, ({ chunkIndex }) => chunkIndex.length),
      chunkIndex: joined(large.map(({ chunkIndex }) => chunkIndex)),
      chunkPiece: joined(large.map(({ chunkPiece }) => chunkPiece.map((p) => pieceMap[p] as number))),
    };
  }
}

function joined(arrays: readonly Uint32Array[]): Uint32Array {
  const all = new Growing(Uint32Array);
  for (const array of arrays) all.append(array);
  return all.taken();
}

function concatenated(arrays: readonly Float64Array[]): Float64Array {
  const all = new Growing(Float64Array);
  for (const array of arrays) all.append(array);
  return all.taken();
}

/** Targets of links, extended attributes and holes of files. */
export function tooMuchMetadata(): WorkspaceVersionError {
  return new WorkspaceVersionError(
    "too_large",
    `targets of links, extended attributes and holes of files take more than ${metadataMaxBytes} bytes`,
  );
}
