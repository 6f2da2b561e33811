/** Idempotency keys (contract 13.9). */
import { expectText, fail, show } from "../authoring/checks.ts";

export interface IdempotencyKey {
  /** 64 hex digits: what is sent. */
  readonly value: string;
  readonly key: string | readonly string[];
  readonly scope: "global";
}
export interface IdempotencyKeyOptions {
  readonly scope?: "global" | undefined;
}

export const idempotencyKeys = Object.freeze({
  /**
   * The key made of `key`: equal parts give equal keys, everywhere. Throws a TypeError on a key without
   * content and on parts that are no strings.
   */
  async create(
    key: string | readonly string[],
    options: IdempotencyKeyOptions = {},
  ): Promise<IdempotencyKey> {
    const scope = options.scope ?? "global";
    if (scope !== "global")
      fail("idempotencyKeys.create(key, options).scope", `must be "global", got ${show(scope)}`);
    const parts: readonly unknown[] = Array.isArray(key) ? key : [key];
    if (parts.every((part) => part === "")) fail("idempotencyKeys.create(key)", "must not be empty");
    const texts = parts.map((part, index) => {
      if (typeof part !== "string")
        fail(`idempotencyKeys.create(key)[${index}]`, `must be a string, got ${show(part)}`);
      return part;
    });
    const value = await sha256Hex(JSON.stringify({ scope, key: texts }));
    return Object.freeze({ value, key: Array.isArray(key) ? Object.freeze(texts) : (key as string), scope });
  },
});

/** What goes on the wire: the value of a created key, or the hash of a raw one. */
export async function idempotencyValue(key: string | readonly string[] | IdempotencyKey): Promise<string> {
  if (typeof key === "object" && "value" in key) return expectText(key.value, "idempotencyKey.value");
  return (await idempotencyKeys.create(key)).value;
}

async function sha256Hex(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
