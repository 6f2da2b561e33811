/**
 * Secret values at rest: AES-256-GCM under a key with an id, bound to environment and name.
 *
 * C1 The environment id and the name are associated data: a row copied to another environment or name does not decrypt.
 * C2 Each encryption takes a fresh 96-bit nonce from the system's random source.
 * C3 New values are written under the first key; older keys only read, until every value is written again.
 */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from "node:crypto";

export interface EncryptedSecret {
  readonly keyId: string;
  readonly nonce: Buffer;
  /** Ciphertext followed by the 16-byte tag. */
  readonly ciphertext: Buffer;
}

export interface SecretCipher {
  encrypt(environmentId: string, name: string, value: string): EncryptedSecret;
  /** Throws when the key is not configured, or the row was changed. */
  decrypt(environmentId: string, name: string, encrypted: EncryptedSecret): string;
}

export interface SecretCipherOptions {
  /** The first encrypts. `key`: 32 bytes in base64 (or base64url). */
  readonly keys: readonly { readonly id: string; readonly key: string }[];
}

const algorithm = "aes-256-gcm";
const tagBytes = 16;
const nonceBytes = 12;

/** Throws a message that names the key when one is not 32 bytes, or when there is none. */
export function createSecretCipher(options: SecretCipherOptions): SecretCipher {
  const keys = new Map(options.keys.map(({ id, key }) => [id, parseKey(id, key)]));
  const first = options.keys[0];
  if (first === undefined) throw new Error("no secret encryption key is configured");
  if (keys.size !== options.keys.length) throw new Error("two secret encryption keys have the same id");
  const current = keyOf(keys, first.id);
  return {
    encrypt: (environmentId, name, value) => {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv(algorithm, current, nonce).setAAD(associatedData(environmentId, name));
      const ciphertext = Buffer.concat([cipher.update(value, "utf8"), cipher.final(), cipher.getAuthTag()]);
      return { keyId: first.id, nonce, ciphertext };
    },
    decrypt: (environmentId, name, { keyId, nonce, ciphertext }) => {
      const decipher = createDecipheriv(algorithm, keyOf(keys, keyId), nonce, { authTagLength: tagBytes });
      decipher.setAAD(associatedData(environmentId, name));
      decipher.setAuthTag(ciphertext.subarray(-tagBytes));
      const value = Buffer.concat([decipher.update(ciphertext.subarray(0, -tagBytes)), decipher.final()]);
      return value.toString("utf8");
    },
  };
}

function parseKey(id: string, key: string): KeyObject {
  const bytes = Buffer.from(key, "base64");
  if (bytes.length !== 32) {
    throw new Error(`secret encryption key "${id}" must be 32 bytes in base64, got ${bytes.length} bytes`);
  }
  return createSecretKey(bytes);
}

function keyOf(keys: ReadonlyMap<string, KeyObject>, id: string): KeyObject {
  const key = keys.get(id);
  if (key === undefined) {
    throw new Error(
      `a secret is encrypted under key "${id}", which is not configured; add it as an older key`,
    );
  }
  return key;
}

/** C1. Ids have a fixed length and names no NUL, so no two pairs give the same bytes. */
function associatedData(environmentId: string, name: string): Buffer {
  return Buffer.from(`${environmentId}\0${name}`, "utf8");
}
