/** How many bytes a compressed layer unpacks to, counted without writing any of them. */
import { createReadStream } from "node:fs";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";

/**
 * Bytes of the layer's tar stream, or any number above `limit` as soon as it is passed: a bomb costs no more than the
 * limit.
 */
export async function unpackedBytes(file: string, mediaType: string, limit: number): Promise<number> {
  let bytes = 0;
  const count = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of chunks) {
      bytes += chunk.length;
      if (bytes > limit) return;
    }
  };
  const source = createReadStream(file);
  const unpack = mediaType.endsWith("gzip")
    ? createGunzip()
    : mediaType.endsWith("zstd")
      ? createZstdDecompress()
      : new PassThrough();
  await pipeline(source, unpack, count).catch((error: unknown) => {
    if (bytes <= limit) throw error; // past the limit we stopped reading ourselves
  });
  return bytes;
}
