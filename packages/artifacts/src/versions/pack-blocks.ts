/** Pieces out of a pack's bytes, each verified. */
import { hash } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";
import { corrupt } from "./errors.ts";

export interface PlacedPiece {
  readonly piece: number;
  readonly block: number;
  readonly offset: number;
  readonly length: number;
  readonly sha256: Buffer;
}

export interface BlockPlace {
  readonly start: number;
  readonly stored: number;
  readonly raw: number;
}

/** By place in the pack, every block decompressed once. Content is valid until the next step. */
export function* readPack(
  digest: string,
  pack: Uint8Array,
  pieces: readonly PlacedPiece[],
  blockAt: (block: number) => BlockPlace,
): Generator<{ readonly piece: number; readonly content: Buffer }> {
  const sorted = [...pieces].sort((a, b) => a.block - b.block || a.offset - b.offset);
  let block = -1;
  let raw: Buffer = Buffer.alloc(0);
  for (const placed of sorted) {
    if (placed.block !== block) {
      block = placed.block;
      const place = blockAt(block);
      raw = unpackBlock(digest, pack.subarray(place.start, place.start + place.stored), place);
    }
    yield { piece: placed.piece, content: cutPiece(digest, raw, placed) };
  }
}

/** The content of a block, of the length that the manifest says. */
export function unpackBlock(digest: string, stored: Uint8Array, place: BlockPlace): Buffer {
  if (stored.length !== place.stored) throw corrupt(digest, "the pack is cut off");
  if (place.stored === place.raw) return Buffer.from(stored.buffer, stored.byteOffset, stored.length);
  let raw: Buffer;
  try {
    raw = zstdDecompressSync(stored, { maxOutputLength: place.raw });
  } catch (error) {
    throw corrupt(digest, "a block of the pack cannot be decompressed", error);
  }
  if (raw.length !== place.raw) throw corrupt(digest, "a block of the pack is not of its length");
  return raw;
}

/** The bytes of a piece, which are its sha256's. */
export function cutPiece(digest: string, raw: Buffer, placed: Omit<PlacedPiece, "piece" | "block">): Buffer {
  const content = raw.subarray(placed.offset, placed.offset + placed.length);
  if (!hash("sha256", content, "buffer").equals(placed.sha256))
    throw corrupt(digest, "content in the pack is not its digest's");
  return content;
}
