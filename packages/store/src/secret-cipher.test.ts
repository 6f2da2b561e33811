/** The cipher: what it binds, what it refuses, how keys rotate. */
import { expect, test } from "vitest";
import { createSecretCipher } from "./secret-cipher.ts";

const key = (id: string, byte: number) => ({ id, key: Buffer.alloc(32, byte).toString("base64") });
const cipher = createSecretCipher({ keys: [key("one", 1)] });
const environment = "019a0000-0000-7000-8000-000000000000";

test("what is encrypted comes back, and looks different each time", () => {
  for (const value of ["", "secret", "ü\u{1f600}\n".repeat(5000)]) {
    const encrypted = cipher.encrypt(environment, "NAME", value);
    expect(cipher.decrypt(environment, "NAME", encrypted)).toBe(value);
    expect(cipher.encrypt(environment, "NAME", value).ciphertext).not.toEqual(encrypted.ciphertext);
    expect(encrypted.nonce).toHaveLength(12);
  }
});

test("a row that was moved or changed does not decrypt", () => {
  const encrypted = cipher.encrypt(environment, "NAME", "secret");
  expect(() => cipher.decrypt(environment, "OTHER", encrypted)).toThrow();
  expect(() => cipher.decrypt(environment.replace("a", "b"), "NAME", encrypted)).toThrow();
  for (const at of [0, encrypted.ciphertext.length - 1]) {
    const ciphertext = Buffer.from(encrypted.ciphertext);
    ciphertext.writeUInt8(ciphertext.readUInt8(at) ^ 1, at);
    expect(() => cipher.decrypt(environment, "NAME", { ...encrypted, ciphertext })).toThrow();
  }
  const short = { ...encrypted, ciphertext: encrypted.ciphertext.subarray(0, 8) };
  expect(() => cipher.decrypt(environment, "NAME", short)).toThrow();
});

test("a new key encrypts, the old one still reads", () => {
  const old = cipher.encrypt(environment, "NAME", "secret");
  const rotated = createSecretCipher({ keys: [key("two", 2), key("one", 1)] });
  expect(rotated.decrypt(environment, "NAME", old)).toBe("secret");
  expect(rotated.encrypt(environment, "NAME", "secret").keyId).toBe("two");
  const without = createSecretCipher({ keys: [key("two", 2)] });
  expect(() => without.decrypt(environment, "NAME", old)).toThrow('key "one", which is not configured');
});

test("keys that cannot be used", () => {
  expect(() => createSecretCipher({ keys: [] })).toThrow("no secret encryption key");
  expect(() => createSecretCipher({ keys: [{ id: "x", key: "c2hvcnQ=" }] })).toThrow(
    'key "x" must be 32 bytes',
  );
  expect(() => createSecretCipher({ keys: [key("a", 1), key("a", 2)] })).toThrow("the same id");
});
