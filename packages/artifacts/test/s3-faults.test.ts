/** The store in a bucket while its server dies, hangs, refuses, or is reached over a line that cuts and changes bytes. */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { ListMultipartUploadsCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import type { ArtifactStore } from "@helmr/artifacts";
import { openS3Store, type S3StoreOptions } from "@helmr/artifacts/s3";
import { type FaultyLink, faultyLinkTo, startS3, type TestS3 } from "@helmr/artifacts/testing";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";

const MIB = 2 ** 20;
let s3: TestS3;
let folder: string;
let link: FaultyLink;
beforeAll(async () => {
  s3 = await startS3();
});
afterAll(() => s3.stop());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "helmr-s3-faults-"));
  link = await faultyLinkTo(s3.endpoint);
});
afterEach(async () => {
  const left = await readdir(folder, { recursive: true });
  await link.close();
  await rm(folder, { recursive: true, force: true });
  expect(left).toEqual([]);
});

/** Patient with a server that comes back, in seconds and not in minutes. */
const limits = { connectMs: 1_000, idleMs: 1_000, attempts: 12, maxPauseMs: 1_000, partBytes: 5 * MIB };
const open = (more: Partial<S3StoreOptions> = {}) =>
  openS3Store({
    bucket: s3.bucket,
    prefix: randomBytes(6).toString("hex"),
    endpoint: link.endpoint,
    region: "us-east-1",
    forcePathStyle: true,
    credentials: s3.credentials,
    stagingDir: folder,
    ...more,
    limits: { ...limits, ...more.limits },
  });
const put = (store: ArtifactStore, bytes: Buffer) =>
  store.put(Readable.from([bytes]), { maxBytes: bytes.length });
/** The SDK's client, past the store and the line. */
const direct = () =>
  new S3Client({
    endpoint: s3.endpoint,
    region: "us-east-1",
    forcePathStyle: true,
    credentials: s3.credentials,
  });

/** Calls `then` once, when so many bytes have passed in all. */
function after(bytes: number, then: () => void) {
  let passed = 0;
  let done = false;
  return (piece: Buffer) => {
    passed += piece.length;
    if (!done && passed > bytes) {
      done = true;
      then();
    }
    return piece;
  };
}

/** In MiB; 300 take a quarter of a minute. */
const large = Number(process.env.HELMR_TEST_ARTIFACT_MIB ?? 64);

test(`an artifact of ${large} MiB goes in parts beside each other and comes back in one`, async () => {
  const store = await open();
  const piece = randomBytes(MIB);
  const hash = createHash("sha256");
  async function* source() {
    for (let n = 0; n < large; n += 1) {
      const numbered = Buffer.from(piece);
      numbered.writeUInt32BE(n);
      hash.update(numbered);
      yield numbered;
    }
  }
  const onProgress = vi.fn();
  const { digest, sizeBytes } = await store.put(Readable.from(source()), {
    maxBytes: large * MIB,
    onProgress,
  });
  expect(sizeBytes).toBe(large * MIB);
  expect(digest).toBe(`sha256:${hash.digest("hex")}`);
  // Whoever limits how long a transfer stands still is told of every part.
  expect(onProgress.mock.calls.length).toBeGreaterThanOrEqual(large / 5);
  let read = 0;
  for await (const part of await store.get(digest)) read += part.length;
  expect(read).toBe(large * MIB);
  await store.delete(digest);
});

describe("a server that is killed", () => {
  test("in the middle of a put, and started anew: the put succeeds", async () => {
    const store = await open();
    const bytes = randomBytes(40 * MIB);
    let restarted: Promise<void> | undefined;
    link.toServer = after(12 * MIB, () => {
      restarted = s3.kill().then(() => s3.start());
    });
    const { digest } = await put(store, bytes);
    expect(restarted).toBeDefined();
    await restarted;
    expect((await buffer(await store.get(digest))).equals(bytes)).toBe(true);
    await store.delete(digest);
  });

  test("in the middle of a get, and started anew: the get succeeds", async () => {
    const store = await open();
    const bytes = randomBytes(40 * MIB);
    const { digest } = await put(store, bytes);
    let restarted: Promise<void> | undefined;
    link.toClient = after(12 * MIB, () => {
      restarted = s3.kill().then(() => s3.start());
    });
    expect((await buffer(await store.get(digest))).equals(bytes)).toBe(true);
    expect(restarted).toBeDefined();
    await restarted;
    await store.delete(digest);
  });

  test("and stays away: every call ends with what to look into", async () => {
    const few = { limits: { attempts: 3 } };
    const store = await open(few);
    const bytes = randomBytes(20 * MIB);
    const { digest } = await put(store, bytes);
    const reading = await store.get(digest);
    await s3.kill();
    const advice = /127\.0\.0\.1:\d+ cannot be reached: look into the object store and HELMR_S3_ENDPOINT/;
    try {
      await expect(buffer(reading)).rejects.toThrow(advice);
      await expect(store.get(digest)).rejects.toThrow(advice);
      await expect(store.has(digest)).rejects.toThrow(advice);
      await expect(store.delete(digest)).rejects.toThrow(advice);
      await expect(put(store, Buffer.from("small"))).rejects.toThrow(advice);
      await expect(open(few)).rejects.toThrow(advice);
    } finally {
      await s3.start();
    }
    expect((await buffer(await store.get(digest))).equals(bytes)).toBe(true);
  });

  test("in the middle of a put, and stays away: the put ends, and what it sent is never found", async () => {
    const store = await open({ limits: { attempts: 3 } });
    const bytes = randomBytes(30 * MIB);
    link.toServer = after(8 * MIB, () => void s3.kill());
    await expect(put(store, bytes)).rejects.toThrow("storing an artifact failed");
    await s3.start();
    expect(await store.has(`sha256:${createHash("sha256").update(bytes).digest("hex")}`)).toBe(false);
  });
});

test("a server that hangs is given up, tried again, and answers when it goes on", async () => {
  const store = await open();
  const bytes = randomBytes(20 * MIB);
  const { digest } = await put(store, bytes);
  let held = 0;
  link.toClient = after(6 * MIB, () => {
    s3.pause();
    held = link.connections();
  });
  const reading = buffer(await store.get(digest));
  await vi.waitUntil(() => held > 0, { timeout: 30_000 });
  // It came back because a new connection asked, not because the old one woke up.
  await vi.waitUntil(() => link.connections() > held, { timeout: 30_000 });
  s3.resume();
  expect((await reading).equals(bytes)).toBe(true);
});

describe("a line that", () => {
  test("cuts every connection after some bytes: reading goes on, and ends if it gets nowhere", async () => {
    const store = await open();
    const bytes = randomBytes(20 * MIB);
    const { digest } = await put(store, bytes);
    const before = link.connections();
    link.toClient = (piece, at) => (at > 3 * MIB ? undefined : piece);
    expect((await buffer(await store.get(digest))).equals(bytes)).toBe(true);
    expect(link.connections()).toBeGreaterThanOrEqual(before + 5);

    const impatient = await open({ prefix: "", limits: { attempts: 3 } });
    const small = await put(impatient, randomBytes(3 * MIB));
    link.toClient = (piece, at) => (at > 100_000 ? undefined : piece);
    await expect(buffer(await impatient.get(small.digest))).rejects.toThrow("reading an artifact failed");
    link.toClient = (piece) => piece;
    await impatient.delete(small.digest);
  });

  test("changes a byte that is read: an error, never other bytes", async () => {
    const store = await open();
    const { digest } = await put(store, randomBytes(3 * MIB));
    link.toClient = flipping(MIB);
    await expect(buffer(await store.get(digest))).rejects.toThrow(`expected ${digest}`);
  });

  test("changes a byte that is sent: noticed by the server, and sent again", async () => {
    const store = await open();
    for (const size of [2 * MIB, 12 * MIB]) {
      const bytes = randomBytes(size);
      link.toServer = flipping(MIB);
      const { digest } = await put(store, bytes);
      link.toServer = (piece) => piece;
      expect((await buffer(await store.get(digest))).equals(bytes)).toBe(true);
    }
  });
});

/** Changes the byte `at` of everything that passes, once. */
function flipping(at: number) {
  let passed = 0;
  return (piece: Buffer) => {
    const index = at - passed;
    passed += piece.length;
    if (index < 0 || index >= piece.length) return piece;
    const changed = Buffer.from(piece);
    changed[index] = (changed[index] ?? 0) ^ 1;
    return changed;
  };
}

test("an object that was replaced while it was read is not joined from two", async () => {
  const prefix = "replaced";
  const store = await open({ prefix });
  const { digest } = await put(store, randomBytes(8 * MIB));
  const hex = digest.slice("sha256:".length);
  const other = direct();
  let replaced: Promise<unknown> | undefined;
  link.toClient = (piece, at) => {
    // The connection is cut once, and nothing of the next passes before the object is another.
    if (at < 2 * MIB || replaced !== undefined) return piece;
    const Key = `${prefix}/sha256/${hex.slice(0, 2)}/${hex}`;
    replaced = other.send(new PutObjectCommand({ Bucket: s3.bucket, Key, Body: randomBytes(8 * MIB) }));
    return undefined;
  };
  link.beforeConnect = async () => void (await replaced);
  await expect(buffer(await store.get(digest))).rejects.toThrow("replaced while it was read");
  other.destroy();
});

describe("refused, and it is said what to do, without a credential", () => {
  const secret = "planted-secret-key";
  test.each([
    [
      "another secret",
      { credentials: { accessKeyId: "test-access", secretAccessKey: secret } },
      /AWS_ACCESS_KEY_ID/,
    ],
    [
      "an unknown key",
      { credentials: { accessKeyId: secret, secretAccessKey: secret } },
      /AWS_ACCESS_KEY_ID/,
    ],
    ["no bucket", { bucket: "no-such-bucket" }, /no bucket no-such-bucket.*HELMR_CAS_URI/],
    ["nobody there", { endpoint: "http://127.0.0.1:1", limits: { attempts: 2 } }, /HELMR_S3_ENDPOINT/],
  ])("%s", async (_what, more, advice) => {
    const failure = await open(more).then(
      () => undefined,
      (error: unknown) => error as Error,
    );
    expect(failure?.message).toMatch(advice);
    const everything = `${JSON.stringify(failure, Object.getOwnPropertyNames(failure))}${failure?.stack}`;
    expect(everything).not.toContain(secret);
    expect(failure?.cause).toBeUndefined();
  });

  test("a bucket that is removed while the store is open", async () => {
    const store = await open({ bucket: s3.bucket });
    const moved = `${s3.bucketFolder}-away`;
    await rename(s3.bucketFolder, moved);
    try {
      await expect(put(store, Buffer.from("x"))).rejects.toThrow(/no bucket helmr-test/);
      await expect(store.get(`sha256:${"0".repeat(64)}`)).rejects.toThrow(/no bucket helmr-test/);
    } finally {
      await rename(moved, s3.bucketFolder);
    }
  });
});

test("an upload that fails leaves no parts behind", async () => {
  const prefix = "parts";
  const store = await open({ prefix, limits: { attempts: 2, parallelParts: 1 } });
  const other = direct();
  const uploads = async () =>
    (await other.send(new ListMultipartUploadsCommand({ Bucket: s3.bucket, Prefix: `${prefix}/` })))
      .Uploads ?? [];
  let during: Promise<unknown[]> | undefined;
  let sent = 0;
  link.toServer = (piece, at) => {
    sent += piece.length;
    // Only connections that carry parts, so that the request that removes them passes.
    if (sent < 12 * MIB || at < MIB) return piece;
    during ??= uploads();
    return undefined;
  };
  await expect(put(store, randomBytes(30 * MIB))).rejects.toThrow("storing an artifact failed");
  expect(await during).toHaveLength(1);
  expect(await uploads()).toEqual([]);
  other.destroy();
});
