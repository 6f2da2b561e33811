/**
 * Removing a tree that a guest wrote.
 *
 * A guest can nest folders deeper than PATH_MAX (4096 bytes), and Node's `rm` works with whole paths: it fails with
 * ENAMETOOLONG and the tree would stay for ever. rm(1) walks by file descriptors. A process for what is no folder, or is not
 * there, costs a restore 10 ms.
 */
import { lstat, rm } from "node:fs/promises";
import { errorCode } from "../errors.ts";
import { hostCommand } from "./command.ts";

/** Millions of files on a slow disk; a limit, because every wait has one. */
const timeoutMs = 10 * 60_000;

/** Remove `path` with everything below it; what is missing is no error. Never crosses into a mounted file system. */
export async function removeTree(path: string): Promise<void> {
  const found = await lstat(path).catch((error) => {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (found.isDirectory())
    await hostCommand("rm", ["-rf", "--one-file-system", "--", path], { layer: "filesystem", timeoutMs });
  else await rm(path, { force: true });
}
