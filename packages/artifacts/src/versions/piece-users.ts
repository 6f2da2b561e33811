/** Where the pieces of a version are, and which files have them. */
import { S_IFMT, S_IFREG } from "./format.ts";
import type { Manifest } from "./manifest.ts";
import type { PlacedPiece } from "./pack-blocks.ts";

export interface PieceUsers {
  /** By piece, where its users start in the other two. */
  readonly start: Uint32Array;
  readonly entry: Uint32Array;
  readonly chunk: Uint32Array;
}

/** Further names of a file left out. */
export function usersOfPieces(manifest: Manifest): PieceUsers {
  const start = new Uint32Array(manifest.pieceLength.length + 1);
  forEachUse(manifest, (piece) => {
    (start[piece + 1] as number) += 1;
  });
  for (let i = 1; i < start.length; i += 1) start[i] = (start[i] as number) + (start[i - 1] as number);
  const users = start.at(-1) as number;
  const entries = new Uint32Array(users);
  const chunks = new Uint32Array(users);
  const next = start.slice();
  forEachUse(manifest, (piece, entry, chunk) => {
    const at = next[piece] as number;
    entries[at] = entry;
    chunks[at] = chunk;
    next[piece] = at + 1;
  });
  return { start, entry: entries, chunk: chunks };
}

function forEachUse(manifest: Manifest, use: (piece: number, entry: number, chunk: number) => void): void {
  const { mode, content, large, links } = manifest;
  for (let entry = 0; entry < manifest.count; entry += 1) {
    const index = content[entry] as number;
    if (index < 0 || ((mode[entry] as number) & S_IFMT) !== S_IFREG || links.has(entry)) continue;
    if (!manifest.isLarge(entry)) use(index, entry, 0);
    else {
      const file = large[index];
      file?.chunkPiece.forEach((piece, at) => {
        use(piece, entry, file.chunkIndex[at] as number);
      });
    }
  }
}

export function piecesByPack(manifest: Manifest): PlacedPiece[][] {
  const byPack: PlacedPiece[][] = manifest.packs.map(() => []);
  for (let piece = 0; piece < manifest.pieceLength.length; piece += 1) {
    const block = manifest.pieceBlock[piece] as number;
    byPack[manifest.blockPack[block] as number]?.push({
      piece,
      block,
      offset: manifest.pieceOffset[piece] as number,
      length: manifest.pieceLength[piece] as number,
      sha256: manifest.pieceSha256.subarray(piece * 32, piece * 32 + 32),
    });
  }
  return byPack;
}
