/** The tables of a manifest: what is used of those of a content store. */
import { Growing } from "./columns.ts";
import type { ContentStore } from "./content-store.ts";

/** Pieces, blocks and packs that are used, in their order, and where each piece went. */
export function usedTables(from: ContentStore, used: Uint8Array) {
  const pieceMap = new Int32Array(used.length).fill(-1);
  const blockUsed = new Uint8Array(from.blockPack.length);
  const packUsed = new Uint8Array(from.packs.length);
  let pieces = 0;
  for (let piece = 0; piece < used.length; piece += 1) {
    if (used[piece] === 0) continue;
    pieceMap[piece] = pieces;
    pieces += 1;
    const block = from.pieceBlock.values[piece] as number;
    blockUsed[block] = 1;
    packUsed[from.blockPack.values[block] as number] = 1;
  }
  const { map: blockMap, kept: blocks } = renumbered(blockUsed);
  const { map: packMap, kept: packs } = renumbered(packUsed);
  const sha256 = Buffer.allocUnsafe(pieces * 32);
  const length = new Uint32Array(pieces);
  const offset = new Uint32Array(pieces);
  const blockDelta = new Int32Array(pieces);
  let last = 0;
  let at = 0;
  for (let piece = 0; piece < used.length; piece += 1) {
    if (used[piece] === 0) continue;
    sha256.set(from.pieceSha256.values.subarray(piece * 32, piece * 32 + 32), at * 32);
    length[at] = from.pieceLength.values[piece] as number;
    offset[at] = from.pieceOffset.values[piece] as number;
    const block = blockMap[from.pieceBlock.values[piece] as number] as number;
    blockDelta[at] = block - last;
    last = block;
    at += 1;
  }
  return {
    pieceMap,
    packs: Array.from(packs, (pack) => from.packs[pack]),
    columns: {
      pieceSha256: sha256,
      pieceLength: length,
      pieceOffset: offset,
      pieceBlockDelta: blockDelta,
      blockPack: blocks.map((block) => packMap[from.blockPack.values[block] as number] as number),
      blockStart: blocks.map((block) => from.blockStart.values[block] as number),
      blockStored: blocks.map((block) => from.blockStored.values[block] as number),
      blockRaw: blocks.map((block) => from.blockRaw.values[block] as number),
    },
  };
}

function renumbered(used: Uint8Array): { map: Int32Array; kept: Uint32Array } {
  const map = new Int32Array(used.length).fill(-1);
  const kept = new Growing(Uint32Array);
  used.forEach((isUsed, index) => {
    if (isUsed === 0) return;
    map[index] = kept.length;
    kept.push(index);
  });
  return { map, kept: kept.taken() };
}
