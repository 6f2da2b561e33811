/** A stretch of a file's content out of its packs, each fetched as far as it is needed, every piece verified. */
import type { ArtifactStore } from "../artifact-store.ts";
import { asVersionError } from "./artifact-access.ts";
import { corrupt } from "./errors.ts";
import { chunkBytes } from "./format.ts";
import type { Manifest } from "./manifest.ts";
import { cutPiece, unpackBlock } from "./pack-blocks.ts";

const zeros = Buffer.alloc(64 * 1024);

/** The bytes from `start` up to and without `end`, in pieces of up to a chunk. */
export async function* readContent(
  artifacts: ArtifactStore,
  manifest: Manifest,
  entry: number,
  start: number,
  end: number,
): AsyncGenerator<Buffer> {
  const source = new PackSource(artifacts, manifest);
  try {
    let at = start;
    for (const { position, piece } of chunksOf(manifest, entry, start, end)) {
      for (; at < position; ) {
        const length = Math.min(zeros.length, position - at);
        yield zeros.subarray(0, length);
        at += length;
      }
      const content = await source.piece(piece);
      const part = content.subarray(at - position, Math.min(content.length, end - position));
      yield part;
      at += part.length;
    }
    while (at < end) {
      const length = Math.min(zeros.length, end - at);
      yield zeros.subarray(0, length);
      at += length;
    }
  } finally {
    source.close();
  }
}

/** Of chunks that are stored: the rest is zero. */
function* chunksOf(manifest: Manifest, entry: number, start: number, end: number) {
  if (start >= end) return;
  const content = manifest.content[entry] as number;
  if (!manifest.isLarge(entry)) {
    yield { position: 0, piece: content };
    return;
  }
  const large = manifest.large[content];
  for (let i = 0; large !== undefined && i < large.chunkIndex.length; i += 1) {
    const position = (large.chunkIndex[i] as number) * chunkBytes;
    if (position >= end) return;
    if (position + chunkBytes > start) yield { position, piece: large.chunkPiece[i] as number };
  }
}

/** Reads packs forward: pieces of one file mostly follow each other. */
class PackSource {
  readonly #artifacts: ArtifactStore;
  readonly #manifest: Manifest;
  #pack = -1;
  #parts: AsyncIterator<Buffer> | undefined;
  #rest: Buffer = Buffer.alloc(0);
  #position = 0;
  #block = -1;
  #raw: Buffer = Buffer.alloc(0);

  constructor(artifacts: ArtifactStore, manifest: Manifest) {
    this.#artifacts = artifacts;
    this.#manifest = manifest;
  }

  async piece(piece: number): Promise<Buffer> {
    const manifest = this.#manifest;
    const block = manifest.pieceBlock[piece] as number;
    const pack = manifest.blockPack[block] as number;
    const digest = manifest.packs[pack]?.digest as string;
    if (block !== this.#block) {
      const place = {
        start: manifest.blockStart[block] as number,
        stored: manifest.blockStored[block] as number,
        raw: manifest.blockRaw[block] as number,
      };
      this.#raw = unpackBlock(digest, await this.#stored(pack, digest, place.start, place.stored), place);
      this.#block = block;
    }
    return cutPiece(digest, this.#raw, {
      offset: manifest.pieceOffset[piece] as number,
      length: manifest.pieceLength[piece] as number,
      sha256: manifest.pieceSha256.subarray(piece * 32, piece * 32 + 32),
    });
  }

  async #stored(pack: number, digest: string, start: number, length: number): Promise<Buffer> {
    try {
      if (pack !== this.#pack || start < this.#position) {
        this.close();
        this.#parts = (await this.#artifacts.get(digest))[Symbol.asyncIterator]();
        this.#pack = pack;
      }
      while (this.#position < start) {
        const skipped = Math.min(this.#rest.length, start - this.#position);
        this.#rest = this.#rest.subarray(skipped);
        this.#position += skipped;
        if (this.#rest.length === 0 && this.#position < start) await this.#readOn(digest);
      }
      const parts: Buffer[] = [];
      for (let missing = length; missing > 0; ) {
        if (this.#rest.length === 0) await this.#readOn(digest);
        const part = this.#rest.subarray(0, missing);
        parts.push(part);
        this.#rest = this.#rest.subarray(part.length);
        this.#position += part.length;
        missing -= part.length;
      }
      return Buffer.concat(parts, length);
    } catch (error) {
      throw asVersionError(digest, error);
    }
  }

  async #readOn(digest: string): Promise<void> {
    const next = await this.#parts?.next();
    if (next === undefined || next.done) throw corrupt(digest, "the pack is cut off");
    this.#rest = next.value;
  }

  /** Ends the pack's stream. */
  close(): void {
    this.#parts?.return?.().catch(() => undefined);
    this.#parts = undefined;
    this.#pack = -1;
    this.#position = 0;
    this.#rest = Buffer.alloc(0);
  }
}
