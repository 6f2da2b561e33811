/**
 * The first bytes of an archive, all of which the chunks' key depends on:
 *
 * | bytes | what                                                                       |
 * |-------|----------------------------------------------------------------------------|
 * | 8     | magic and version: `HLMRCKP` 0x01                                          |
 * | 4     | id of the installation's key (its 8 hex digits)                            |
 * | 4     | plaintext bytes of a chunk, big-endian                                     |
 * | 12    | nonce of the wrapped key                                                   |
 * | 32+16 | the archive's data key under the installation's, AES-256-GCM over the first 16 bytes as associated data |
 */
import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { ArchiveError } from "./errors.ts";
import type { ArchiveKeys } from "./keys.ts";

const magic = Buffer.from("HLMRCKP\x01", "latin1");
const algorithm = "aes-256-gcm";
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;
const openBytes = magic.length + 8;
export const headerBytes = openBytes + nonceBytes + keyBytes + tagBytes;
const chunkBounds = { min: 64, max: 4 << 20 };

export interface ArchiveHeader {
  readonly keyId: string;
  readonly chunkBytes: number;
  /** Of the chunks: the data key bound to every byte of the header. */
  readonly chunkKey: KeyObject;
}

/** Whether these are the first bytes of an archive, of whatever version. */
export function isArchive(beginning: Buffer): boolean {
  const name = magic.subarray(0, magic.length - 1);
  return beginning.subarray(0, name.length).equals(name);
}

/** A new archive's header, and what it says. */
export function makeHeader(keys: ArchiveKeys, chunkBytes: number): { header: ArchiveHeader; bytes: Buffer } {
  const key = keys.byId.get(keys.currentId);
  if (key === undefined) throw new Error("the current checkpoint key is not among the keys");
  const open = Buffer.concat([magic, Buffer.from(keys.currentId, "hex"), Buffer.alloc(4)]);
  open.writeUInt32BE(chunkBytes, openBytes - 4);
  const [nonce, dataKey] = [randomBytes(nonceBytes), randomBytes(keyBytes)];
  const cipher = createCipheriv(algorithm, key, nonce).setAAD(open);
  const wrapped = Buffer.concat([cipher.update(dataKey), cipher.final(), cipher.getAuthTag()]);
  const bytes = Buffer.concat([open, nonce, wrapped]);
  return { header: { keyId: keys.currentId, chunkBytes, chunkKey: chunkKeyOf(dataKey, bytes) }, bytes };
}

/** @throws ArchiveError `not_an_archive`, `truncated`, `unknown_key` or `wrong_key`. */
export function readHeader(bytes: Buffer, keys: ArchiveKeys): ArchiveHeader {
  const beginning = bytes.subarray(0, magic.length);
  if (!beginning.equals(magic.subarray(0, beginning.length))) {
    throw new ArchiveError("not_an_archive", "This is no checkpoint archive, or one of a newer Helmr.");
  }
  if (bytes.length < headerBytes) throw new ArchiveError("truncated", "The checkpoint ends in its header.");
  const keyId = bytes.subarray(magic.length, magic.length + 4).toString("hex");
  const chunkBytes = bytes.readUInt32BE(openBytes - 4);
  const key = keys.byId.get(keyId);
  if (key === undefined) {
    throw new ArchiveError(
      "unknown_key",
      `The checkpoint is sealed under key ${keyId}, which this worker does not have: start it with that key as HELMR_CHECKPOINT_ENCRYPTION_KEY_OLD.`,
    );
  }
  const dataKey = unwrap(bytes, key, keyId);
  if (chunkBytes < chunkBounds.min || chunkBytes > chunkBounds.max)
    throw new ArchiveError("not_an_archive", `The checkpoint has chunks of ${chunkBytes} bytes.`);
  return { keyId, chunkBytes, chunkKey: chunkKeyOf(dataKey, bytes) };
}

function unwrap(bytes: Buffer, key: KeyObject, keyId: string): Buffer {
  try {
    const nonce = bytes.subarray(openBytes, openBytes + nonceBytes);
    const decipher = createDecipheriv(algorithm, key, nonce, { authTagLength: tagBytes })
      .setAAD(bytes.subarray(0, openBytes))
      .setAuthTag(bytes.subarray(headerBytes - tagBytes, headerBytes));
    const wrapped = bytes.subarray(openBytes + nonceBytes, headerBytes - tagBytes);
    return Buffer.concat([decipher.update(wrapped), decipher.final()]);
  } catch (cause) {
    const message = `The checkpoint's header was changed, or key ${keyId} is not the one it was sealed under.`;
    throw new ArchiveError("wrong_key", message, { cause });
  }
}

function chunkKeyOf(dataKey: Buffer, header: Buffer): KeyObject {
  const salt = header.subarray(0, headerBytes);
  return createSecretKey(Buffer.from(hkdfSync("sha256", dataKey, salt, "helmr checkpoint chunks", keyBytes)));
}
