/**
 * Host-side steps of an image: copying files into a layer and making folders.
 *
 *  I1  The destination is resolved inside the merged root (resolveInRoot): no link of the image or of the source leads
 *      a write outside.
 *  I2  Links are copied as links; nothing is read through them, but through a source path's own links, inside its root.
 *  I3  The tree is nobody else's while it is written: the overlay is mounted here, and no guest runs on it.
 */
import {
  chmod,
  chown,
  copyFile,
  lstat,
  lutimes,
  mkdir,
  readlink,
  rm,
  symlink,
  utimes,
} from "node:fs/promises";
import { basename, join, posix } from "node:path";
import { mountOverlay, unmount } from "@helmr/isolation";
import ignore from "ignore";
import { resolveInRoot } from "../resolve-in-root.ts";
import { walkTree } from "./layer-key.ts";

export type Keep = (path: string, isDirectory: boolean) => boolean;
export const keepAll: Keep = () => true;

/** Globs as in a .gitignore, relative to the copied folder. */
export function keepUnless(globs: readonly string[]): Keep {
  if (globs.length === 0) return keepAll;
  const matcher = ignore().add([...globs]);
  return (path, isDirectory) => !matcher.ignores(isDirectory ? `${path}/` : path);
}

export interface CopySource {
  /** The tree that bounds the copy: the build's source, or another image's root. */
  readonly root: string;
  /** Path inside `root`; its links are followed inside `root`. */
  readonly path: string;
  readonly keep: Keep;
  /** Keep owners (from another image); else root:root. */
  readonly keepOwners: boolean;
  /** Ends a copy between two entries. */
  readonly signal: AbortSignal;
}

/** The host path a copy reads from, or undefined when the source has no such entry. */
export async function resolveSource(source: CopySource): Promise<string | undefined> {
  const path = await resolveInRoot(source.root, source.path);
  return lstat(path).then(
    () => path,
    () => undefined,
  );
}

/** Work on the merged tree of `lowers` (topmost first) with changes landing in `upper`. */
export async function withWritableRoot<T>(
  layer: {
    readonly lowers: readonly string[];
    readonly upper: string;
    readonly work: string;
    readonly target: string;
  },
  work: (root: string) => Promise<T>,
): Promise<T> {
  await mountOverlay(layer);
  try {
    return await work(layer.target);
  } finally {
    await unmount(layer.target);
    await rm(layer.target, { recursive: true, force: true });
  }
}

/** `mkdir -p` inside the root; missing folders are root's with mode 755. Returns the host path. */
export async function makeFolder(root: string, path: string): Promise<string> {
  let at = root;
  for (const part of (await resolveInRoot(root, path)).slice(root.length).split("/")) {
    if (part === "") continue;
    at = join(at, part);
    const info = await lstat(at).catch(() => undefined);
    if (info === undefined) await mkdir(at, { mode: 0o755 });
    else if (!info.isDirectory()) throw new Error(`${at.slice(root.length)} is not a folder in the image`);
  }
  return at;
}

/**
 * Copy as Docker's COPY does: a folder's content goes into `dest`; a file becomes `dest`, or lands in it when `dest`
 * ends in `/` or is a folder.
 */
export async function copyInto(root: string, dest: string, source: CopySource): Promise<void> {
  const from = await resolveSource(source);
  if (from === undefined) throw new Error(`${source.path} does not exist`);
  if ((await lstat(from)).isDirectory()) {
    const target = await makeFolder(root, dest);
    return copyTree(from, target, source);
  }
  const parent = dest.endsWith("/") ? dest : (await isFolder(root, dest)) ? dest : posix.dirname(dest);
  const name = parent === dest ? basename(from) : posix.basename(dest);
  const folder = await makeFolder(root, parent);
  await copyEntry(from, join(folder, name), "file", source.keepOwners);
}

async function isFolder(root: string, path: string): Promise<boolean> {
  const info = await lstat(await resolveInRoot(root, path)).catch(() => undefined);
  return info?.isDirectory() ?? false;
}

async function copyTree(from: string, target: string, source: CopySource): Promise<void> {
  for await (const entry of walkTree(from, source.keep)) {
    if (entry.path === "") continue;
    source.signal.throwIfAborted();
    await copyEntry(join(from, entry.path), join(target, entry.path), entry.kind, source.keepOwners);
  }
}

/** Replaces what is at `to`, except a folder by a folder: those are merged. Parents exist and are no links (I1). */
async function copyEntry(
  from: string,
  to: string,
  kind: "file" | "directory" | "symlink",
  keepOwners: boolean,
): Promise<void> {
  const info = await lstat(from);
  const existing = await lstat(to).catch(() => undefined);
  if (existing !== undefined && !(kind === "directory" && existing.isDirectory()))
    await rm(to, { recursive: true });
  if (kind === "symlink") await symlink(await readlink(from), to);
  else if (kind === "directory") await mkdir(to, { recursive: true });
  else await copyFile(from, to);
  const [uid, gid] = keepOwners ? [info.uid, info.gid] : [0, 0];
  if (kind === "symlink") {
    await lutimes(to, info.atime, info.mtime);
    return;
  }
  await chown(to, uid, gid);
  await chmod(to, info.mode & (keepOwners ? 0o7777 : 0o777));
  if (kind === "file") await utimes(to, info.atime, info.mtime);
}

/** The folder that `dest` names, relative to the image's working folder. */
export function absoluteIn(workdir: string, path: string): string {
  const absolute = posix.isAbsolute(path) ? path : posix.join(workdir, path);
  return path.endsWith("/") && !absolute.endsWith("/") ? `${absolute}/` : absolute;
}
