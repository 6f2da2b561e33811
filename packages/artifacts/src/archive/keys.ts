/**
 * The installation's checkpoint keys: new archives are sealed under the current one, the old one still reads.
 *
 * A key is known by the first 8 hex digits of its sha256, which tell nothing about 32 random bytes.
 */
import { createHash, createSecretKey, type KeyObject } from "node:crypto";

const keyBytes = 32;
const keyPattern = /^[A-Za-z0-9+/_-]{43}=?$/;

export interface ArchiveKeys {
  readonly currentId: string;
  /** By id: the current key and, during a rotation, the old one. */
  readonly byId: ReadonlyMap<string, KeyObject>;
}

/**
 * Keys from HELMR_CHECKPOINT_ENCRYPTION_KEY and, during a rotation, HELMR_CHECKPOINT_ENCRYPTION_KEY_OLD: 32 random bytes in
 * base64 each. Throws a message that says what is wrong with a key, without the key.
 */
export function parseArchiveKeys(texts: KeyTexts): ArchiveKeys {
  return parseKeys("HELMR_CHECKPOINT_ENCRYPTION_KEY", texts);
}

export interface KeyTexts {
  readonly current: string;
  readonly old?: string | undefined;
}

/** The keys of `variable` and its `_OLD`. */
export function parseKeys(variable: string, texts: KeyTexts): ArchiveKeys {
  const current = parseKey(texts.current, variable);
  const byId = new Map([[current.id, current.key]]);
  if (texts.old !== undefined) {
    const old = parseKey(texts.old, `${variable}_OLD`);
    byId.set(old.id, old.key);
  }
  return { currentId: current.id, byId };
}

function parseKey(text: string, variable: string): { readonly id: string; readonly key: KeyObject } {
  const bytes = Buffer.from(text, "base64");
  if (!keyPattern.test(text) || bytes.length !== keyBytes) {
    throw new Error(`${variable} must be 32 random bytes in base64; make one with: openssl rand -base64 32`);
  }
  return { id: createHash("sha256").update(bytes).digest("hex").slice(0, 8), key: createSecretKey(bytes) };
}
