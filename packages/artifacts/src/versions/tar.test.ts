import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { type Header, pack } from "tar-stream";
import { afterEach, beforeEach, expect, it } from "vitest";
import { describeFolder, folderModel, makeFolder, temporaryFolder } from "../../test/trees.ts";
import { saveHere } from "../../test/versions.ts";
import type { ArtifactStore } from "../artifact-store.ts";
import { createFolderStore } from "../folder-store.ts";
import { applyFiles } from "./apply-files.ts";
import { exportTar } from "./export-tar.ts";
import { openVersion } from "./open-version.ts";

let scratch: string;
let artifacts: ArtifactStore;
beforeEach(() => {
  scratch = temporaryFolder();
  artifacts = createFolderStore(join(scratch, "store"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

it("exports a tar that is the same version when it is imported, and the same tree when GNU tar unpacks it", async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(folderModel, async (model) => {
      run += 1;
      const [folder, unpacked, file] = [`a${run}`, `b${run}`, `${run}.tar`].map((name) =>
        join(scratch, name),
      ) as [string, string, string];
      makeFolder(folder, model);
      const saved = await saveHere({ folder, artifacts });
      const version = await openVersion(artifacts, saved.manifestDigest);
      const tar = await buffer(exportTar(version));
      const imported = await applyFiles({ artifacts, tar: Readable.from([tar]), replace: true });
      expect(imported.contentDigest).toBe(saved.contentDigest);
      await writeFile(file, tar);
      mkdirSync(unpacked);
      const options = ["--same-owner", "--same-permissions", "--numeric-owner", "--xattrs"];
      execFileSync("tar", ["-xf", file, "-C", unpacked, ...options], { stdio: "pipe", env: { LC_ALL: "C" } });
      const withoutBytes = (lines: readonly string[]) =>
        lines.map((line) => line.replace(/user\.helmr=.*/, ""));
      expect(withoutBytes(describeFolder(unpacked))).toEqual(withoutBytes(describeFolder(folder)));
      for (const made of [folder, unpacked]) rmSync(made, { recursive: true });
    }),
    { numRuns: 12 },
  );
});

it("compresses the tar when asked", async () => {
  const { manifestDigest } = await applyFiles({
    artifacts,
    files: [{ path: "a", content: Buffer.alloc(100_000) }],
  });
  const version = await openVersion(artifacts, manifestDigest);
  const compressed = await buffer(exportTar(version, { zstd: true }));
  expect(compressed.length).toBeLessThan(10_000);
  expect(zstdDecompressSync(compressed)).toEqual(await buffer(exportTar(version)));
});

it("puts a tar on top of a version, keeps the rest, and stores only what is new", async () => {
  const base = await applyFiles({
    artifacts,
    files: [
      { path: "kept/a", content: Buffer.from("a"), mode: 0o755 },
      { path: "kept/b", content: Buffer.from("b") },
    ],
  });
  const tar = makeTar([
    [{ name: "kept/b", mode: 0o600, uid: 7, gid: 8, mtime: new Date(1_000_000) }, "new"],
    [{ name: "kept/deep/c" }, "c"],
    [{ name: "kept/d", type: "link", linkname: "kept/a" }],
    [{ name: "kept/e", type: "symlink", linkname: "../b" }],
    [{ name: "queue", type: "fifo" }],
  ]);
  const next = await applyFiles({ artifacts, base, tar, remove: ["missing"] });
  expect(next.stats.skipped).toBe(1);
  const version = await openVersion(artifacts, next.manifestDigest);
  const paths = [...version.entries()].map(({ path }) => path);
  expect(paths).toEqual(["", "kept", "kept/a", "kept/b", "kept/d", "kept/deep", "kept/deep/c", "kept/e"]);
  expect(version.stat("kept/a").mode).toBe(0o755);
  expect(version.stat("kept/b")).toMatchObject({ mode: 0o600, uid: 7, gid: 8, mtimeNs: 1_000_000_000_000n });
  expect(version.stat("kept/d").linkOf?.toString()).toBe("kept/a");
  expect(version.stat("kept/e").linkTarget).toBe("../b");
  expect((await buffer(version.read("kept/b"))).toString()).toBe("new");

  const removed = await applyFiles({ artifacts, base: next, remove: ["kept/deep", "kept/a"] });
  expect(removed.newArtifacts).toEqual([removed.manifestDigest]);
  const rest = await openVersion(artifacts, removed.manifestDigest);
  expect([...rest.entries()].map(({ path }) => path)).toEqual(["", "kept", "kept/b", "kept/d", "kept/e"]);
  expect((await buffer(rest.read("kept/d"))).toString()).toBe("a");
});

it("answers with the base when nothing changes", async () => {
  const base = await applyFiles({ artifacts, files: [{ path: "a", content: Buffer.from("a") }] });
  expect(await applyFiles({ artifacts, base })).toMatchObject({
    unchanged: true,
    manifestDigest: base.manifestDigest,
    newArtifacts: [],
  });
});

const refused: readonly [string, readonly TarEntry[], string][] = [
  ["..", [[{ name: "a/../../b" }, "x"]], "invalid_path"],
  ["an absolute path", [[{ name: "/etc/passwd" }, "x"]], "invalid_path"],
  [
    "an entry below a link",
    [[{ name: "a", type: "symlink", linkname: "/etc" }], [{ name: "a/b" }, "x"]],
    "invalid_path",
  ],
  [
    "an entry below a file",
    [
      [{ name: "a" }, "x"],
      [{ name: "a/b" }, "x"],
    ],
    "invalid_path",
  ],
  [
    "a file in place of a full directory",
    [
      [{ name: "a/b" }, "x"],
      [{ name: "a" }, "x"],
    ],
    "invalid_path",
  ],
  ["a link that leaves", [[{ name: "a", type: "link", linkname: "../x" }]], "invalid_path"],
  ["a link to nothing", [[{ name: "a", type: "link", linkname: "x" }]], "invalid_archive"],
  ["a name of 256 bytes", [[{ name: "a".repeat(256) }, "x"]], "invalid_path"],
  ["a path of 5,000 bytes", [[{ name: "a/".repeat(2500) }, "x"]], "invalid_path"],
  ["more levels than allowed", [[{ name: "1/2/3/4/5/6/7/8/9" }, "x"]], "invalid_path"],
  ["more entries than allowed", Array.from("abcdefghijkl", (name) => [{ name }, "x"] as const), "too_large"],
  [
    "more bytes than allowed",
    [
      [{ name: "a" }, "x".repeat(600)],
      [{ name: "b" }, "x".repeat(600)],
    ],
    "too_large",
  ],
  ["a larger file than allowed", [[{ name: "a" }, "x".repeat(801)]], "too_large"],
];
it.each(refused)("refuses a tar with %s, and stores no manifest", async (_, entries, reason) => {
  const reserved: string[] = [];
  const applied = applyFiles({
    artifacts,
    tar: makeTar(entries),
    reserve: async (digests) => void reserved.push(...digests),
    limits: { maxEntries: 12, maxBytes: 1000, maxFileBytes: 800, maxDepth: 8 },
  });
  await expect(applied).rejects.toMatchObject({ name: "WorkspaceVersionError", reason });
  expect(reserved).toEqual([]);
});

it("refuses what is no tar, a tar that is cut, and a NUL in a path", async () => {
  const cut = (await buffer(makeTar([[{ name: "a" }, "x".repeat(5000)]]))).subarray(0, 3000);
  for (const bytes of [Buffer.alloc(2000, 1), cut])
    await expect(applyFiles({ artifacts, tar: Readable.from([bytes]) })).rejects.toMatchObject({
      reason: "invalid_archive",
    });
  const nul = makeTar([[{ name: "a", pax: { path: "a\0b" } }, "x"]]);
  await expect(applyFiles({ artifacts, tar: nul })).rejects.toMatchObject({ reason: "invalid_path" });
  for (const path of ["a/../b", "a\0b", "", "x".repeat(256)])
    await expect(
      applyFiles({ artifacts, files: [{ path, content: Buffer.from("x") }] }),
    ).rejects.toMatchObject({
      reason: "invalid_path",
    });
});

it("ends with what the source or the signal ended with", async () => {
  const failing = Readable.from(
    (async function* () {
      yield Buffer.alloc(512);
      throw new Error("connection lost");
    })(),
  );
  await expect(applyFiles({ artifacts, tar: failing })).rejects.toThrow("connection lost");
  const endless = new Readable({ read: () => undefined });
  const controller = new AbortController();
  const applied = applyFiles({ artifacts, tar: endless, signal: controller.signal });
  controller.abort(new Error("given up"));
  await expect(applied).rejects.toThrow("given up");
  expect(endless.destroyed).toBe(true);
});

type TarEntry = readonly [Partial<Header> & { name: string }, string?];

function makeTar(entries: readonly TarEntry[]): Readable {
  const tar = pack();
  for (const [header, content] of entries) tar.entry(header, content ?? "");
  tar.finalize();
  return Readable.from(tar as AsyncIterable<Buffer>);
}

it("refuses a tar whose extended attributes would fill the memory, however small it is compressed", async () => {
  const value = "x".repeat(60_000);
  const pax = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`SCHILY.xattr.user.${n}`, value]));
  const one = pack();
  one.entry({ name: "a", pax }, "");
  one.finalize();
  // The last two blocks are the end of a tar.
  const entry = (await buffer(one)).subarray(0, -1024);
  function* entries(): Generator<Buffer> {
    for (let n = 0; n < 40; n += 1) yield entry;
  }
  await expect(
    applyFiles({ artifacts, tar: Readable.from(entries(), { objectMode: false }) }),
  ).rejects.toMatchObject({ reason: "too_large", message: expect.stringContaining("extended attributes") });
});
