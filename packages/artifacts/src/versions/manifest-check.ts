/** What must hold of a manifest before anything is done with it: it comes from a store and describes what a guest made. */
import { chunkBytes, packMaxBytes, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "./format.ts";
import type { Manifest } from "./manifest.ts";

/** Throws an Error that names the first thing wrong. That parents are directories and come first, the tree's columns already say. */
export function checkManifest(manifest: Manifest): void {
  const steps = checkSteps(manifest);
  while (steps.next().done !== true);
}

/** Entries or pieces of one step: some milliseconds. */
const perStep = 32 * 1024;
const endsStep = (done: number) => done % perStep === perStep - 1;

/** The same in steps, between which others may have their turn: a million entries take an eighth of a second. */
export function* checkSteps(manifest: Manifest): Generator<void, void> {
  yield* checkNames(manifest);
  yield* checkPieces(manifest);
  for (let entry = 0; entry < manifest.count; entry += 1) {
    checkEntry(manifest, entry);
    if (endsStep(entry)) yield;
  }
  checkSparse(manifest);
}

function* checkNames(manifest: Manifest): Generator<void, void> {
  const { names, nameStart, count } = manifest;
  if (count < 1 || manifest.nameLength[0] !== 0) throw new Error("it has no root");
  if (nameStart[count] !== names.length) throw new Error("its names are cut off");
  if (names.includes(0) || names.includes(0x2f)) throw new Error("a name has a NUL or a slash in it");
  /** By depth, the last name there that a further sibling must come after. */
  const last: number[] = [];
  for (let entry = 1; entry < count; entry += 1) {
    const depth = manifest.depth[entry] as number;
    const start = nameStart[entry] as number;
    const end = nameStart[entry + 1] as number;
    const dots =
      end - start <= 2 && names[start] === 0x2e && (end - start === 1 || names[start + 1] === 0x2e);
    if (end === start || dots) throw new Error(`entry ${entry} has no name of its own`);
    const before = last.length > depth ? last[depth] : undefined;
    if (before !== undefined && compareRange(names, nameStart, before, start, end) >= 0)
      throw new Error(`entry ${entry} is out of order`);
    last.length = depth;
    last[depth] = entry;
    if (endsStep(entry)) yield;
  }
}

function compareRange(names: Buffer, nameStart: Uint32Array, other: number, start: number, end: number) {
  return names.compare(names, start, end, nameStart[other], nameStart[other + 1]);
}

function* checkPieces(manifest: Manifest): Generator<void, void> {
  const { blockPack, blockStart, blockStored, blockRaw, packs } = manifest;
  for (let block = 0; block < blockPack.length; block += 1) {
    const pack = packs[blockPack[block] as number];
    const end = (blockStart[block] as number) + (blockStored[block] as number);
    if (pack === undefined || end > pack.storedBytes || (blockRaw[block] as number) > chunkBytes)
      throw new Error(`block ${block} lies outside of its pack`);
  }
  for (const pack of packs)
    if (pack.rawBytes > packMaxBytes || pack.storedBytes > packMaxBytes)
      throw new Error("a pack is too large");
  for (let piece = 0; piece < manifest.pieceLength.length; piece += 1) {
    const length = manifest.pieceLength[piece] as number;
    const raw = blockRaw[manifest.pieceBlock[piece] as number];
    if (raw === undefined || length === 0 || (manifest.pieceOffset[piece] as number) + length > raw)
      throw new Error(`piece ${piece} lies outside of its block`);
    if (endsStep(piece)) yield;
  }
}

function checkEntry(manifest: Manifest, entry: number): void {
  const kind = (manifest.mode[entry] as number) & S_IFMT;
  const size = manifest.size[entry] as number;
  if (kind !== S_IFREG && kind !== S_IFDIR && kind !== S_IFLNK)
    throw new Error(`entry ${entry} is of no known kind`);
  if (entry === 0 && kind !== S_IFDIR) throw new Error("its root is no directory");
  if (!Number.isSafeInteger(size) || size < 0) throw new Error(`entry ${entry} has no size`);
  if (!Number.isSafeInteger(manifest.mtimeSeconds[entry])) throw new Error(`entry ${entry} has no time`);
  if ((manifest.mtimeNanoseconds[entry] as number) >= 1e9) throw new Error(`entry ${entry} has no time`);
  if ((kind === S_IFLNK) !== manifest.targets.has(entry))
    throw new Error(`entry ${entry} and its target differ`);
  if (kind !== S_IFREG || size === 0) return;
  const content = manifest.content[entry] as number;
  if (!manifest.isLarge(entry)) {
    if (manifest.pieceLength[content] !== size) throw new Error(`entry ${entry} has no content of its size`);
    return;
  }
  const large = manifest.large[content];
  if (large === undefined) throw new Error(`entry ${entry} has no content`);
  let last = -1;
  for (let i = 0; i < large.chunkIndex.length; i += 1) {
    const chunk = large.chunkIndex[i] as number;
    const length = Math.min(chunkBytes, size - chunk * chunkBytes);
    if (chunk <= last || manifest.pieceLength[large.chunkPiece[i] as number] !== length)
      throw new Error(`entry ${entry} has no content of its size`);
    last = chunk;
  }
}

function checkSparse(manifest: Manifest): void {
  const isFile = (entry: number) => ((manifest.mode[entry] ?? 0) & S_IFMT) === S_IFREG;
  for (const [entry, target] of manifest.targets) {
    if (entry >= manifest.count || target.length === 0 || target.length > 4095 || target.includes("\0"))
      throw new Error(`entry ${entry} has no target`);
  }
  for (const entry of manifest.attributes.keys())
    if (entry >= manifest.count) throw new Error("extended attributes are of no entry");
  for (const [entry, first] of manifest.links) {
    const same =
      isFile(entry) &&
      isFile(first) &&
      first < entry &&
      !manifest.links.has(first) &&
      manifest.size[entry] === manifest.size[first] &&
      manifest.content[entry] === manifest.content[first];
    if (!same) throw new Error(`entry ${entry} is not the file that it is a name of`);
  }
  for (const [entry, extents] of manifest.extents) {
    let last = -1;
    for (const at of extents) {
      if (!Number.isSafeInteger(at) || at <= last || at > (manifest.size[entry] ?? 0))
        throw new Error(`entry ${entry} has damaged extents`);
      last = at;
    }
    if (!isFile(entry) || extents.length % 2 !== 0) throw new Error(`entry ${entry} has damaged extents`);
  }
}
