import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type LiveFilesRequest, readLiveFiles } from "./live-files.ts";

let folder = "";
let root = "";

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "live-files-"));
  root = join(folder, "root");
  await mkdir(join(root, "a/b"), { recursive: true });
  await writeFile(join(root, "a/b/file"), "0123456789", { mode: 0o640 });
  await writeFile(join(folder, "outside"), "not yours");
});
afterEach(() => rm(folder, { recursive: true }));

const ask = (operation: LiveFilesRequest["operation"], path: string, more: Partial<LiveFilesRequest> = {}) =>
  readLiveFiles(root, { kind: "files", operation, path, limit: 100, ...more });

it("reads entries, and bytes from where it is asked", async () => {
  expect((await ask("stat", "a/b/file")).result).toMatchObject({
    entry: { path: "a/b/file", name: "file", kind: "file", size_bytes: 10, mode: 0o640 },
  });
  expect((await ask("read", "a/b/file", { start: 3, limit: 4 })).data?.toString()).toBe("3456");
  expect((await ask("read", "a/b/file", { start: 30, limit: 4 })).data?.toString()).toBe("");
  expect((await ask("stat", "")).result).toMatchObject({ entry: { path: "", kind: "directory" } });
});

it("lists by the bytes of the names, in pages, with names that are no UTF-8", async () => {
  const names = ["c", "B", "aa", "a", "é"].map((name) => Buffer.from(name));
  names.push(Buffer.from([0xff, 0x61]));
  await mkdir(join(root, "dir"));
  for (const name of names) await writeFile(Buffer.concat([Buffer.from(`${join(root, "dir")}/`), name]), "x");
  const found: string[] = [];
  let after: string | undefined;
  do {
    const { result } = await ask("list", "dir", { limit: 2, ...(after === undefined ? {} : { after }) });
    found.push(...(result.entries as { name: string }[]).map(({ name }) => name));
    after = result.next_after as string | undefined;
  } while (after !== undefined);
  expect(found).toEqual(["B", "a", "aa", "c", "é", "\ufffda"]);
});

it("follows no link, wherever it is", async () => {
  await symlink(folder, join(root, "out"));
  await symlink("../outside", join(root, "link"));
  await symlink("a", join(root, "within"));
  expect((await ask("stat", "link")).result).toMatchObject({
    entry: { kind: "symlink", link_target: "../outside" },
  });
  await expect(ask("read", "link")).rejects.toMatchObject({ code: "not_a_file" });
  await expect(ask("read", "out/outside")).rejects.toMatchObject({ code: "not_found" });
  await expect(ask("list", "out")).rejects.toMatchObject({ code: "not_a_directory" });
  await expect(ask("stat", "within/b")).rejects.toMatchObject({ code: "not_found" });
  await expect(ask("read", "../outside")).rejects.toMatchObject({ code: "invalid_path" });
  await expect(ask("read", "/../outside")).rejects.toMatchObject({ code: "invalid_path" });
});

it("says what is no file, and neither opens nor waits for what is none", async () => {
  execFileSync("mkfifo", [join(root, "fifo")]);
  await expect(ask("read", "fifo")).rejects.toMatchObject({ code: "not_a_file" });
  await expect(ask("stat", "fifo")).rejects.toMatchObject({ code: "not_found" });
  await expect(ask("read", "a")).rejects.toMatchObject({ code: "is_a_directory" });
  await expect(ask("list", "a/b/file")).rejects.toMatchObject({ code: "not_a_directory" });
  await expect(ask("read", "a/b/file/c")).rejects.toMatchObject({ code: "not_found" });
  expect((await ask("list", "")).result).toMatchObject({ entries: [{ name: "a" }] });
});
