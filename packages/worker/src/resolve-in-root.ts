/**
 * Paths inside another root filesystem, resolved the way the kernel would after chroot: no link leads out of the root.
 *
 * For trees that nobody writes at the same time (image layers without a guest on them): between the resolution and the
 * use of the result nothing changes.
 */
import { lstat, readlink } from "node:fs/promises";
import { join } from "node:path";

/** As the kernel's limit (ELOOP). */
const maxLinks = 40;

export class TooManyLinksError extends Error {
  override readonly name = "TooManyLinksError";
}

/**
 * The host path for `path` (absolute or relative to the root) below `root`. Every component but missing ones is free of
 * links; `..` stops at the root. With `followLast: false` a link as the last component is not followed.
 */
export async function resolveInRoot(
  root: string,
  path: string,
  options: { readonly followLast?: boolean } = {},
): Promise<string> {
  const followLast = options.followLast ?? true;
  let links = 0;
  let at: string[] = [];
  const todo = path.split("/");
  for (let part = todo.shift(); part !== undefined; part = todo.shift()) {
    if (part === "" || part === ".") continue;
    if (part === "..") {
      at = at.slice(0, -1);
      continue;
    }
    const isLast = todo.every((rest) => rest === "" || rest === ".");
    const target = isLast && !followLast ? undefined : await linkTarget(join(root, ...at, part));
    if (target === undefined) {
      at = [...at, part];
      continue;
    }
    links += 1;
    if (links > maxLinks) throw new TooManyLinksError(`${path}: more than ${maxLinks} symbolic links`);
    if (target.startsWith("/")) at = [];
    todo.unshift(...target.split("/"));
  }
  return join(root, ...at);
}

async function linkTarget(path: string): Promise<string | undefined> {
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : undefined;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}
