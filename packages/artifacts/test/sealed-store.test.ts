/** Sealing as an operator meets it: nothing in plain at rest, keys that change, and what lay there before. */
import { createHash, randomBytes } from "node:crypto";
import { copyFile, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { type ArtifactStore, createFolderStore, parseArtifactKeys } from "@helmr/artifacts";
import { parseArchiveKeys, sealArchive } from "@helmr/artifacts/archive";
import { afterEach, beforeEach, expect, test } from "vitest";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "helmr-sealed-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const newKey = () => randomBytes(32).toString("base64");
const fileOf = (digest: string) => {
  const hex = digest.slice("sha256:".length);
  return join(folder, "sha256", hex.slice(0, 2), hex);
};
const put = async (store: ArtifactStore, bytes: Buffer) =>
  (await store.put(Readable.from([bytes]), { maxBytes: bytes.length })).digest;

test("no byte of an artifact lies in plain: not in the store, not while it is staged", async () => {
  const store = createFolderStore(folder, { keys: parseArtifactKeys({ current: newKey() }) });
  const marker = randomBytes(64);
  const bytes = Buffer.concat([randomBytes(300_000), marker, randomBytes(300_000)]);
  const staged: Buffer[] = [];
  async function* source() {
    yield bytes;
    for (const name of await readdir(join(folder, "staging")))
      staged.push(await readFile(join(folder, "staging", name)));
  }
  const beforePublish = async () => {
    for (const name of await readdir(join(folder, "staging")))
      staged.push(await readFile(join(folder, "staging", name)));
  };
  const { digest } = await store.put(Readable.from(source()), { maxBytes: bytes.length, beforePublish });
  const stored = await readFile(fileOf(digest));
  expect(staged.map((file) => file.length)).toEqual([expect.any(Number), stored.length]);
  for (const file of [...staged, stored]) expect(file.includes(marker)).toBe(false);
  // Without a key the same search finds it.
  const plain = createFolderStore(join(folder, "plain"));
  await put(plain, bytes);
  const hex = digest.slice("sha256:".length);
  expect((await readFile(join(folder, "plain", "sha256", hex.slice(0, 2), hex))).includes(marker)).toBe(true);
  expect((await buffer(await store.get(digest))).equals(bytes)).toBe(true);
});

test("the address is that of the plaintext: what is stored once under whatever key is there", async () => {
  const [first, second] = [newKey(), newKey()];
  const bytes = randomBytes(1000);
  const digest = await put(createFolderStore(folder, { keys: parseArtifactKeys({ current: first }) }), bytes);
  expect(digest).toBe(`sha256:${createHash("sha256").update(bytes).digest("hex")}`);
  const stored = await readFile(fileOf(digest));
  const rotating = createFolderStore(folder, { keys: parseArtifactKeys({ current: second, old: first }) });
  expect(await rotating.has(digest)).toBe(true);
  expect(await put(rotating, bytes)).toBe(digest);
  expect(await readFile(fileOf(digest))).toEqual(stored);
  expect(await buffer(await rotating.get(digest))).toEqual(bytes);
  const tooEarly = createFolderStore(folder, { keys: parseArtifactKeys({ current: second }) });
  await expect(tooEarly.get(digest).then(buffer)).rejects.toThrow("HELMR_ARTIFACT_ENCRYPTION_KEY_OLD");
});

test("what a version stored that did not seal stays readable, and is sealed by the next put", async () => {
  const bytes = randomBytes(1000);
  const digest = await put(createFolderStore(folder), bytes);
  expect(await readFile(fileOf(digest))).toEqual(bytes);
  const store = createFolderStore(folder, { keys: parseArtifactKeys({ current: newKey() }) });
  expect(await buffer(await store.get(digest))).toEqual(bytes);
  const reading = await store.get(digest);
  await put(store, bytes);
  // Who was reading reads on in what was there.
  expect(await buffer(reading)).toEqual(bytes);
  expect((await readFile(fileOf(digest))).includes(bytes.subarray(0, 32))).toBe(false);
  expect(await buffer(await store.get(digest))).toEqual(bytes);
});

test("a checkpoint is sealed once, under the workers' own key", async () => {
  const store = createFolderStore(folder, { keys: parseArtifactKeys({ current: newKey() }) });
  const archive = sealArchive([{ name: "state", kind: "json", value: { n: 1 } }], {
    keys: parseArchiveKeys({ current: newKey() }),
  });
  const { digest, sizeBytes } = await store.put(archive.stream, { maxBytes: 1_000_000, sealed: true });
  const stored = await readFile(fileOf(digest));
  expect(stored.subarray(0, 7).toString()).toBe("HLMRCKP");
  expect(stored.length).toBe(sizeBytes);
  expect(await buffer(await store.get(digest))).toEqual(stored);
});

test("objects that were swapped in the store", async () => {
  const store = createFolderStore(folder, { keys: parseArtifactKeys({ current: newKey() }) });
  const [one, two] = [await put(store, randomBytes(1000)), await put(store, randomBytes(1000))];
  await copyFile(fileOf(two), fileOf(one));
  await expect(store.get(one).then(buffer)).rejects.toThrow(
    `artifact ${one} does not open: its object in the store is another artifact's`,
  );
});
