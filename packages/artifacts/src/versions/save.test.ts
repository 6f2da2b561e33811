import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { describeFolder, filler, temporaryFolder } from "../../test/trees.ts";
import { restoreHere, saveHere } from "../../test/versions.ts";
import type { ArtifactStore } from "../artifact-store.ts";
import { createFolderStore } from "../folder-store.ts";
import { openVersion } from "./open-version.ts";
import { restoreTree } from "./restore.ts";
import { saveTree } from "./save.ts";
import { close, makeDirectory, openDirectory, openRoot } from "./syscalls.ts";

let scratch: string;
let folder: string;
let index: string;
let artifacts: ArtifactStore;
beforeEach(() => {
  scratch = temporaryFolder();
  folder = join(scratch, "folder");
  index = join(scratch, "index");
  mkdirSync(folder);
  artifacts = createFolderStore(join(scratch, "store"));
});
// GNU rm also removes what is deeper than a path can say.
afterEach(() => void execFileSync("rm", ["-rf", scratch]));

/** Until what was written is no longer racy. */
const settle = () => sleep(120);
const pathsIn = async (manifestDigest: string) =>
  [...(await openVersion(artifacts, manifestDigest)).entries()].map(({ path }) => path);

it("opens no file that is unchanged, whatever its time was set to", async () => {
  for (let n = 0; n < 20; n += 1) writeFileSync(join(folder, `f${n}`), `${n}`);
  const first = await saveTree({ folder, artifacts, index });
  expect(first.stats.opened).toBe(20);
  const racy = await saveTree({ folder, artifacts, index, previous: first });
  expect(racy.unchanged).toBe(true);
  await settle();
  await saveTree({ folder, artifacts, index, previous: first });
  const clean = await saveTree({ folder, artifacts, index, previous: first });
  expect(clean).toMatchObject({ unchanged: true, newArtifacts: [], stats: { opened: 0, storedBytes: 0 } });

  // The same size, and the time set back.
  const { mtime } = statSync(join(folder, "f3"));
  writeFileSync(join(folder, "f3"), "x");
  utimesSync(join(folder, "f3"), mtime, mtime);
  const changed = await saveTree({ folder, artifacts, index, previous: clean });
  expect(changed).toMatchObject({ unchanged: false, stats: { opened: 1 } });
});

it("reads everything when the index is of another version, torn, or gone", async () => {
  writeFileSync(join(folder, "a"), "a");
  writeFileSync(join(folder, "b"), "b");
  await settle();
  const first = await saveHere({ folder, artifacts, index });
  appendFileSync(join(folder, "a"), "a");
  await settle();
  const second = await saveHere({ folder, artifacts, index, previous: first });
  expect(second.opened).toBe(1);
  const ofOther = await saveHere({ folder, artifacts, index, previous: first });
  expect(ofOther).toMatchObject({ opened: 2, contentDigest: second.contentDigest });
  const good = readFileSync(index);
  expect((await saveHere({ folder, artifacts, index, previous: second })).opened).toBe(0);
  for (let cut = 0; cut < good.length; cut += 97) {
    writeFileSync(index, good.subarray(0, cut));
    const saved = await saveHere({ folder, artifacts, index, previous: second });
    expect(saved).toMatchObject({ opened: 2, unchanged: true });
    const bad = Buffer.from(good);
    bad[cut] = (bad[cut] as number) ^ 0x10;
    writeFileSync(index, bad);
    expect((await saveHere({ folder, artifacts, index, previous: second })).unchanged).toBe(true);
  }
  rmSync(index);
  expect((await saveHere({ folder, artifacts, index, previous: second })).opened).toBe(2);
  expect(readdirSync(scratch).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});

it("saves and restores also when the index cannot be written, and says so", async () => {
  writeFileSync(join(folder, "a"), "a");
  const missing = join(scratch, "no-such-folder", "index");
  const saved = await saveTree({ folder, artifacts, index: missing });
  expect(saved.stats.indexError).toContain("ENOENT");
  const restored = join(scratch, "restored");
  mkdirSync(restored);
  const { manifestDigest } = saved;
  const stats = await restoreTree({ manifestDigest, folder: restored, artifacts, index: missing });
  expect(stats.indexError).toContain("ENOENT");
  expect(describeFolder(restored)).toEqual(describeFolder(folder));
});

it("says FIFOs, sockets and devices each time, opens none of them, and saves the rest", async () => {
  writeFileSync(join(folder, "file"), "x");
  mkdirSync(join(folder, "dir"));
  execFileSync("mkfifo", [join(folder, "dir/fifo")]);
  const server = createServer().listen(join(folder, "socket"));
  const devices = makeDevice(join(folder, "device"));
  await settle();
  const first = await saveTree({ folder, artifacts, index });
  const again = await saveTree({ folder, artifacts, index, previous: first });
  for (const { skipped } of [first, again])
    expect(skipped.map(({ path, kind }) => `${path} ${kind}`)).toEqual([
      ...(devices ? ["device device"] : []),
      "dir/fifo fifo",
      "socket socket",
    ]);
  expect(again.stats.opened).toBe(0);
  expect(await pathsIn(first.manifestDigest)).toEqual(["", "dir", "file"]);
  server.close();
});

function makeDevice(path: string): boolean {
  try {
    execFileSync("mknod", [path, "c", "1", "3"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

it("leaves out what is excluded, and has it again when it no longer is", async () => {
  for (const path of ["a/keep", "a/cache/x", "b", "c/d/e"]) {
    mkdirSync(join(folder, path, ".."), { recursive: true });
    writeFileSync(join(folder, path), path);
  }
  await settle();
  const first = await saveTree({ folder, artifacts, index, exclude: ["a/cache", "/b", Buffer.from("c/d/")] });
  expect(await pathsIn(first.manifestDigest)).toEqual(["", "a", "a/keep", "c"]);
  const all = await saveTree({ folder, artifacts, index, previous: first });
  expect(await pathsIn(all.manifestDigest)).toEqual([
    "",
    "a",
    "a/cache",
    "a/cache/x",
    "a/keep",
    "b",
    "c",
    "c/d",
    "c/d/e",
  ]);
  expect(all.stats.opened).toBe(3);
  const less = await saveTree({ folder, artifacts, index, previous: all, exclude: ["c/d"] });
  expect(await pathsIn(less.manifestDigest)).toEqual(["", "a", "a/cache", "a/cache/x", "a/keep", "b", "c"]);
});

it("keeps the holes of a 4 GiB file, and neither reads nor stores them", async () => {
  const path = join(folder, "sparse");
  writeFileSync(path, "");
  truncateSync(path, 4 * 1024 ** 3 + 5);
  const writes = [0, 1_500_000_000, 4 * 1024 ** 3 - 1];
  const fd = openSync(path, "r+");
  for (const at of writes) writeSync(fd, `data at ${at}`, at);
  closeSync(fd);
  const saved = await saveTree({ folder, artifacts });
  expect(saved.sizeBytes).toBe(statSync(path).size);
  expect(saved.stats.hashedBytes).toBeLessThan(8 * 1024 ** 2);
  expect(saved.stats.storedBytes).toBeLessThan(20_000);
  const restored = join(scratch, "restored");
  mkdirSync(restored);
  await restoreTree({ manifestDigest: saved.manifestDigest, folder: restored, artifacts });
  const found = statSync(join(restored, "sparse"));
  expect(found.size).toBe(statSync(path).size);
  expect(found.blocks * 512).toBeLessThan(1024 ** 2);
  const read = openSync(join(restored, "sparse"), "r");
  for (const at of [...writes, 77_777]) {
    const bytes = Buffer.alloc(30);
    const expected = Buffer.alloc(30);
    readSync(read, bytes, 0, 30, at);
    const original = openSync(path, "r");
    readSync(original, expected, 0, 30, at);
    closeSync(original);
    expect(bytes).toEqual(expected);
  }
  closeSync(read);
});

it("saves and restores a tree that is longer than a path can be, and refuses one that is deeper than allowed", async () => {
  const name = "a-directory-with-a-long-name";
  let fd = openRoot(folder);
  for (let n = 0; n < 400; n += 1) {
    makeDirectory(fd, name);
    const below = openDirectory(fd, name);
    close(fd);
    fd = below;
    if (n % 100 === 0) makeDirectory(fd, "another");
  }
  close(fd);
  const saved = await saveHere({ folder, artifacts, index });
  expect(saved.entryCount).toBe(1 + 400 + 4);
  const restored = join(scratch, "restored");
  mkdirSync(restored);
  await restoreHere({ manifestDigest: saved.manifestDigest, folder: restored, artifacts, index });
  const again = await saveHere({ folder: restored, artifacts, index, previous: saved });
  expect(again.unchanged).toBe(true);
  expect((await saveHere({ folder: restored, artifacts })).contentDigest).toBe(saved.contentDigest);
  const version = await openVersion(artifacts, saved.manifestDigest);
  expect(version.stat(Array.from({ length: 400 }, () => name).join("/")).kind).toBe("directory");
  await expect(saveTree({ folder, artifacts, limits: { maxDepth: 399 } })).rejects.toMatchObject({
    reason: "too_large",
    message: expect.stringContaining("399 levels"),
  });
});

it("refuses what is beyond its limits, and stores no manifest", async () => {
  for (let n = 0; n < 10; n += 1) writeFileSync(join(folder, `f${n}`), filler(n, 1000));
  const cases = [
    [{ maxEntries: 10 }, "more than 10 entries"],
    [{ maxBytes: 9_999 }, "more than 9999 bytes"],
    [{ maxFileBytes: 999 }, "the limit is 999"],
  ] as const;
  for (const [limits, message] of cases)
    await expect(saveTree({ folder, artifacts, limits })).rejects.toMatchObject({
      reason: "too_large",
      message: expect.stringContaining(message),
    });
  expect(readdirSync(join(scratch, "store/sha256"))).toEqual([]);
  await saveTree({ folder, artifacts, limits: { maxEntries: 11, maxBytes: 10_000, maxFileBytes: 1000 } });
});

it("reserves every artifact before it asks the store for it or puts it, and needs the reservation", async () => {
  writeFileSync(join(folder, "a"), filler(1, 10_000));
  const events: string[] = [];
  const watched: ArtifactStore = {
    ...artifacts,
    has: (digest) => {
      events.push(`has ${digest}`);
      return artifacts.has(digest);
    },
    put: (source, options) => {
      events.push(`put ${options.expectedDigest}`);
      return artifacts.put(source, options);
    },
  };
  const reserve = async (digests: string[]) => {
    events.push(...digests.map((digest) => `reserve ${digest}`));
  };
  const first = await saveTree({ folder, artifacts: watched, reserve });
  const order = (digest: string) =>
    events.filter((event) => event.endsWith(digest)).map((e) => e.split(" ")[0]);
  for (const digest of first.artifacts) expect(order(digest)).toEqual(["reserve", "has", "put"]);
  events.length = 0;
  appendFileSync(join(folder, "a"), "more");
  const second = await saveTree({ folder, artifacts: watched, reserve, previous: first });
  for (const digest of second.artifacts) expect(order(digest)[0]).toBe("reserve");
  expect(second.newArtifacts.length).toBeGreaterThan(0);

  writeFileSync(join(folder, "b"), "b");
  const refused = saveTree({
    folder,
    artifacts: watched,
    previous: second,
    reserve: async () => {
      throw new Error("not reserved");
    },
  });
  await expect(refused).rejects.toThrow("not reserved");
});

it("fails with what the store failed with, and can be tried again", async () => {
  writeFileSync(join(folder, "a"), "a");
  class FullError extends Error {}
  const full: ArtifactStore = {
    ...artifacts,
    put: async () => {
      throw new FullError("the store is full");
    },
  };
  await expect(saveTree({ folder, artifacts: full, index })).rejects.toBeInstanceOf(FullError);
  const saved = await saveTree({ folder, artifacts, index });
  await artifacts.delete(saved.artifacts[1] as string);
  const restored = join(scratch, "restored");
  mkdirSync(restored);
  await expect(
    restoreTree({ manifestDigest: saved.manifestDigest, folder: restored, artifacts }),
  ).rejects.toMatchObject({ reason: "artifact_missing", digest: saved.artifacts[1] });
  await expect(
    restoreTree({ manifestDigest: saved.manifestDigest, folder, artifacts }),
  ).rejects.toMatchObject({
    reason: "folder_unusable",
    message: expect.stringContaining("must be empty"),
  });
  await expect(saveTree({ folder: "relative", artifacts })).rejects.toMatchObject({
    reason: "folder_unusable",
  });
  await expect(saveTree({ folder: `${folder}-missing`, artifacts })).rejects.toMatchObject({
    reason: "folder_unusable",
  });
});

it("ends soon when it is given up, also while the store does not answer", async () => {
  writeFileSync(join(folder, "a"), "a");
  const controller = new AbortController();
  const silent: ArtifactStore = {
    ...artifacts,
    has: () => {
      controller.abort(new Error("given up"));
      return new Promise(() => undefined);
    },
  };
  await expect(saveTree({ folder, artifacts: silent, signal: controller.signal })).rejects.toThrow(
    "given up",
  );
  const described = describeFolder(folder);
  await saveTree({ folder, artifacts });
  expect(describeFolder(folder)).toEqual(described);
});
