/**
 * The content of a version that is being made: pieces that the previous version has, and new ones on their way into packs.
 *
 * I1 A piece is stored once: it is looked up by its sha256 among the previous version's and this one's.
 * I2 The same pieces in the same order give the same packs: where a block and a pack end follows from their lengths and digests.
 * I3 At most `packsInFlight` finished packs are in memory.
 */
import { hash } from "node:crypto";
import { constants, type ZstdOptions, zstdCompressSync } from "node:zlib";
import type { ArtifactAccess } from "./artifact-access.ts";
import { Growing } from "./columns.ts";
import { DigestTable } from "./digest-table.ts";
import { blockBytes, chunkBytes, type Pack, packMaxBytes, packMinBytes } from "./format.ts";
import type { Manifest } from "./manifest.ts";

const packsInFlight = 3;
const zstd: ZstdOptions = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };

export class ContentStore {
  readonly packs: Pack[];
  readonly pieceSha256: Growing<Uint8Array>;
  readonly pieceLength: Growing<Uint32Array>;
  readonly pieceBlock: Growing<Uint32Array>;
  readonly pieceOffset: Growing<Uint32Array>;
  readonly blockPack: Growing<Uint32Array>;
  readonly blockStart: Growing<Uint32Array>;
  readonly blockStored: Growing<Uint32Array>;
  readonly blockRaw: Growing<Uint32Array>;
  readonly #artifacts: ArtifactAccess;
  #table: DigestTable | undefined;
  readonly #files = newLane();
  readonly #huge = newLane();
  readonly #inFlight = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  constructor(artifacts: ArtifactAccess, previous: Manifest | undefined) {
    this.#artifacts = artifacts;
    this.packs = [...(previous?.packs ?? [])];
    this.pieceSha256 = new Growing(Uint8Array, previous?.pieceSha256);
    this.pieceLength = new Growing(Uint32Array, previous?.pieceLength);
    this.pieceBlock = new Growing(Uint32Array, previous?.pieceBlock);
    this.pieceOffset = new Growing(Uint32Array, previous?.pieceOffset);
    this.blockPack = new Growing(Uint32Array, previous?.blockPack);
    this.blockStart = new Growing(Uint32Array, previous?.blockStart);
    this.blockStored = new Growing(Uint32Array, previous?.blockStored);
    this.blockRaw = new Growing(Uint32Array, previous?.blockRaw);
  }

  sha256At(piece: number): Buffer {
    const { buffer, byteOffset } = this.pieceSha256.values;
    return Buffer.from(buffer, byteOffset + piece * 32, 32);
  }

  /** True when `add` should wait for `drained`. */
  get full(): boolean {
    return this.#inFlight.size >= packsInFlight;
  }

  /** I3. */
  async drained(): Promise<void> {
    while (this.full) await Promise.race(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** I1: the piece of these bytes (1 to `chunkBytes`), which are copied when they are new. A huge file's packs are its own. */
  add(bytes: Uint8Array, huge = false): number {
    const sha256 = hash("sha256", bytes, "buffer");
    this.#table ??= new DigestTable((piece) => this.sha256At(piece), this.pieceLength.length);
    const known = this.#table.find(sha256);
    if (known !== undefined) return known;
    const piece = this.pieceLength.length;
    this.pieceSha256.append(sha256);
    this.pieceLength.push(bytes.length);
    this.pieceBlock.push(0);
    this.pieceOffset.push(0);
    this.#table.add(sha256, piece);
    this.#place(piece, bytes, huge ? this.#huge : this.#files);
    return piece;
  }

  /** Put a piece of an older pack into the pack that is being filled. */
  move(piece: number, bytes: Uint8Array): void {
    this.#place(piece, bytes, this.#files);
  }

  /** I2: the next piece of a huge file starts a new pack. */
  endHugeFile(): void {
    this.#endPack(this.#huge);
  }

  /** Ends the last packs: all digests are known then. */
  endPacks(): void {
    for (const lane of [this.#files, this.#huge]) this.#endPack(lane);
  }

  /** Resolves when all packs are stored. */
  async stored(): Promise<void> {
    await Promise.all(this.#inFlight);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** What was begun is not wanted; resolves when nothing is on its way to the store any more. */
  async discard(): Promise<void> {
    await Promise.all(this.#inFlight);
  }

  #place(piece: number, bytes: Uint8Array, lane: Lane): void {
    if (lane.fill > 0 && lane.fill + bytes.length > blockBytes) this.#endBlock(lane);
    if (lane.raw + lane.fill + bytes.length > packMaxBytes) this.#endPack(lane);
    this.pieceOffset.values[piece] = lane.fill;
    lane.pieces.push(piece);
    lane.block.set(bytes, lane.fill);
    lane.fill += bytes.length;
    if (lane.raw + lane.fill >= packMinBytes && this.#endsPack(piece, bytes.length)) this.#endPack(lane);
    else if (lane.fill >= blockBytes) this.#endBlock(lane);
  }

  /** With the chance of its length by a quarter of `packMaxBytes`, read from its digest. */
  #endsPack(piece: number, length: number): boolean {
    return this.sha256At(piece).readUInt32LE(4) < (length / (packMaxBytes / 4)) * 2 ** 32;
  }

  #endBlock(lane: Lane): void {
    if (lane.fill === 0) return;
    const raw = lane.block.subarray(0, lane.fill);
    const compressed = zstdCompressSync(raw, zstd);
    // A block that would not become shorter is kept as it is: equal lengths say so.
    const stored = compressed.length < raw.length ? compressed : Buffer.from(raw);
    const block = this.blockStart.length;
    for (const piece of lane.pieces) this.pieceBlock.values[piece] = block;
    this.blockPack.push(0);
    this.blockStart.push(lane.stored);
    this.blockStored.push(stored.length);
    this.blockRaw.push(raw.length);
    lane.blocks.push(block);
    lane.parts.push(stored);
    lane.stored += stored.length;
    lane.raw += raw.length;
    lane.fill = 0;
    lane.pieces = [];
  }

  #endPack(lane: Lane): void {
    this.#endBlock(lane);
    const { raw, stored, parts, blocks } = lane;
    if (raw === 0) return;
    for (const block of blocks) this.blockPack.values[block] = this.packs.length;
    Object.assign(lane, { raw: 0, stored: 0, parts: [], blocks: [] });
    // Memory of its own, so that it can be handed to another thread.
    const bytes = new Uint8Array(stored);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    const digest = `sha256:${hash("sha256", bytes, "hex")}`;
    this.packs.push({ digest, storedBytes: stored, rawBytes: raw });
    const storing = this.#artifacts
      .store(digest, bytes)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#inFlight.delete(storing));
    this.#inFlight.add(storing);
  }
}

/** A pack that is being filled. */
interface Lane {
  readonly block: Buffer;
  fill: number;
  pieces: number[];
  blocks: number[];
  parts: Buffer[];
  stored: number;
  raw: number;
}

function newLane(): Lane {
  const block = Buffer.allocUnsafeSlow(chunkBytes);
  return { block, fill: 0, pieces: [], blocks: [], parts: [], stored: 0, raw: 0 };
}
