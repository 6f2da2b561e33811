/** Where a run's file secrets lie in its workspace: what no version of it may hold. */
import { lstat } from "node:fs/promises";
import { join, posix } from "node:path";
import type { CatalogSecret } from "@helmr/api";
import { resolveInRoot, TooManyLinksError } from "./resolve-in-root.ts";

/**
 * Paths relative to the workspace, as they were declared and, where a folder on the way is a link within the workspace, as it
 * leads there now. `mountPath` is the workspace inside the guest, `mountPoint` on this host.
 */
export async function secretPaths(
  placements: readonly CatalogSecret[],
  mountPath: string,
  mountPoint: string,
): Promise<string[]> {
  const found = new Set<string>();
  for (const placement of placements) {
    if (placement.kind === "env") continue;
    const path = posix.resolve(mountPath, placement.path);
    const file = placement.kind === "file" ? path : posix.join(path, placement.name);
    const relative = posix.relative(mountPath, file);
    if (relative === "" || relative === ".." || relative.startsWith("../")) continue;
    found.add(relative);
    found.add(await resolvedIn(mountPoint, relative));
  }
  return [...found];
}

/** The guest may be changing the folder: what comes out of it is a name to leave out, nothing that is opened. */
async function resolvedIn(mountPoint: string, relative: string): Promise<string> {
  try {
    return (await resolveInRoot(mountPoint, relative, { followLast: false })).slice(mountPoint.length + 1);
  } catch (error) {
    if (error instanceof TooManyLinksError) return relative;
    throw error;
  }
}

/**
 * Of paths relative to a folder that nobody changes now, those that are there, with no link on the way; and the folders on
 * the way to them, outermost first, the folder itself as the empty path.
 */
export async function presentIn(
  folder: string,
  paths: readonly Buffer[],
): Promise<{ readonly entries: Buffer[]; readonly trees: Buffer[] }> {
  const entries = new Map<string, Buffer>();
  const trees: Buffer[] = [];
  for (const path of paths) {
    const parts = path.toString("latin1").split("/");
    const ancestors = parts.slice(0, -1).map((_part, at) => parts.slice(0, at + 1).join("/"));
    const areFolders = await Promise.all(ancestors.map((at) => isFolder(folder, at)));
    if (!areFolders.every(Boolean) || (await kindOf(folder, parts.join("/"))) === undefined) continue;
    trees.push(path);
    for (const at of ["", ...ancestors]) entries.set(at, Buffer.from(at, "latin1"));
  }
  const sorted = [...entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, bytes]) => bytes);
  return { entries: sorted, trees };
}

async function isFolder(folder: string, path: string): Promise<boolean> {
  return (await kindOf(folder, path)) === "directory";
}

async function kindOf(folder: string, path: string): Promise<"directory" | "other" | undefined> {
  try {
    const stats = await lstat(Buffer.from(join(folder, "x").slice(0, -1) + path, "latin1"));
    return stats.isDirectory() ? "directory" : "other";
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ENAMETOOLONG") return undefined;
    throw error;
  }
}
