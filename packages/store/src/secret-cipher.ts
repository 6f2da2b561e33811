/**
 * Secret values at rest: each under a data key of its own, and that key wrapped under the installation's key.
 *
 * C1 Environment id and name are associated data of both layers: a row copied to another environment or name does not
 *    decrypt, and neither does one layer beside the other layer of another row.
 * C2 Every encryption and every wrapping takes a fresh 96-bit nonce from the system's random source.
 * C3 New values are wrapped under the current key; the old key only reads. Rotation wraps data keys anew and leaves the
 *    values as they are.
 * C4 A key is known by the first 8 hex digits of its sha256, which tell nothing about 32 random bytes; errors name that
 *    id, never key or value.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  type KeyObject,
  randomBytes,
} from "node:crypto";

/** A data key under the installation's key `keyId`. */
export interface WrappedKey {
  readonly keyId: string;
  /** Nonce (12 bytes), the wrapped key (32), tag (16). */
  readonly dataKey: Buffer;
}

export interface EncryptedSecret extends WrappedKey {
  readonly nonce: Buffer;
  /** Ciphertext followed by the 16-byte tag. */
  readonly ciphertext: Buffer;
}

export interface SecretCipher {
  readonly currentKeyId: string;
  /** Ids of the keys that can be read with: the current one and, during a rotation, the old one. */
  readonly keyIds: readonly string[];
  encrypt(environmentId: string, name: string, value: string): EncryptedSecret;
  /** Throws a SecretCipherError when the key is not configured, or the row was changed. */
  decrypt(environmentId: string, name: string, encrypted: EncryptedSecret): string;
  /** The same data key under the current key. Throws as `decrypt` does. */
  rewrap(environmentId: string, name: string, wrapped: WrappedKey): WrappedKey;
}

/** Each 32 bytes in base64 or base64url. */
export interface SecretCipherOptions {
  readonly current: string;
  /** The key before this one, until `remaining_old_key_count` is 0. */
  readonly old?: string | undefined;
}

/** A secret cannot be read: its key is not configured, or its row was changed. The message may be shown to operators. */
export class SecretCipherError extends Error {
  override readonly name = "SecretCipherError";
}

const algorithm = "aes-256-gcm";
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;
const keyPattern = /^[A-Za-z0-9+/_-]{43}=?$/;

/** Throws a message that says what is wrong with a key, without the key. */
export function createSecretCipher(options: SecretCipherOptions): SecretCipher {
  const current = parseKey(options.current, "the current key");
  const old = options.old === undefined ? undefined : parseKey(options.old, "the old key");
  if (old?.id === current.id) throw new Error("the old secret encryption key is the same as the current one");
  const keys = new Map([current, ...(old ? [old] : [])].map(({ id, key }) => [id, key]));

  const unwrap = (environmentId: string, name: string, { keyId, dataKey }: WrappedKey): Buffer => {
    const key = keys.get(keyId);
    if (key === undefined) throw unknownKey(name, keyId);
    const [nonce, sealed] = [dataKey.subarray(0, nonceBytes), dataKey.subarray(nonceBytes)];
    return open(key, nonce, sealed, wrapData(keyId, environmentId, name), name, keyId);
  };
  const wrap = (environmentId: string, name: string, dataKey: Buffer): WrappedKey => {
    const { nonce, ciphertext } = seal(current.key, dataKey, wrapData(current.id, environmentId, name));
    return { keyId: current.id, dataKey: Buffer.concat([nonce, ciphertext]) };
  };
  return {
    currentKeyId: current.id,
    keyIds: [...keys.keys()],
    encrypt: (environmentId, name, value) => {
      const dataKey = randomBytes(keyBytes);
      const sealed = seal(
        createSecretKey(dataKey),
        Buffer.from(value, "utf8"),
        valueData(environmentId, name),
      );
      return { ...wrap(environmentId, name, dataKey), ...sealed };
    },
    decrypt: (environmentId, name, { nonce, ciphertext, ...wrapped }) => {
      const dataKey = createSecretKey(unwrap(environmentId, name, wrapped));
      return open(dataKey, nonce, ciphertext, valueData(environmentId, name), name, wrapped.keyId).toString(
        "utf8",
      );
    },
    rewrap: (environmentId, name, wrapped) => wrap(environmentId, name, unwrap(environmentId, name, wrapped)),
  };
}

/** C4. Throws as `createSecretCipher` does. */
function parseKey(text: string, which: string): { readonly id: string; readonly key: KeyObject } {
  const bytes = Buffer.from(text, "base64");
  if (!keyPattern.test(text) || bytes.length !== keyBytes) {
    throw new Error(`${which} must be 32 random bytes in base64; make one with: openssl rand -base64 32`);
  }
  const id = createHash("sha256").update(bytes).digest("hex").slice(0, 8);
  return { id, key: createSecretKey(bytes) };
}

function seal(key: KeyObject, plain: Buffer, data: Buffer): { nonce: Buffer; ciphertext: Buffer } {
  const nonce = randomBytes(nonceBytes); // C2
  const cipher = createCipheriv(algorithm, key, nonce).setAAD(data);
  return { nonce, ciphertext: Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]) };
}

function open(
  key: KeyObject,
  nonce: Buffer,
  sealed: Buffer,
  data: Buffer,
  name: string,
  keyId: string,
): Buffer {
  try {
    const decipher = createDecipheriv(algorithm, key, nonce, { authTagLength: tagBytes }).setAAD(data);
    decipher.setAuthTag(sealed.subarray(-tagBytes));
    return Buffer.concat([decipher.update(sealed.subarray(0, -tagBytes)), decipher.final()]);
  } catch (cause) {
    throw new SecretCipherError(
      `secret ${name} cannot be decrypted with key ${keyId}: its row was changed or moved. Set it again, or restore a backup`,
      { cause },
    );
  }
}

function unknownKey(name: string, keyId: string): SecretCipherError {
  return new SecretCipherError(
    `secret ${name} is encrypted under key ${keyId}, which is not configured: start with that key as HELMR_SECRET_ENCRYPTION_KEY_OLD`,
  );
}

/** C1. Ids have a fixed length and names no NUL, so no two pairs give the same bytes. */
function valueData(environmentId: string, name: string): Buffer {
  return Buffer.from(`helmr secret value\0${environmentId}\0${name}`, "utf8");
}

function wrapData(keyId: string, environmentId: string, name: string): Buffer {
  return Buffer.from(`helmr secret data key\0${keyId}\0${environmentId}\0${name}`, "utf8");
}
