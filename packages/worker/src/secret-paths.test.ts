import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { presentIn, secretPaths } from "./secret-paths.ts";

let root = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "secret-paths-"));
});
afterEach(() => rm(root, { recursive: true }));

const file = (path: string) => ({ kind: "file", name: "KEY", path, mode: "0400" }) as const;
const dir = (path: string) => ({ kind: "dir", name: "KEY", path, mode: "0400" }) as const;

it("names what lies in the workspace, as the guest resolves it", async () => {
  const placements = [
    file("conf/key"),
    file("/workspace/a/../b"),
    dir("/workspace/secrets"),
    file("/run/key"),
    file("/workspaces/other"),
    { kind: "env", name: "TOKEN", env: "TOKEN" } as const,
  ];
  expect((await secretPaths(placements, "/workspace", root)).sort()).toEqual([
    "b",
    "conf/key",
    "secrets/KEY",
  ]);
});

it("names where a link within the workspace leads, and nothing out of it", async () => {
  await mkdir(join(root, "real"));
  await symlink("real", join(root, "conf"));
  await symlink("../../etc", join(root, "out"));
  await symlink("loop", join(root, "loop"));
  const paths = await secretPaths([file("conf/key"), file("out/key"), file("loop/key")], "/workspace", root);
  expect(paths.sort()).toEqual(["conf/key", "etc/key", "loop/key", "out/key", "real/key"]);
});

it("selects what is there with no link on the way, and the folders above it", async () => {
  await mkdir(join(root, "a/b"), { recursive: true });
  await writeFile(join(root, "a/b/key"), "x");
  await symlink("/etc", join(root, "link"));
  const paths = ["a/b/key", "a/gone", "link/passwd", "a"].map((path) => Buffer.from(path));
  const { entries, trees } = await presentIn(root, paths);
  expect(entries.map(String)).toEqual(["", "a", "a/b"]);
  expect(trees.map(String)).toEqual(["a/b/key", "a"]);
});
