/**
 * What of a project is uploaded (contract 9.1), as a sorted list of entries.
 *
 * T1  excluded: names that never belong to a source, at any depth, and what the project's ignorePatterns match: globs over
 *     the path from the project's root (a folder that matches is left out with all that is in it);
 * T2  a symbolic link is kept as a link; one that leads out of the tree is refused;
 * T3  the order is that of the paths' UTF-8 bytes, whatever the file system or the locale.
 */
import type { Dirent } from "node:fs";
import { lstat, readdir, readlink, realpath } from "node:fs/promises";
import { dirname, isAbsolute, join, posix, relative, sep } from "node:path";
import picomatch from "picomatch";
import { CliError } from "../errors.ts";

interface EntryBase {
  /** Relative to the root, with `/`. */
  readonly path: string;
}
export interface FileEntry extends EntryBase {
  readonly kind: "file";
  readonly sizeBytes: number;
  readonly executable: boolean;
}
export interface DirectoryEntry extends EntryBase {
  readonly kind: "directory";
}
export interface SymlinkEntry extends EntryBase {
  readonly kind: "symlink";
  readonly target: string;
}
export type SourceEntry = FileEntry | DirectoryEntry | SymlinkEntry;

export interface SourceTree {
  readonly entries: readonly SourceEntry[];
  /** Sockets, pipes and devices, which are left out. */
  readonly skipped: readonly string[];
}

const neverUploaded = new Set(["node_modules", ".git", ".helmr", ".next", ".env"]);

/** T1, for one name of a path. */
export function isAlwaysExcluded(name: string): boolean {
  return neverUploaded.has(name) || name.startsWith(".env.");
}

/** Everything to upload from `root` (a real path). Throws a CliError for a link out of the tree (T2). */
export async function readSourceTree(root: string, ignorePatterns: readonly string[]): Promise<SourceTree> {
  // "./build/" and "build" are the same folder; "!" is no negation here, which would exclude everything else.
  const globs = ignorePatterns.map((pattern) => pattern.replace(/^\.\//, "").replace(/(?<=.)\/$/, ""));
  const isIgnored = picomatch(globs, { dot: true, nonegate: true });
  const entries: SourceEntry[] = [];
  const skipped: string[] = [];
  await walk({ root, isIgnored, entries, skipped }, "");
  entries.sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path))); // T3
  return { entries, skipped: skipped.sort() };
}

interface Walk {
  readonly root: string;
  readonly isIgnored: (path: string) => boolean;
  readonly entries: SourceEntry[];
  readonly skipped: string[];
}

/** How many entries of a folder are looked at side by side. */
const entriesPerPage = 64;

async function walk(state: Walk, folder: string): Promise<void> {
  const all = await readdir(join(state.root, folder), { withFileTypes: true });
  for (let start = 0; start < all.length; start += entriesPerPage) {
    const page = all.slice(start, start + entriesPerPage);
    const looks = await Promise.allSettled(page.map((found) => look(state, folder, found)));
    for (const result of looks) {
      if (result.status === "rejected") throw result.reason;
      if (result.value !== undefined) await walk(state, result.value);
    }
  }
}

/** Notes one entry; a folder whose content is to be looked at is returned. */
async function look(state: Walk, folder: string, found: Dirent): Promise<string | undefined> {
  const path = folder === "" ? found.name : `${folder}/${found.name}`;
  if (isAlwaysExcluded(found.name) || state.isIgnored(path)) return undefined; // T1
  if (found.name.includes("\uFFFD")) {
    throw new CliError(`the name of ${path} is not valid UTF-8`, {
      hint: "rename it, or exclude it with ignorePatterns",
    });
  }
  if (found.isDirectory()) {
    state.entries.push({ kind: "directory", path });
    return path;
  }
  if (found.isFile()) {
    const { size, mode } = await lstat(join(state.root, path));
    state.entries.push({ kind: "file", path, sizeBytes: size, executable: (mode & 0o100) !== 0 });
  } else if (found.isSymbolicLink()) {
    state.entries.push({ kind: "symlink", path, target: await readLinkInside(state.root, path) });
  } else {
    state.skipped.push(path);
  }
  return undefined;
}

/** T2: the link's text must stay inside, and so must what it really leads to (through other links). */
async function readLinkInside(root: string, path: string): Promise<string> {
  const target = (await readlink(join(root, path))).split(sep).join("/");
  const named = posix.normalize(posix.join(posix.dirname(path), target));
  const real = await realpath(join(root, path)).catch(() => undefined);
  const leaves =
    isAbsolute(target) ||
    named === ".." ||
    named.startsWith("../") ||
    (real !== undefined && !isInside(root, real));
  if (!leaves) return target;
  throw new CliError(`${path} is a link out of the project, to ${target}`, {
    hint: `copy what it points to into ${relative(process.cwd(), dirname(join(root, path))) || "the project"}, or exclude it with ignorePatterns in helmr.config.ts`,
  });
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}
