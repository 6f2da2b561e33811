/** The cipher: what it binds, what it refuses, how keys rotate. */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createSecretCipher, type EncryptedSecret, SecretCipherError } from "./secret-cipher.ts";

const bytes = (fill: number) => Buffer.alloc(32, fill);
const key = (fill: number) => bytes(fill).toString("base64");
const idOf = (fill: number) => createHash("sha256").update(bytes(fill)).digest("hex").slice(0, 8);
const cipher = createSecretCipher({ current: key(1) });

/** Any text without halves of surrogate pairs, which UTF-8 cannot hold. */
const value = fc.string({ unit: "binary", maxLength: 2000 });
const environment = fc.uuid();
const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/);
const keyFill = fc.integer({ min: 0, max: 255 });

describe("properties", () => {
  test("what is encrypted comes back, and no two encryptions share a byte string", () => {
    fc.assert(
      fc.property(keyFill, environment, name, value, (fill, environmentId, secretName, text) => {
        const one = createSecretCipher({ current: key(fill) });
        const first = one.encrypt(environmentId, secretName, text);
        const second = one.encrypt(environmentId, secretName, text);
        expect(one.decrypt(environmentId, secretName, first)).toBe(text);
        expect(first.keyId).toBe(idOf(fill));
        expect(first.dataKey).toHaveLength(60);
        expect(first.nonce).not.toEqual(second.nonce);
        expect(first.dataKey).not.toEqual(second.dataKey);
        expect(first.ciphertext).not.toEqual(second.ciphertext);
      }),
    );
  });

  test("any flipped bit, and any length but the right one, is refused", () => {
    const part = fc.constantFrom("dataKey" as const, "nonce" as const, "ciphertext" as const);
    fc.assert(
      fc.property(environment, name, value, part, fc.nat(), (environmentId, secretName, text, field, at) => {
        const encrypted = cipher.encrypt(environmentId, secretName, text);
        const flipped = Buffer.from(encrypted[field]);
        const bit = at % (flipped.length * 8);
        flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        const cut = encrypted[field].subarray(0, at % encrypted[field].length);
        const longer = Buffer.concat([encrypted[field], Buffer.alloc(1)]);
        for (const changed of [flipped, cut, longer]) {
          const row = { ...encrypted, [field]: changed };
          expect(() => cipher.decrypt(environmentId, secretName, row)).toThrow(SecretCipherError);
        }
      }),
    );
  });

  test("a row or one layer of it copied elsewhere is refused", () => {
    fc.assert(
      fc.property(environment, environment, name, name, value, (from, to, oneName, otherName, text) => {
        fc.pre(from !== to && oneName !== otherName);
        const encrypted = cipher.encrypt(from, oneName, text);
        expect(() => cipher.decrypt(to, oneName, encrypted)).toThrow(SecretCipherError);
        expect(() => cipher.decrypt(from, otherName, encrypted)).toThrow(SecretCipherError);
        expect(() => cipher.rewrap(to, oneName, encrypted)).toThrow(SecretCipherError);
        const other = cipher.encrypt(from, oneName, text);
        const mixed: EncryptedSecret = { ...encrypted, dataKey: other.dataKey };
        expect(() => cipher.decrypt(from, oneName, mixed)).toThrow(SecretCipherError);
      }),
    );
  });

  test("another key is refused with the id of the right one, and neither key nor value is told", () => {
    fc.assert(
      fc.property(keyFill, keyFill, environment, name, (right, wrong, environmentId, secretName) => {
        fc.pre(right !== wrong);
        const text = "planted-value-0123456789";
        const encrypted = createSecretCipher({ current: key(right) }).encrypt(
          environmentId,
          secretName,
          text,
        );
        const error = thrown(() =>
          createSecretCipher({ current: key(wrong) }).decrypt(environmentId, secretName, encrypted),
        );
        expect(error.message).toContain(`under key ${idOf(right)}, which is not configured`);
        for (const secret of [text, key(right), key(wrong)]) expect(error.message).not.toContain(secret);
      }),
    );
  });

  test("wrapping anew keeps the value's bytes and needs the old key no more", () => {
    fc.assert(
      fc.property(environment, name, value, (environmentId, secretName, text) => {
        const before = cipher.encrypt(environmentId, secretName, text);
        const rotating = createSecretCipher({ current: key(2), old: key(1) });
        expect(rotating.decrypt(environmentId, secretName, before)).toBe(text);
        const after = { ...before, ...rotating.rewrap(environmentId, secretName, before) };
        expect(after.ciphertext).toBe(before.ciphertext);
        expect(after.keyId).toBe(idOf(2));
        expect(createSecretCipher({ current: key(2) }).decrypt(environmentId, secretName, after)).toBe(text);
        expect(() => cipher.decrypt(environmentId, secretName, after)).toThrow(idOf(2));
      }),
    );
  });
});

test("keys that cannot be used are refused without being repeated", () => {
  for (const bad of ["", "c2hvcnQ=", `${key(1)}!`, `${key(1).slice(0, -2)} =`, bytes(1).toString("hex")]) {
    const error = thrown(() => createSecretCipher({ current: bad }));
    expect(error.message).toContain("must be 32 random bytes in base64");
    if (bad !== "") expect(error.message).not.toContain(bad);
  }
  expect(() => createSecretCipher({ current: key(1), old: "c2hvcnQ=" })).toThrow("the old key must be");
  expect(() => createSecretCipher({ current: key(1), old: bytes(1).toString("base64url") })).toThrow(
    "the same as",
  );
});

test("new values are under the current key while the old one still reads", () => {
  const rotating = createSecretCipher({ current: key(2), old: key(1) });
  expect(rotating.keyIds).toEqual([idOf(2), idOf(1)]);
  expect(rotating.encrypt("environment", "NAME", "x").keyId).toBe(rotating.currentKeyId);
});

function thrown(work: () => unknown): Error {
  try {
    work();
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error("nothing was thrown");
}
