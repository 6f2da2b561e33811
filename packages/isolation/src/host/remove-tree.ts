/**
 * Removing a tree that a guest wrote.
 *
 * A guest can nest folders deeper than PATH_MAX (4096 bytes), and Node's `rm` works with whole paths: it fails with
 * ENAMETOOLONG and the tree would stay for ever. rm(1) walks by file descriptors.
 */
import { hostCommand } from "./command.ts";

/** Millions of files on a slow disk; a limit, because every wait has one. */
const timeoutMs = 10 * 60_000;

/** Remove `path` with everything below it; what is missing is no error. Never crosses into a mounted file system. */
export async function removeTree(path: string): Promise<void> {
  await hostCommand("rm", ["-rf", "--one-file-system", "--", path], { layer: "filesystem", timeoutMs });
}
