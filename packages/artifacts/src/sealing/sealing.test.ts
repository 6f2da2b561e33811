/** The format of stored artifacts: whatever is done to the bytes, they come back as they were or not at all. */
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SealedArtifactError } from "../errors.ts";
import { type ArtifactKeys, headerBytes, parseArtifactKeys } from "./header.ts";
import { opening } from "./open.ts";
import { Sealer } from "./seal.ts";

const [current, old, other] = [1, 2, 3].map((n) => Buffer.alloc(32, n).toString("base64")) as [
  string,
  string,
  string,
];
const keys = parseArtifactKeys({ current });
const chunkBytes = 64;
const sealedChunk = chunkBytes + 16;
const digestOf = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

function seal(pieces: readonly Uint8Array[], under: ArtifactKeys = keys): Buffer {
  const sealer = new Sealer(under, chunkBytes);
  const chunks = pieces.flatMap((piece) => [...sealer.update(Buffer.from(piece))]);
  chunks.push(sealer.last());
  return Buffer.concat([sealer.header(digestOf(Buffer.concat(pieces))), ...chunks]);
}

/** In pieces of `step` bytes. */
async function unseal(stored: Buffer, digest: string, under: ArtifactKeys | undefined = keys, step = 1000) {
  const pieces = Array.from({ length: Math.ceil(stored.length / step) }, (_, n) =>
    stored.subarray(n * step, (n + 1) * step),
  );
  return await buffer(Readable.from(pieces, { objectMode: false }).pipe(opening(digest, under)));
}
const failure = (stored: Buffer, digest: string, under: ArtifactKeys | undefined = keys) =>
  new Promise<Error | undefined>((resolve) => {
    const opened = opening(digest, under);
    opened.on("error", resolve).on("end", () => resolve(undefined));
    opened.resume();
    opened.end(stored);
  });

const plaintext = fc.uint8Array({ maxLength: 5 * chunkBytes });

test("what was sealed opens, however it was cut into pieces", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(plaintext, { maxLength: 4 }),
      fc.integer({ min: 1, max: 500 }),
      async (pieces, step) => {
        const plain = Buffer.concat(pieces);
        const stored = seal(pieces);
        expect(stored.length).toBe(
          headerBytes + plain.length + 16 * Math.max(1, Math.ceil(plain.length / chunkBytes)),
        );
        expect((await unseal(stored, digestOf(plain), keys, step)).equals(plain)).toBe(true);
      },
    ),
  );
});

test("a bit that is changed anywhere is an error that names the artifact, and no changed byte comes out", async () => {
  await fc.assert(
    fc.asyncProperty(plaintext, fc.nat(), fc.integer({ min: 0, max: 7 }), async (plain, where, bit) => {
      const stored = seal([plain]);
      const at = where % stored.length;
      stored[at] = (stored[at] ?? 0) ^ (1 << bit);
      const passed: Buffer[] = [];
      const opened = opening(digestOf(plain), keys);
      opened.on("data", (piece) => passed.push(piece));
      const error = await new Promise<Error | undefined>((resolve) => {
        opened.on("error", resolve).on("end", () => resolve(undefined));
        opened.end(stored);
      });
      expect(error?.message).toContain(digestOf(plain));
      const out = Buffer.concat(passed);
      // A changed magic makes it bytes that were never sealed, which the digest refuses.
      if (at >= 8) expect(out.equals(Buffer.from(plain).subarray(0, out.length))).toBe(true);
    }),
  );
});

test("an end that is missing is an error, wherever it was cut", async () => {
  await fc.assert(
    fc.asyncProperty(plaintext, fc.nat(), async (plain, where) => {
      const stored = seal([plain]);
      const left = stored.subarray(0, where % stored.length);
      fc.pre(plain.length > 0 || left.length > 0); // nothing at all is the artifact that has no bytes
      expect(await failure(left, digestOf(plain))).toBeInstanceOf(Error);
    }),
  );
  const plain = randomBytes(3 * chunkBytes);
  const whole = seal([plain]);
  for (const cut of [20, headerBytes, headerBytes + 5, headerBytes + sealedChunk]) {
    const error = await failure(whole.subarray(0, cut), digestOf(plain));
    expect(error).toMatchObject({ reason: "truncated" });
    expect(error?.message).toContain("Restore the object from a backup");
  }
});

test("chunks that are moved, repeated or left out, and bytes after the end", async () => {
  const plain = randomBytes(4 * chunkBytes);
  const stored = seal([plain]);
  const header = stored.subarray(0, headerBytes);
  const chunk = (n: number) =>
    stored.subarray(headerBytes + n * sealedChunk, headerBytes + (n + 1) * sealedChunk);
  const orders = [
    [1, 0, 2, 3],
    [0, 0, 1, 2, 3],
    [0, 2, 3],
    [0, 1, 3, 2],
  ];
  for (const order of orders) {
    const moved = Buffer.concat([header, ...order.map(chunk)]);
    expect(await failure(moved, digestOf(plain))).toMatchObject({ reason: "damaged" });
  }
  expect(await failure(Buffer.concat([stored, Buffer.alloc(1)]), digestOf(plain))).toMatchObject({
    reason: "damaged",
  });
});

test("the object of another artifact, its chunks below this one's header, and its header before these chunks", async () => {
  const [one, two] = [randomBytes(100), randomBytes(100)];
  const [first, second] = [seal([one]), seal([two])];
  expect(await failure(second, digestOf(one))).toMatchObject({ reason: "other_artifact" });
  const mixed = Buffer.concat([first.subarray(0, headerBytes), second.subarray(headerBytes)]);
  expect(await failure(mixed, digestOf(one))).toMatchObject({ reason: "damaged" });
  const swapped = Buffer.concat([second.subarray(0, headerBytes), first.subarray(headerBytes)]);
  expect(await failure(swapped, digestOf(one))).toMatchObject({ reason: "other_artifact" });
});

describe("keys", () => {
  const plain = randomBytes(1000);
  const digest = digestOf(plain);

  test("the old one reads during a rotation; without it the error says which is missing", async () => {
    const before = seal([plain], parseArtifactKeys({ current: old }));
    expect(await unseal(before, digest, parseArtifactKeys({ current, old }))).toEqual(plain);
    const error = await failure(before, digest, keys);
    expect(error).toBeInstanceOf(SealedArtifactError);
    expect(error).toMatchObject({ reason: "unknown_key" });
    expect(error?.message).toMatch(/sealed under key [0-9a-f]{8}.*HELMR_ARTIFACT_ENCRYPTION_KEY_OLD/);
    expect(error?.message).not.toContain(old);
    const none = await new Promise<Error>((resolve) => {
      opening(digest, undefined).on("error", resolve).end(before);
    });
    expect(none.message).toMatch(/as HELMR_ARTIFACT_ENCRYPTION_KEY$/);
  });

  test("another key with the same id opens nothing", async () => {
    const lookalike = parseArtifactKeys({ current: other });
    const [key] = lookalike.byId.values();
    const forged = { currentId: keys.currentId, byId: new Map(key ? [[keys.currentId, key]] : []) };
    expect(await failure(seal([plain]), digest, forged)).toMatchObject({ reason: "other_artifact" });
  });

  test("two seals of the same bytes have nothing in common but the first 16 bytes", () => {
    const [one, two] = [seal([plain]), seal([plain])];
    expect(one.subarray(0, 16)).toEqual(two.subarray(0, 16));
    for (let at = 16; at + 16 <= one.length; at += 16)
      expect(one.subarray(at, at + 16)).not.toEqual(two.subarray(at, at + 16));
  });

  test.each([["short"], [`${current}x`], [Buffer.alloc(31).toString("base64")]])("refused: %s", (text) => {
    expect(() => parseArtifactKeys({ current: text })).toThrow("HELMR_ARTIFACT_ENCRYPTION_KEY must be 32");
    expect(() => parseArtifactKeys({ current, old: text })).toThrow("HELMR_ARTIFACT_ENCRYPTION_KEY_OLD must");
  });
});

test("bytes that were never sealed are read as they are, and verified", async () => {
  await fc.assert(
    fc.asyncProperty(plaintext, async (plain) => {
      expect((await unseal(Buffer.from(plain), digestOf(plain))).equals(Buffer.from(plain))).toBe(true);
      const changed = Buffer.concat([plain, Buffer.alloc(1)]);
      expect((await failure(changed, digestOf(plain)))?.message).toContain("expected");
    }),
  );
});
