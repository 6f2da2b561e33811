/** A tree that is deeper than a path may be long. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { removeTree } from "./remove-tree.ts";

it("removes folders nested deeper than PATH_MAX, which Node's rm leaves", async () => {
  const dir = await mkdtemp(join(tmpdir(), "helmr-remove-tree-"));
  const tree = join(dir, "tree");
  await mkdir(tree);
  const script =
    'for (let i = 0; i < 60; i++) { fs.mkdirSync("d".repeat(200)); process.chdir("d".repeat(200)); }';
  await promisify(execFile)(process.execPath, ["-e", script], { cwd: tree });
  await expect(rm(tree, { recursive: true })).rejects.toThrow(/ENAMETOOLONG/);
  await removeTree(tree);
  await expect(stat(tree)).rejects.toThrow(/ENOENT/);
  await removeTree(tree);
  await rm(dir, { recursive: true });
});
