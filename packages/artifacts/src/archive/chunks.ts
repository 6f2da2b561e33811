/**
 * The encrypted body: AES-256-GCM over chunks of one size, the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár,
 * "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015).
 *
 *  E1  The nonce of a chunk is its number and whether it is the last; the key is the archive's alone. So a chunk that is
 *      missing, repeated, moved, of another archive, or last when it was not, does not open.
 *  E2  Every chunk but the last is full; the last may be empty, and there is exactly one.
 *  E3  Nothing is given on that was not authenticated. What was given on before a failure is the receiver's to remove.
 *  E4  Memory: two chunks.
 */
import { createCipheriv, createDecipheriv, type KeyObject } from "node:crypto";
import { ArchiveError } from "./errors.ts";
import { type ArchiveHeader, headerBytes, readHeader } from "./header.ts";
import type { ArchiveKeys } from "./keys.ts";
import { PendingBytes } from "./pending-bytes.ts";

const algorithm = "aes-256-gcm";
export const tagBytes = 16;
const maxChunks = 2 ** 32;

/** The body for a plaintext. */
export async function* sealChunks(
  source: AsyncIterable<Buffer>,
  header: ArchiveHeader,
): AsyncGenerator<Buffer> {
  const pending = new PendingBytes();
  let number = 0;
  for await (const piece of source) {
    pending.push(piece);
    // A full chunk is held back until more follows: it may be the last (E2).
    while (pending.length > header.chunkBytes) {
      yield seal(header.chunkKey, number, false, pending.take(header.chunkBytes));
      number += 1;
    }
  }
  yield seal(header.chunkKey, number, true, pending.take(pending.length));
}

/** The plaintext of an archive, header included. @throws ArchiveError. */
export async function* openChunks(source: AsyncIterable<Buffer>, keys: ArchiveKeys): AsyncGenerator<Buffer> {
  const pending = new PendingBytes();
  let header: ArchiveHeader | undefined;
  let number = 0;
  for await (const piece of source) {
    pending.push(piece);
    if (header === undefined) {
      if (pending.length < headerBytes) continue;
      header = readHeader(pending.take(headerBytes), keys);
    }
    const sealedBytes = header.chunkBytes + tagBytes;
    while (pending.length > sealedBytes) {
      yield open(header.chunkKey, number, false, pending.take(sealedBytes));
      number += 1;
    }
  }
  header ??= readHeader(pending.take(pending.length), keys); // It is too short: this says so.
  yield openLast(header, number, pending.take(pending.length));
}

/** Says whether the end is missing or damaged: a chunk that opens as one of the middle was followed by others. */
function openLast(header: ArchiveHeader, number: number, sealed: Buffer): Buffer {
  if (sealed.length < tagBytes) throw truncated(number);
  try {
    return open(header.chunkKey, number, true, sealed);
  } catch (error) {
    if (opens(header.chunkKey, number, sealed)) throw truncated(number);
    throw error;
  }
}

function opens(key: KeyObject, number: number, sealed: Buffer): boolean {
  try {
    open(key, number, false, sealed);
    return true;
  } catch {
    return false;
  }
}

function truncated(number: number): ArchiveError {
  return new ArchiveError("truncated", `The checkpoint ends after chunk ${number}; more was sealed.`);
}

/** One chunk; also of the store's own format (../sealing). */
export function seal(key: KeyObject, number: number, last: boolean, plain: Buffer): Buffer {
  const cipher = createCipheriv(algorithm, key, nonceOf(number, last));
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** @throws ArchiveError */
export function open(key: KeyObject, number: number, last: boolean, sealed: Buffer): Buffer {
  const decipher = createDecipheriv(algorithm, key, nonceOf(number, last), { authTagLength: tagBytes });
  decipher.setAuthTag(sealed.subarray(-tagBytes));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(0, -tagBytes)), decipher.final()]);
  } catch (cause) {
    const message = `Chunk ${number} of the checkpoint is not what was sealed: changed, moved, or cut.`;
    throw new ArchiveError("damaged", message, { cause });
  }
}

/** E1: seven zero bytes, the number, the last one's mark. */
function nonceOf(number: number, last: boolean): Buffer {
  if (number >= maxChunks) throw new RangeError("an archive has at most 2^32 chunks");
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(number, 7);
  nonce.writeUInt8(last ? 1 : 0, 11);
  return nonce;
}
