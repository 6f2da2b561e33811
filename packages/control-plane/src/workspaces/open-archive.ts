/** An uploaded archive as a plain tar, whatever it is compressed with, and no more of it than is allowed. */
import { pipeline, Readable, type Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { WorkspaceVersionError } from "@helmr/artifacts/versions";

const gzipMagic = Buffer.from([0x1f, 0x8b]);
const zstdMagic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
/** Headers, padding and extended attributes that a tar has beside the content. */
const overheadBytes = 256 * 1024 * 1024;

/**
 * Errors with `too_large` beyond `maxBytes` and what a tar adds, with `invalid_archive` when it is cut or damaged, or with what
 * the source errors with.
 */
export function openArchive(source: Readable, maxBytes: number): Readable {
  return Readable.from(unpack(source, maxBytes), { objectMode: false });
}

async function* unpack(source: Readable, maxBytes: number): AsyncGenerator<Buffer> {
  const parts = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const head = await readHead(parts);
  const plain = decompressed(join(head, parts), head);
  let total = 0;
  try {
    for await (const part of plain) {
      total += part.length;
      if (total > maxBytes + overheadBytes) {
        throw new WorkspaceVersionError("too_large", `the archive has more than ${maxBytes} bytes of files`);
      }
      yield part as Buffer;
    }
  } catch (error) {
    if (error instanceof WorkspaceVersionError || source.errored === error) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new WorkspaceVersionError("invalid_archive", `the archive cannot be decompressed: ${why}`, {
      cause: error,
    });
  } finally {
    await parts.return?.();
  }
}

async function readHead(parts: AsyncIterator<Buffer>): Promise<Buffer> {
  let head = Buffer.alloc(0);
  while (head.length < zstdMagic.length) {
    const { done, value } = await parts.next();
    if (done === true) break;
    head = Buffer.concat([head, value]);
  }
  return head;
}

async function* join(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  yield head;
  for (let part = await rest.next(); part.done !== true; part = await rest.next()) yield part.value;
}

function decompressed(bytes: AsyncGenerator<Buffer>, head: Buffer): AsyncIterable<Uint8Array> {
  const decompressor = decompressorOf(head);
  if (decompressor === undefined) return bytes;
  // An error of the one destroys the other, where it is seen.
  pipeline(Readable.from(bytes), decompressor, () => undefined);
  return decompressor;
}

function decompressorOf(head: Buffer): Transform | undefined {
  if (head.subarray(0, gzipMagic.length).equals(gzipMagic)) return createGunzip();
  if (head.subarray(0, zstdMagic.length).equals(zstdMagic)) return createZstdDecompress();
  return undefined;
}
