/**
 * A stored artifact is sealed: a header, and the bytes in authenticated chunks (../archive/chunks.ts, E1 to E3).
 *
 * | bytes | what                                                                    |
 * |-------|-------------------------------------------------------------------------|
 * | 8     | magic and version: `HLMRART` 0x01                                       |
 * | 4     | id of the installation's key (8 hex digits of its sha256)               |
 * | 4     | plaintext bytes of a chunk, big-endian                                  |
 * | 32    | salt, random                                                            |
 * | 16    | tag of AES-256-GCM over nothing, with the 48 bytes before and the artifact's 32-byte digest as associated data |
 *
 *  A1 Each artifact has keys of its own: HKDF-SHA256 of the installation's key with the salt, for the first 16 bytes of the
 *     header. One is for the chunks, one for the tag. So nonces may be counted, and a header of which a bit is changed opens nothing.
 *  A2 The digest is in the tag: the object of another artifact does not open under this one's name.
 *  A3 The name of an artifact stays the sha256 of its plaintext: what is the same is stored once, whatever key it is under.
 */
import {
  createCipheriv,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
  timingSafeEqual,
} from "node:crypto";
import { type ArchiveKeys, type KeyTexts, parseKeys } from "../archive/keys.ts";
import { digestHex } from "../digest.ts";
import { SealedArtifactError } from "../errors.ts";

export type ArtifactKeys = ArchiveKeys;

/** Keys from HELMR_ARTIFACT_ENCRYPTION_KEY and, during a rotation, HELMR_ARTIFACT_ENCRYPTION_KEY_OLD: 32 random bytes in base64 each. */
export function parseArtifactKeys(texts: KeyTexts): ArtifactKeys {
  return parseKeys("HELMR_ARTIFACT_ENCRYPTION_KEY", texts);
}

const magic = Buffer.from("HLMRART\x01", "latin1");
const saltBytes = 32;
const tagBytes = 16;
const openBytes = magic.length + 8;
export const headerBytes = openBytes + saltBytes + tagBytes;
const chunkBounds = { min: 64, max: 4 << 20 };

export interface SealedHeader {
  readonly keyId: string;
  readonly chunkBytes: number;
  readonly chunkKey: KeyObject;
  /** The whole header, for the artifact that turned out to have this digest. */
  bytesFor(digest: string): Buffer;
}

export function makeHeader(keys: ArtifactKeys, chunkBytes: number): SealedHeader {
  const key = keys.byId.get(keys.currentId);
  if (key === undefined) throw new Error("the current artifact key is not among the keys");
  const open = Buffer.concat([
    magic,
    Buffer.from(keys.currentId, "hex"),
    Buffer.alloc(4),
    randomBytes(saltBytes),
  ]);
  open.writeUInt32BE(chunkBytes, openBytes - 4);
  return headerOf(open, key);
}

function headerOf(open: Buffer, key: KeyObject): SealedHeader {
  const info = Buffer.concat([Buffer.from("helmr artifact "), open.subarray(0, openBytes)]);
  const derived = Buffer.from(hkdfSync("sha256", key, open.subarray(openBytes), info, 64)); // A1
  const tagKey = derived.subarray(32);
  return {
    keyId: open.subarray(magic.length, magic.length + 4).toString("hex"),
    chunkBytes: open.readUInt32BE(openBytes - 4),
    chunkKey: createSecretKey(derived.subarray(0, 32)),
    bytesFor: (digest) => {
      // A2. The tag's key is used once, so its nonce may be zero.
      const cipher = createCipheriv("aes-256-gcm", tagKey, Buffer.alloc(12));
      cipher.setAAD(Buffer.concat([open, Buffer.from(digestHex(digest), "hex")])).final();
      return Buffer.concat([open, cipher.getAuthTag()]);
    },
  };
}

/** Whether these are the first bytes of a sealed artifact; fewer than `magic` has say no. */
export function isSealed(beginning: Buffer): boolean {
  return beginning.subarray(0, magic.length).equals(magic);
}

/** The key that a sealed artifact's beginning names. */
export function keyIdOf(beginning: Buffer): string {
  return beginning.subarray(magic.length, magic.length + 4).toString("hex");
}

/** @throws SealedArtifactError */
export function readHeader(bytes: Buffer, digest: string, keys: ArtifactKeys | undefined): SealedHeader {
  const keyId = keyIdOf(bytes);
  const key = keys?.byId.get(keyId);
  if (key === undefined) {
    const variable =
      keys === undefined ? "HELMR_ARTIFACT_ENCRYPTION_KEY" : "HELMR_ARTIFACT_ENCRYPTION_KEY_OLD";
    const what = `is sealed under key ${keyId}, which this process does not have: start it with that key as ${variable}`;
    throw new SealedArtifactError(digest, "unknown_key", what);
  }
  const header = headerOf(bytes.subarray(0, openBytes + saltBytes), key);
  const { min, max } = chunkBounds;
  const authentic = timingSafeEqual(header.bytesFor(digest), bytes.subarray(0, headerBytes));
  if (authentic && header.chunkBytes >= min && header.chunkBytes <= max) return header;
  const what = `does not open: its object in the store is another artifact's, or its header was changed. ${mend}`;
  throw new SealedArtifactError(digest, "other_artifact", what);
}

/** What an operator does about a damaged object. */
export const mend =
  "Restore the object from a backup of the object store; if there is none, remove it, and what needs it says so";
