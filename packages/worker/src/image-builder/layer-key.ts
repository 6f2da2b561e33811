/** Keys of layers: sha256 over a canonical text of everything that decides what a step leaves behind. */
import { createHash, createHmac } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

/** Bumped when the way a step is executed changes what it leaves behind. */
const keyFormat = 1;

/** Hex sha256 of a JSON value, independent of the order of its keys. */
export function keyOf(value: unknown): string {
  return createHash("sha256")
    .update(JSON.stringify([keyFormat, canonical(value)]))
    .digest("hex");
}

function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, entry]) => entry !== undefined);
  return Object.fromEntries(
    entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, entry]) => [key, canonical(entry)]),
  );
}

/** What of a build secret goes into a key: changes with its value, tells nothing without the worker's own key. */
export function secretMark(workerKey: Buffer, name: string, value: string): string {
  return createHmac("sha256", workerKey).update(`${name.length}:${name}${value}`).digest("hex");
}

/** One entry below a folder that is copied or described. */
export interface TreeEntry {
  /** Relative POSIX path; "" is the folder (or file) itself. */
  readonly path: string;
  readonly kind: "file" | "directory" | "symlink";
  readonly mode: number;
  readonly sizeBytes: number;
}

/** Entries below `root` in a fixed order, links not followed, special files left out. */
export async function* walkTree(
  root: string,
  keep: (path: string, isDirectory: boolean) => boolean,
): AsyncGenerator<TreeEntry> {
  const info = await lstat(root);
  yield { path: "", kind: kindOf(info) ?? "directory", mode: info.mode & 0o7777, sizeBytes: info.size };
  if (info.isDirectory()) yield* walkBelow(root, "", keep);
}

async function* walkBelow(
  root: string,
  folder: string,
  keep: (path: string, isDirectory: boolean) => boolean,
): AsyncGenerator<TreeEntry> {
  for (const name of (await readdir(join(root, folder))).sort()) {
    const path = folder === "" ? name : `${folder}/${name}`;
    const info = await lstat(join(root, path));
    const kind = kindOf(info);
    if (kind === undefined || !keep(path, kind === "directory")) continue;
    yield { path, kind, mode: info.mode & 0o7777, sizeBytes: info.size };
    if (kind === "directory") yield* walkBelow(root, path, keep);
  }
}

function kindOf(info: {
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
}): TreeEntry["kind"] | undefined {
  if (info.isFile()) return "file";
  if (info.isDirectory()) return "directory";
  return info.isSymbolicLink() ? "symlink" : undefined;
}

/** Hex sha256 over names, kinds, modes, link targets and contents of a tree. */
export async function digestTree(
  root: string,
  keep: (path: string, isDirectory: boolean) => boolean,
): Promise<string> {
  const hash = createHash("sha256");
  for await (const entry of walkTree(root, keep)) {
    const path = join(root, entry.path);
    const content =
      entry.kind === "file" ? await digestFile(path) : entry.kind === "symlink" ? await readlink(path) : "";
    hash.update(`${JSON.stringify([entry.path, entry.kind, entry.mode, content])}\n`);
  }
  return hash.digest("hex");
}

async function digestFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}
