import { mkdtemp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { makeFolder } from "./make-folder.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "helmr-make-folder-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

it("makes what is missing of a path, also twice at the same time, and takes what is there", async () => {
  const path = join(root, "a/b/c");
  await Promise.all([makeFolder(path, 0o700), makeFolder(path, 0o700)]);
  await makeFolder(path, 0o700);
  expect((await stat(path)).mode & 0o777).toBe(0o700);
});

it("fails where something else is in the way", async () => {
  await writeFile(join(root, "file"), "");
  await symlink("nowhere", join(root, "dangling"));
  await expect(makeFolder(join(root, "file"), 0o700)).rejects.toThrow("EEXIST");
  await expect(makeFolder(join(root, "file/below"), 0o700)).rejects.toThrow("EEXIST");
  await expect(makeFolder(join(root, "dangling"), 0o700)).rejects.toThrow("EEXIST");
});

it.runIf(process.platform === "linux")(
  "fails below /proc, where Node's own mkdir never returns",
  async () => {
    await expect(makeFolder("/proc/helmr/data", 0o700)).rejects.toThrow("ENOENT");
  },
);
