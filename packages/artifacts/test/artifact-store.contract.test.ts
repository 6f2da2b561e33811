/** What every artifact store promises, shown with a folder, in plain and sealed, and with a real S3 server. */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import {
  type ArtifactKeys,
  type ArtifactStore,
  createFolderStore,
  parseArtifactKeys,
} from "@helmr/artifacts";
import { openS3Store } from "@helmr/artifacts/s3";
import { startS3, type TestS3 } from "@helmr/artifacts/testing";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";

let s3: TestS3;
beforeAll(async () => {
  s3 = await startS3();
});
afterAll(() => s3.stop());

interface Opened {
  readonly store: ArtifactStore;
  readonly stagingDir: string;
  /** The stored file of a digest, whatever the server. */
  readonly fileOf: (digest: string) => string;
}
const below = (root: string) => (digest: string) => {
  const hex = digest.slice("sha256:".length);
  return join(root, "sha256", hex.slice(0, 2), hex);
};

const newKey = () => randomBytes(32).toString("base64");
const inFolder = (folder: string, keys?: ArtifactKeys): Opened => ({
  store: createFolderStore(folder, { keys }),
  stagingDir: join(folder, "staging"),
  fileOf: below(folder),
});

const stores: Record<string, (folder: string) => Promise<Opened>> = {
  folder: async (folder) => inFolder(folder),
  "folder, sealed": async (folder) => inFolder(folder, parseArtifactKeys({ current: newKey() })),
  "S3, sealed": async (folder) => {
    const prefix = `contract/${randomBytes(8).toString("hex")}`;
    const stagingDir = join(folder, "staging");
    const { bucket, endpoint, credentials } = s3;
    const limits = { partBytes: 5 << 20 };
    return {
      store: await openS3Store({
        bucket,
        prefix,
        endpoint,
        region: "us-east-1",
        forcePathStyle: true,
        credentials,
        stagingDir,
        keys: parseArtifactKeys({ current: newKey() }),
        limits,
      }),
      stagingDir,
      fileOf: below(join(s3.bucketFolder, prefix)),
    };
  },
};

const digestOf = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

describe.each(Object.keys(stores))("%s", (kind) => {
  let folder: string;
  let opened: Opened;
  let store: ArtifactStore;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "helmr-artifacts-"));
    opened = await (stores[kind] as (typeof stores)[string])(folder);
    store = opened.store;
  });
  afterEach(async () => {
    // Whatever a test did: nothing that was on its way stays.
    const left = await readdir(opened.stagingDir);
    await rm(folder, { recursive: true, force: true });
    expect(left).toEqual([]);
  });

  const bytes = Buffer.from("some bytes");
  const digest = digestOf(bytes);
  const put = (data: Buffer, maxBytes = data.length, expectedDigest?: string) =>
    store.put(Readable.from([data]), {
      maxBytes,
      ...(expectedDigest === undefined ? {} : { expectedDigest }),
    });

  test("what is put can be read, under its digest, once or twice, until it is removed, once or twice", async () => {
    expect(await store.has(digest)).toBe(false);
    expect(await put(bytes)).toEqual({ digest, sizeBytes: bytes.length });
    expect(await put(bytes, 1000, digest)).toEqual({ digest, sizeBytes: bytes.length });
    expect(await store.has(digest)).toBe(true);
    expect(await buffer(await store.get(digest))).toEqual(bytes);
    await store.delete(digest);
    await store.delete(digest);
    expect(await store.has(digest)).toBe(false);
    await expect(store.get(digest)).rejects.toThrow(`${digest} is not in the store`);
  });

  test("the empty artifact is an artifact", async () => {
    const stored = await store.put(Readable.from([]), { maxBytes: 0 });
    expect(stored).toEqual({ digest: digestOf(Buffer.alloc(0)), sizeBytes: 0 });
    expect(await store.has(stored.digest)).toBe(true);
    expect(await buffer(await store.get(stored.digest))).toHaveLength(0);
  });

  test("sizes around chunks and parts come back whole", async () => {
    const part = 5 << 20;
    for (const size of [1, 65_536, 65_537, part - 1, part, part + 1, 2 * part, 2 * part + 1]) {
      const data = randomBytes(size);
      const pieces = [data.subarray(0, size >> 1), data.subarray(size >> 1)];
      const stored = await store.put(Readable.from(pieces), { maxBytes: size });
      expect(stored).toEqual({ digest: digestOf(data), sizeBytes: size });
      expect((await buffer(await store.get(stored.digest))).equals(data)).toBe(true);
    }
  });

  test("too large, another digest, a failing source, a refused publication: rejected, nothing is found", async () => {
    await expect(put(bytes, bytes.length - 1)).rejects.toThrow("larger than 9 bytes");
    await expect(put(bytes, 1000, `sha256:${"0".repeat(64)}`)).rejects.toThrow("expected sha256:000");
    const failing = Readable.from(
      (async function* () {
        yield bytes;
        throw new Error("connection lost");
      })(),
    );
    await expect(store.put(failing, { maxBytes: 1000 })).rejects.toThrow("connection lost");
    const seen: boolean[] = [];
    const beforePublish = async (artifact: { digest: string }) => {
      seen.push(await store.has(artifact.digest));
      throw new Error("not now");
    };
    const refused = store.put(Readable.from([bytes]), { maxBytes: 1000, beforePublish });
    await expect(refused).rejects.toThrow("not now");
    expect(seen).toEqual([false]);
    expect(await store.has(digest)).toBe(false);
  });

  test("a source that is given up ends the put", async () => {
    const source = new Readable({ read() {} });
    source.push(bytes);
    const putting = store.put(source, { maxBytes: 1000 });
    source.destroy(new Error("the caller is gone"));
    await expect(putting).rejects.toThrow("the caller is gone");
    expect(await store.has(digest)).toBe(false);
  });

  test("what is not a digest is never asked for", async () => {
    for (const bad of ["sha256:../../etc/passwd", "", "md5:00", digest.toUpperCase()]) {
      await expect(store.has(bad)).rejects.toThrow("artifact digest must be");
      await expect(store.get(bad)).rejects.toThrow("artifact digest must be");
      await expect(store.delete(bad)).rejects.toThrow("artifact digest must be");
      await expect(put(bytes, 1000, bad)).rejects.toThrow("artifact digest must be");
    }
  });

  test("many puts of one artifact at once, and of many", async () => {
    const same = randomBytes(6 << 20);
    const others = Array.from({ length: 20 }, (_, n) => Buffer.from(`other ${n}`));
    const stored = await Promise.all([same, same, same, ...others].map((data) => put(data)));
    expect(new Set(stored.map((one) => one.digest)).size).toBe(1 + others.length);
    expect((await buffer(await store.get(digestOf(same)))).equals(same)).toBe(true);
    for (const data of others) expect(await buffer(await store.get(digestOf(data)))).toEqual(data);
  });

  test("damage is noticed while reading, and one that shows in the size is mended by the next put", async () => {
    const data = randomBytes(200_000);
    const stored = await put(data);
    const file = opened.fileOf(stored.digest);
    const whole = await readFile(file);
    const flipped = Buffer.from(whole);
    flipped[100_000] = (flipped[100_000] ?? 0) ^ 1;
    await writeFile(file, flipped);
    await expect(buffer(await store.get(stored.digest))).rejects.toThrow(stored.digest);
    await writeFile(file, whole.subarray(0, 150_000));
    await expect(buffer(await store.get(stored.digest))).rejects.toThrow(stored.digest);
    await put(data);
    expect((await buffer(await store.get(stored.digest))).equals(data)).toBe(true);
  });

  test("a reader that stops holds nothing", async () => {
    const data = randomBytes(12 << 20);
    const { digest: large } = await put(data);
    for (let n = 0; n < 60; n += 1) {
      const reading = await store.get(large);
      for await (const piece of reading) {
        expect(piece.length).toBeGreaterThan(0);
        break;
      }
      expect(reading.destroyed).toBe(true);
    }
    const unread = await store.get(large);
    unread.destroy();
    expect((await buffer(await store.get(large))).equals(data)).toBe(true);
  });
});
