/** Sealing: parts -> segments -> zstd -> encrypted chunks, as one stream with backpressure from end to end. */
import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { pipeline as chain, Readable } from "node:stream";
import { constants, createZstdCompress } from "node:zlib";
import { sealChunks } from "./chunks.ts";
import { makeHeader } from "./header.ts";
import type { ArchiveKeys } from "./keys.ts";
import { encodeSegment, isPartName, type Segment } from "./segments.ts";
import { captureTree, type TreeSelection } from "./tree.ts";

/** Level 1: of a guest's memory 3 takes two to four times as long for 5 % less (docs/decisions). */
const compressionLevel = 1;
const defaultChunkBytes = 256 * 1024;
const readBytes = 1 << 20;

export type ArchivePart =
  /** The regular files directly in a folder, by name and content alone. */
  | { readonly name: string; readonly kind: "files"; readonly folder: string }
  /** A folder with everything in it (see tree.ts), or what `select` says when it is this part's turn. */
  | {
      readonly name: string;
      readonly kind: "tree";
      readonly folder: string;
      readonly select?: () => Promise<TreeSelection | undefined>;
    }
  /** A value as JSON. */
  | { readonly name: string; readonly kind: "json"; readonly value: unknown };

export interface SealStats {
  readonly keyId: string;
  /** Before compression. */
  readonly contentBytes: number;
  /** Of the archive. */
  readonly sealedBytes: number;
  /** From the first read to the end, the receiver's time included. */
  readonly durationMs: number;
}

export interface SealedArchive {
  /** The archive's bytes, made while they are read; errors when a part cannot be read. */
  readonly stream: Readable;
  /** After the stream's end. */
  stats(): SealStats;
}

/**
 * Seal parts under the current key. Nothing is read before the stream is; nothing is written anywhere. Destroying the
 * stream stops all of it.
 *
 * @example await store.put(sealArchive(parts, { keys }).stream, { maxBytes })
 */
export function sealArchive(
  parts: readonly ArchivePart[],
  options: { readonly keys: ArchiveKeys; readonly chunkBytes?: number },
): SealedArchive {
  const names = parts.map(({ name }) => name);
  const bad = names.find((name) => !isPartName(name));
  if (bad !== undefined) throw new RangeError(`"${bad}" cannot be the name of a part`);
  if (new Set(names).size !== names.length) throw new RangeError("two parts have the same name");
  const { header, bytes } = makeHeader(options.keys, options.chunkBytes ?? defaultChunkBytes);
  let contentBytes = 0;
  let sealedBytes = 0;
  let startedAt = 0;
  let endedAt = 0;

  async function* content(): AsyncGenerator<Buffer> {
    startedAt = performance.now();
    for await (const segment of segmentsOf(parts)) {
      if (segment.type === "data") contentBytes += segment.bytes.length;
      yield* encodeSegment(segment);
    }
  }
  async function* sealed(compressed: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    sealedBytes += bytes.length;
    yield bytes;
    for await (const chunk of sealChunks(compressed, header)) {
      sealedBytes += chunk.length;
      yield chunk;
    }
    endedAt = performance.now();
  }
  const compress = createZstdCompress({
    chunkSize: defaultChunkBytes,
    params: {
      [constants.ZSTD_c_compressionLevel]: compressionLevel,
      [constants.ZSTD_c_checksumFlag]: 0, // The chunks are authenticated.
    },
  });
  const compressed = chain(Readable.from(content(), { objectMode: false }), compress, () => undefined);
  const stream = Readable.from(sealed(compressed), { objectMode: false });
  // A reader that stops must stop what feeds it, also when it never started.
  stream.once("close", () => compressed.destroy());
  return {
    stream,
    stats: () => {
      if (endedAt === 0) throw new Error("the archive is not sealed yet");
      return { keyId: header.keyId, contentBytes, sealedBytes, durationMs: endedAt - startedAt };
    },
  };
}

async function* segmentsOf(parts: readonly ArchivePart[]): AsyncGenerator<Segment> {
  for (const part of parts) {
    yield { type: "part", name: part.name, kind: part.kind };
    if (part.kind === "json") yield { type: "data", bytes: Buffer.from(JSON.stringify(part.value)) };
    else if (part.kind === "tree")
      for await (const bytes of captureTree(part.folder, await part.select?.()))
        yield { type: "data", bytes };
    else yield* filesOf(part.folder);
    yield { type: "part-end" };
  }
  yield { type: "end" };
}

async function* filesOf(folder: string): AsyncGenerator<Segment> {
  const entries = await readdir(folder, { withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (!entry.isFile() || !isPartName(entry.name))
      throw new Error(`${entry.name} in ${folder} cannot be archived`);
    yield { type: "file", name: entry.name };
    for await (const bytes of createReadStream(path.join(folder, entry.name), { highWaterMark: readBytes }))
      yield { type: "data", bytes: bytes as Buffer };
  }
}
