/**
 * Reading the files of a live copy while its guest, which is hostile, changes them.
 *
 *  F1  Every step opens one component below the folder that was opened before, and follows no link: what the guest renames
 *      or replaces meanwhile leads nowhere else.
 *  F2  Nothing but regular files is opened for reading: a path is looked at first with a descriptor that opens nothing.
 *  F3  Entries and bytes of one answer are bounded; a folder of any size is read in pages of its names.
 */
import { constants, type Stats } from "node:fs";
import { type FileHandle, open, opendir, readlink } from "node:fs/promises";
import type { WorkspaceCommand } from "@helmr/api";

export type LiveFilesRequest = Omit<Extract<WorkspaceCommand, { kind: "files" }>, "request_id">;

export interface LiveFilesAnswer {
  /** `{entry}`, `{entries, next_after?}` or `{entry}` with the bytes in `data`. */
  readonly result: Record<string, unknown>;
  readonly data?: Buffer;
}

/** A path that cannot be answered: `code` is one of the wire's. */
export class LiveFilesError extends Error {
  override readonly name = "LiveFilesError";
  readonly code: "not_found" | "is_a_directory" | "not_a_file" | "not_a_directory" | "invalid_path";
  constructor(code: LiveFilesError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

const O_PATH = 0o10000000;
const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
const maxEntries = 1000;
const maxReadBytes = 4 * 1024 * 1024;
const maxDepth = 512;

interface Entry {
  readonly path: string;
  readonly name: string;
  readonly kind: "file" | "directory" | "symlink";
  readonly size_bytes: number;
  readonly mode: number;
  readonly link_target?: string;
  readonly mod_time: string;
}

/** Answer one question about the files below `root`, a folder of this host. Rejects with a LiveFilesError. */
export async function readLiveFiles(root: string, request: LiveFilesRequest): Promise<LiveFilesAnswer> {
  const parts = partsOf(request.path);
  const found = await openPath(root, parts);
  const at = found.handle;
  try {
    const entry = await entryOf(found, parts.join("/"));
    if (request.operation === "stat") {
      if (entry === undefined) throw new LiveFilesError("not_found", `${request.path} is no file or folder`);
      return { result: { entry } };
    }
    if (request.operation === "list") {
      if (entry?.kind !== "directory")
        throw new LiveFilesError("not_a_directory", `${request.path} is no folder`);
      return { result: await list(at, parts, request) };
    }
    if (entry?.kind === "directory")
      throw new LiveFilesError("is_a_directory", `${request.path} is a folder; list it`);
    if (entry?.kind !== "file") throw new LiveFilesError("not_a_file", `${request.path} is no regular file`);
    return { result: { entry }, data: await read(at, request.start ?? 0, request.limit) };
  } finally {
    await at.close();
  }
}

function partsOf(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..") || path.includes("\0") || parts.length > maxDepth)
    throw new LiveFilesError("invalid_path", "the path must be below the workspace, without ..");
  return parts;
}

/** A descriptor that opens nothing, and of a link where it points. */
interface Found {
  readonly handle: FileHandle;
  readonly target?: string;
}

/** F1 */
async function openPath(root: string, parts: readonly string[]): Promise<Found> {
  let at: Found = { handle: await open(root, O_PATH | O_DIRECTORY) };
  for (const [index, part] of parts.entries()) {
    const folder = at.handle;
    try {
      at = await openChild(folder, Buffer.from(part), index < parts.length - 1);
    } catch (error) {
      if (!isGone(error)) throw error;
      throw new LiveFilesError("not_found", `${parts.join("/")} is not there`);
    } finally {
      await folder.close();
    }
  }
  return at;
}

async function openChild(folder: FileHandle, name: Buffer, mustBeFolder: boolean): Promise<Found> {
  const path = Buffer.concat([Buffer.from(`${below(folder)}/`), name]);
  const handle = await open(path, O_PATH | O_NOFOLLOW | (mustBeFolder ? O_DIRECTORY : 0));
  try {
    if (!(await handle.stat()).isSymbolicLink()) return { handle };
    return { handle, target: await readlink(path) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** EINVAL: a link that is none any more. */
function isGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  return ["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG", "EINVAL"].includes(code);
}

function below(handle: FileHandle): string {
  return `/proc/self/fd/${handle.fd}`;
}

/** Undefined: neither file, folder nor link. */
async function entryOf({ handle, target }: Found, path: string): Promise<Entry | undefined> {
  const stats = await handle.stat();
  const kind = kindOf(stats, target !== undefined);
  if (kind === undefined) return undefined;
  return {
    path,
    name: path.slice(path.lastIndexOf("/") + 1),
    kind,
    size_bytes: stats.size,
    mode: stats.mode & 0o7777,
    ...(target === undefined ? {} : { link_target: target }),
    mod_time: stats.mtime.toISOString(),
  };
}

function kindOf(stats: Stats, isLink: boolean): Entry["kind"] | undefined {
  if (isLink) return "symlink";
  if (stats.isDirectory()) return "directory";
  return stats.isFile() ? "file" : undefined;
}

/** F3: the `limit` first names after `after`, by their bytes. */
async function list(
  folder: FileHandle,
  parts: readonly string[],
  request: LiveFilesRequest,
): Promise<Record<string, unknown>> {
  const limit = Math.min(request.limit, maxEntries);
  const after = request.after === undefined ? undefined : Buffer.from(request.after, "base64url");
  let names: Buffer[] = [];
  const keepFirst = () => {
    names = names.sort(Buffer.compare).slice(0, limit + 1);
  };
  for await (const { name } of await opendir(`${below(folder)}/.`, {
    encoding: "buffer" as BufferEncoding,
  })) {
    const bytes = name as unknown as Buffer;
    if (after !== undefined && Buffer.compare(bytes, after) <= 0) continue;
    names.push(bytes);
    if (names.length > 4 * (limit + 1)) keepFirst();
  }
  keepFirst();
  const entries: Entry[] = [];
  for (const name of names.slice(0, limit)) {
    const entry = await childEntry(folder, parts, name);
    if (entry !== undefined) entries.push(entry);
  }
  const last = names[limit - 1];
  const next = names.length > limit && last !== undefined ? { next_after: last.toString("base64url") } : {};
  return { entries, ...next };
}

/** Undefined when it is gone meanwhile, or of another kind. */
async function childEntry(
  folder: FileHandle,
  parts: readonly string[],
  name: Buffer,
): Promise<Entry | undefined> {
  let child: Found;
  try {
    child = await openChild(folder, name, false);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
  try {
    return await entryOf(child, [...parts, name.toString("utf8")].join("/"));
  } finally {
    await child.handle.close();
  }
}

/** F2 */
async function read(handle: FileHandle, start: number, limit: number): Promise<Buffer> {
  const file = await open(below(handle), O_RDONLY | O_NONBLOCK);
  try {
    const length = Math.min(limit, maxReadBytes, Math.max(0, (await file.stat()).size - start));
    const data = Buffer.alloc(length);
    let filled = 0;
    while (filled < length) {
      const { bytesRead } = await file.read(data, filled, length - filled, start + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return data.subarray(0, filled);
  } finally {
    await file.close();
  }
}
