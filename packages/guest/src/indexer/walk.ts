/** Finds the files of a project that may hold tasks (contract 13.8). */
import { lstatSync, readdirSync, realpathSync, statSync } from "node:fs";
import { join, relative, sep } from "node:path";
import picomatch from "picomatch";

/** Contract 9.1; used when the config has none. */
export const defaultIgnorePatterns = ["**/*.test.*", "**/*.spec.*", "**/_*.*"];
const excludedFolders = new Set(["node_modules", ".git", ".helmr", ".next"]);
const taskFile = /(?<!\.d)\.[mc]?[jt]s$/;
const maxFiles = 10_000;

/**
 * Task files below `dirs`, as POSIX paths relative to `root`, sorted, each once.
 * Throws an Error for a folder that does not exist, lies outside of the root, or holds more than 10,000 files.
 */
export function findTaskFiles(
  root: string,
  dirs: readonly string[],
  ignorePatterns: readonly string[],
): string[] {
  const isIgnored = picomatch([...ignorePatterns], { dot: true });
  const realRoot = realpathSync(root);
  const found = new Set<string>();
  for (const dir of dirs) {
    const folder = join(realRoot, dir);
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw new Error(`helmr.config.ts: dirs: the folder "${dir}" does not exist in the deployed source.`);
    }
    const way = relative(realRoot, realpathSync(folder));
    if (way === ".." || way.startsWith(`..${sep}`)) {
      throw new Error(`helmr.config.ts: dirs: the folder "${dir}" lies outside of the project.`);
    }
    walk(realRoot, dir === "." ? "" : dir, isIgnored, found);
  }
  return [...found].sort();
}

function walk(root: string, folder: string, isIgnored: (path: string) => boolean, found: Set<string>): void {
  for (const name of readdirSync(join(root, folder))) {
    const path = folder === "" ? name : `${folder}/${name}`;
    // Links are not followed: what they point to is found where it lies.
    const stat = lstatSync(join(root, path));
    if (stat.isDirectory()) {
      if (!excludedFolders.has(name)) walk(root, path, isIgnored, found);
    } else if (stat.isFile() && taskFile.test(name) && path !== "helmr.config.ts" && !isIgnored(path)) {
      found.add(path);
      if (found.size > maxFiles)
        throw new Error(`helmr.config.ts: dirs: more than ${maxFiles} files; name fewer folders.`);
    }
  }
}
