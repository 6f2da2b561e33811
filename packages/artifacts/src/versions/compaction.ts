/**
 * Which packs of the previous version are written anew, so that a chain of saves keeps few packs and little that nobody needs.
 *
 * R1 A pack of which less than half is live (referred to by a file of the new version) is rewritten.
 * R2 Small packs, less than `packMinBytes` live, are sorted into classes that grow by `classGrowth` from `smallestClassBytes` on; a class with
 *    `classPacks` members is merged into what is one pack of a higher class.
 * R3 A save rewrites `maxMovedBytes` of live content at most, of packs with the least of it first; the rest waits for the next save.
 *
 * So the packs of a version hold at most twice its content (plus what R3 postpones), and there are at most
 * `size / (packMinBytes / 2) + 4 * (classPacks - 1)` of them; a byte is moved about 4 times by R2 in its life.
 */
import type { ArtifactAccess } from "./artifact-access.ts";
import type { ContentStore } from "./content-store.ts";
import { packMaxBytes, packMinBytes } from "./format.ts";
import type { Manifest } from "./manifest.ts";
import { readPack } from "./pack-blocks.ts";

const classPacks = 8;
const classGrowth = 8;
const smallestClassBytes = 16 * 1024;
const maxMovedBytes = 256 * 1024 * 1024;

interface PackUse {
  readonly pack: number;
  readonly pieces: number[];
  liveBytes: number;
}

/** Moves pieces of the previous version that are `used` in the new one. Returns the bytes moved. */
export async function compact(
  contents: ContentStore,
  used: Uint8Array,
  previous: Manifest,
  artifacts: ArtifactAccess,
): Promise<number> {
  const uses = useOfPacks(previous, used);
  let moved = 0;
  for (const use of packsToRewrite(uses, contents)) {
    if (moved + use.liveBytes > maxMovedBytes) break;
    moved += use.liveBytes;
    await movePack(contents, use, artifacts);
  }
  return moved;
}

function useOfPacks(previous: Manifest, used: Uint8Array): PackUse[] {
  const uses = previous.packs.map((_, pack): PackUse => ({ pack, pieces: [], liveBytes: 0 }));
  for (let piece = 0; piece < previous.pieceLength.length; piece += 1) {
    if (used[piece] === 0) continue;
    const use = uses[previous.blockPack[previous.pieceBlock[piece] as number] as number];
    use?.pieces.push(piece);
    if (use !== undefined) use.liveBytes += previous.pieceLength[piece] as number;
  }
  return uses.filter(({ liveBytes }) => liveBytes > 0);
}

function packsToRewrite(uses: readonly PackUse[], contents: ContentStore): PackUse[] {
  const chosen = new Set<PackUse>();
  const classes = new Map<number, PackUse[]>();
  for (const use of uses) {
    if (use.liveBytes * 2 < (contents.packs[use.pack]?.rawBytes ?? 0)) chosen.add(use);
    else if (use.liveBytes < packMinBytes) {
      const sizeClass = Math.max(
        0,
        Math.ceil(Math.log(use.liveBytes / smallestClassBytes) / Math.log(classGrowth)),
      );
      classes.set(sizeClass, [...(classes.get(sizeClass) ?? []), use]);
    }
  }
  for (const members of classes.values()) {
    if (members.length < classPacks) continue;
    for (const use of members) chosen.add(use);
  }
  return [...chosen].sort((a, b) => a.liveBytes - b.liveBytes || a.pack - b.pack);
}

async function movePack(contents: ContentStore, use: PackUse, artifacts: ArtifactAccess): Promise<void> {
  const pack = contents.packs[use.pack] as { digest: string };
  const bytes = await artifacts.fetch(pack.digest, packMaxBytes);
  const pieces = use.pieces.map((piece) => ({
    piece,
    block: contents.pieceBlock.values[piece] as number,
    offset: contents.pieceOffset.values[piece] as number,
    length: contents.pieceLength.values[piece] as number,
    sha256: Buffer.from(contents.sha256At(piece)),
  }));
  const block = (index: number) => ({
    start: contents.blockStart.values[index] as number,
    stored: contents.blockStored.values[index] as number,
    raw: contents.blockRaw.values[index] as number,
  });
  for (const { piece, content } of readPack(pack.digest, bytes, pieces, block)) {
    contents.move(piece, content);
    if (contents.full) await contents.drained();
  }
}
