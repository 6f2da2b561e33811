/** What a captured folder keeps; needs root for owners and the trusted attributes. */
import {
  chmod,
  chown,
  link,
  lstat,
  lutimes,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { execa } from "execa";
import { afterEach, beforeEach, expect, it } from "vitest";
import { captureTree, restoreTree } from "./tree.ts";

let from = "";
let to = "";
beforeEach(async () => {
  from = await mkdtemp(path.join(tmpdir(), "helmr-tree-"));
  to = await mkdtemp(path.join(tmpdir(), "helmr-tree-"));
});
afterEach(async () => {
  await rm(from, { recursive: true });
  await rm(to, { recursive: true });
});

it("keeps content, modes, owners, times, links, empty folders, odd names and holes", async () => {
  await writeFile(path.join(from, "file"), "content");
  await chmod(path.join(from, "file"), 0o4751);
  await link(path.join(from, "file"), path.join(from, "hard"));
  await symlink("/absolute/../target", path.join(from, "soft"));
  await lutimes(path.join(from, "soft"), 1_000_000_000, 1_000_000_000.5);
  await mkdir(path.join(from, "empty"), { mode: 0o700 });
  for (const name of ["-rf", "with\nline", "ünïcode", "x".repeat(200), ".hidden"])
    await writeFile(path.join(from, name), name);
  await writeFile(path.join(from, "hole"), "");
  await truncate(path.join(from, "hole"), 64 << 20);
  await execa("touch", [
    "-d",
    "2020-02-02 02:02:02.123456789 UTC",
    path.join(from, "file"),
    path.join(from, "empty"),
  ]);
  if (process.getuid?.() === 0) await chown(path.join(from, "empty"), 1234, 5678);
  await utimes(from, 5, 5);

  await restoreTree(captureTree(from), to);

  for (const name of [
    ".",
    "file",
    "soft",
    "empty",
    "-rf",
    "with\nline",
    "ünïcode",
    "x".repeat(200),
    ".hidden",
  ]) {
    const [was, is] = await Promise.all(
      [from, to].map((root) => lstat(path.join(root, name), { bigint: true })),
    );
    const told = (found: typeof was) => [found?.mode, found?.uid, found?.gid, found?.size, found?.mtimeNs];
    if (name === ".") expect(is?.mtimeNs).toBe(was?.mtimeNs);
    else if (was?.isDirectory())
      expect([is?.mode, is?.uid, is?.gid, is?.mtimeNs]).toEqual([was.mode, was.uid, was.gid, was.mtimeNs]);
    else expect(told(is)).toEqual(told(was));
  }
  expect(await readFile(path.join(to, "with\nline"), "utf8")).toBe("with\nline");
  expect(await readlink(path.join(to, "soft"))).toBe("/absolute/../target");
  expect((await stat(path.join(to, "hard"))).ino).toBe((await stat(path.join(to, "file"))).ino);
  const hole = await stat(path.join(to, "hole"));
  expect([hole.size, hole.blocks * 512 < 1 << 20]).toEqual([64 << 20, true]);
});

it("keeps extended attributes where the file system has them", async ({ skip }) => {
  await writeFile(path.join(from, "file"), "");
  const set = await execa("setfattr", ["-n", "user.mark", "-v", "value", path.join(from, "file")], {
    reject: false,
  });
  if (set.failed) skip("no extended attributes, or no setfattr, on this machine");
  await restoreTree(captureTree(from), to);
  const got = await execa("getfattr", ["--only-values", "-n", "user.mark", path.join(to, "file")]);
  expect(got.stdout).toBe("value");
});

it("rejects with tar's own words when the folder or the stream is none", async () => {
  await expect(restoreTree(captureTree(path.join(from, "missing")), to)).rejects.toThrow(
    /cannot read .*missing/,
  );
  await expect(restoreTree(Readable.from([Buffer.alloc(4096, "x")]), to)).rejects.toThrow(
    /cannot write .*: .*tar/i,
  );
  await expect(restoreTree(captureTree(from), path.join(to, "missing"))).rejects.toThrow(/cannot write/);
});

it("takes a selection: folders by themselves, trees with all below, names that are no options and no UTF-8", async () => {
  await mkdir(path.join(from, "a/b/deep"), { recursive: true });
  await mkdir(path.join(from, "other"));
  for (const name of ["a/beside", "a/b/deep/file", "other/file", "--help"])
    await writeFile(path.join(from, name), name);
  const odd = Buffer.from([0x6f, 0xff, 0x0a]);
  await writeFile(Buffer.concat([Buffer.from(`${from}/`), odd]), "odd");
  await execa("mkfifo", [path.join(from, "a/fifo")]);
  await utimes(path.join(from, "a"), 7, 7);
  const bytes = (...names: string[]) => names.map((name) => Buffer.from(name));

  const entries = bytes("", "a");
  const trees = [...bytes("a/b", "a/fifo", "--help"), odd];
  await restoreTree(captureTree(from, { entries, trees }), to);

  const found = (await readdir(to, { recursive: true, encoding: "latin1" })).sort();
  expect(found).toEqual(
    ["--help", "a", "a/b", "a/b/deep", "a/b/deep/file", "a/fifo", odd.toString("latin1")].sort(),
  );
  expect((await stat(path.join(to, "a"))).mtimeMs).toBe(7000);
  expect((await lstat(path.join(to, "a/fifo"))).isFIFO()).toBe(true);
  await rm(to, { recursive: true });
  await mkdir(to);
  await restoreTree(captureTree(from, { entries: [], trees: [] }), to);
  expect(await readdir(to)).toEqual([]);
  const missing = captureTree(from, { entries: [], trees: bytes("gone") });
  await expect(restoreTree(missing, to)).rejects.toThrow("gone");
});
