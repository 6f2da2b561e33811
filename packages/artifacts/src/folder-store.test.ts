/** The folder store: what a put promises, what a get verifies, and that a failure leaves nothing behind. */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ArtifactStore } from "./artifact-store.ts";
import { createFolderStore } from "./folder-store.ts";

let dir: string;
let store: ArtifactStore;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-artifacts-"));
  store = createFolderStore(dir);
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const bytes = Buffer.from("some bytes");
const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const put = (data: Buffer, maxBytes = 1000, expectedDigest?: string) =>
  store.put(Readable.from([data]), { maxBytes, ...(expectedDigest === undefined ? {} : { expectedDigest }) });

test("what is put can be read, under its digest, once or twice", async () => {
  expect(await store.has(digest)).toBe(false);
  expect(await put(bytes)).toEqual({ digest, sizeBytes: bytes.length });
  expect(await put(bytes, 1000, digest)).toEqual({ digest, sizeBytes: bytes.length });
  expect(await store.has(digest)).toBe(true);
  expect(await buffer(await store.get(digest))).toEqual(bytes);
  expect(await readdir(join(dir, "staging"))).toEqual([]);
});

test("the empty artifact is an artifact", async () => {
  const stored = await store.put(Readable.from([]), { maxBytes: 0 });
  expect(stored.sizeBytes).toBe(0);
  expect(await buffer(await store.get(stored.digest))).toHaveLength(0);
});

test("too large, another digest, a failing source: rejected, nothing left", async () => {
  await expect(put(bytes, bytes.length - 1)).rejects.toThrow("larger than 9 bytes");
  await expect(put(bytes, 1000, `sha256:${"0".repeat(64)}`)).rejects.toThrow("expected sha256:000");
  const failing = Readable.from(
    (async function* () {
      yield bytes;
      throw new Error("connection lost");
    })(),
  );
  await expect(store.put(failing, { maxBytes: 1000 })).rejects.toThrow("connection lost");
  expect(await store.has(digest)).toBe(false);
  expect(await readdir(join(dir, "staging"))).toEqual([]);
});

test("a damaged file is noticed while it is read, and mended by the next put", async () => {
  await put(bytes);
  const hex = digest.slice("sha256:".length);
  const path = join(dir, "sha256", hex.slice(0, 2), hex);
  await writeFile(path, "some bytez");
  await expect(buffer(await store.get(digest))).rejects.toThrow("has digest sha256:");
  await writeFile(path, "some");
  await put(bytes);
  expect(await buffer(await store.get(digest))).toEqual(bytes);
});

test("what is not there or not a digest", async () => {
  await expect(store.get(digest)).rejects.toThrow(`${digest} is not in the store`);
  for (const bad of ["sha256:../../etc/passwd", "", "md5:00", digest.toUpperCase()]) {
    await expect(store.has(bad)).rejects.toThrow("artifact digest must be");
    await expect(put(bytes, 1000, bad)).rejects.toThrow("artifact digest must be");
  }
  await store.delete(digest);
});

test("a start removes what an interrupted put left a day ago, and nothing of another process's put", async () => {
  const left = join(dir, "staging", "left");
  await writeFile(left, "half");
  createFolderStore(dir);
  expect(await readdir(join(dir, "staging"))).toEqual(["left"]);
  const longAgo = Date.now() / 1000 - 2 * 24 * 60 * 60;
  await utimes(left, longAgo, longAgo);
  createFolderStore(dir);
  expect(await readdir(join(dir, "staging"))).toEqual([]);
});

test("nobody finds an artifact before it may be published, nor when that is refused", async () => {
  const seen: boolean[] = [];
  const beforePublish = async (artifact: { digest: string }) => {
    seen.push(await store.has(artifact.digest));
    throw new Error("not now");
  };
  await expect(store.put(Readable.from([bytes]), { maxBytes: 1000, beforePublish })).rejects.toThrow(
    "not now",
  );
  expect(seen).toEqual([false]);
  expect(await store.has(digest)).toBe(false);
});
