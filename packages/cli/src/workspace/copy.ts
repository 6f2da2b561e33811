/** Copying between a workspace and this machine: files by their content, folders as tars. */
import { randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { chmod, mkdir, open, rename, rm, stat, utimes } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ApiClient } from "../client/api-client.ts";
import type { WorkspaceEntry, WorkspaceVersion } from "../client/wire.ts";
import { messageOf, usageError } from "../errors.ts";
import { currentVersion } from "./diff.ts";
import { extractArchive } from "./extract.ts";
import { bodyOf, type FileSource, sourceQuery } from "./files.ts";
import { packFolder } from "./pack.ts";

export interface Place {
  readonly workspace?: string;
  readonly path: string;
}
export interface RemotePlace {
  readonly workspacePath: string;
  readonly path: string;
}
/** For the whole upload, which the server stores while it reads. */
const uploadTimeoutMs = 60 * 60_000;

/** `<workspace>:<path>`, or a path here: one that begins with a dot or a slash always is. */
export function placeOf(text: string): Place {
  const [, workspace, path] = /^([^./:\\][^:]*):(.*)$/s.exec(text) ?? [];
  return workspace === undefined || path === undefined
    ? { path: text }
    : { workspace, path: path.replace(/^\/+/, "") };
}

export interface CopiedOut {
  readonly files: number;
}

export async function copyOut(
  api: ApiClient,
  from: RemotePlace,
  to: string,
  source: FileSource,
): Promise<CopiedOut> {
  const entry = await entryOf(api, from, source);
  if (entry === undefined || entry.kind === "directory") return copyFolderOut(api, from, to, source);
  const query = { path: from.path, ...sourceQuery(source) };
  const response = await api.open(`${from.workspacePath}/files/content`, { query });
  const target = (await isFolder(to)) ? join(to, basename(from.path)) : to;
  await writeWhole(target, bodyOf(api, response), entry);
  return { files: 1 };
}

/** Undefined for the root. */
async function entryOf(
  api: ApiClient,
  { workspacePath, path }: RemotePlace,
  source: FileSource,
): Promise<WorkspaceEntry | undefined> {
  if (path.replaceAll(/[./]/g, "") === "") return undefined;
  const query = { path, ...sourceQuery(source) };
  return (await api.get(`${workspacePath}/files/stat`, { query, schema: "workspaceEntryEnvelope" })).entry;
}

/** Beside the target and renamed: what is there is never half of it, and a link there is replaced, not followed. */
async function writeWhole(
  target: string,
  bytes: AsyncIterable<Uint8Array>,
  { mode, mod_time }: WorkspaceEntry,
): Promise<void> {
  const staged = join(dirname(target), `.${basename(target)}.${randomUUID().slice(0, 8)}`);
  try {
    await pipeline(Readable.from(bytes), createWriteStream(staged, { flags: "wx", mode: 0o600 }));
    await chmod(staged, mode & 0o777);
    if (mod_time !== undefined) await utimes(staged, new Date(), new Date(mod_time));
    await rename(staged, target);
  } catch (error) {
    await rm(staged, { force: true });
    throw error;
  }
}

async function copyFolderOut(
  api: ApiClient,
  from: RemotePlace,
  to: string,
  source: FileSource,
): Promise<CopiedOut> {
  if (source.live) {
    throw usageError(
      "a folder cannot be copied from a live copy",
      "save it first (`helmr workspace versions save <workspace>`), or copy single files",
    );
  }
  const version = source.version ?? (await currentVersion(api, from.workspacePath));
  const archive = `${from.workspacePath}/versions/${encodeURIComponent(version)}/archive`;
  const response = await api.open(archive);
  await mkdir(to, { recursive: true });
  return { files: await extractArchive(bodyOf(api, response), from.path, to) };
}

export interface CopyInOptions {
  readonly replace?: boolean;
  readonly message?: string;
}

export async function copyIn(
  api: ApiClient,
  from: string,
  to: RemotePlace,
  options: CopyInOptions,
): Promise<{ readonly version: WorkspaceVersion }> {
  const found = await stat(from).catch((error: unknown) => {
    throw usageError(`cannot read ${from}: ${messageOf(error)}`);
  });
  if (found.isDirectory()) {
    const query = { mode: options.replace ? "replace" : "merge", message: options.message };
    const bytes = Readable.toWeb(Readable.from(packFolder(from, to.path))) as ReadableStream<Uint8Array>;
    return upload(api, "POST", `${to.workspacePath}/versions/import`, query, bytes);
  }
  if (options.replace) throw usageError("--replace is for folders");
  const path = (await isRemoteFolder(api, to)) ? join(to.path, basename(from)) : to.path;
  const file = await open(from);
  const bytes = Readable.toWeb(file.createReadStream()) as ReadableStream<Uint8Array>;
  const query = { path, mode: (found.mode & 0o777).toString(8), message: options.message };
  return upload(api, "PUT", `${to.workspacePath}/files/content`, query, bytes);
}

function upload(
  api: ApiClient,
  method: "POST" | "PUT",
  path: string,
  query: Record<string, string | undefined>,
  bytes: ReadableStream<Uint8Array>,
): Promise<{ readonly version: WorkspaceVersion }> {
  return api.send(method, path, {
    query,
    bytes,
    timeoutMs: uploadTimeoutMs,
    schema: "workspaceVersionEnvelope",
  });
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}

/** A name with a slash at its end always is one. */
async function isRemoteFolder(api: ApiClient, place: RemotePlace): Promise<boolean> {
  if (place.path === "" || place.path.endsWith("/")) return true;
  const query = { path: place.path };
  const response = await api.raw("GET", `${place.workspacePath}/files/stat`, { query });
  if (!response.ok) {
    await response.body?.cancel();
    return false;
  }
  const { entry } = (await response.json()) as { entry?: { kind?: unknown } };
  return entry?.kind === "directory";
}
