/**
 * Files of workspaces (contract 7.7), read where their saved version lies: nothing is started or materialized. `source=live`
 * asks the worker of the live copy that is there.
 */
import { ApiError, codedError, type Routes } from "@helmr/api";
import { releaseReservations, reserveVersion, type Scope, uuidv7 } from "@helmr/store";
import type { Context } from "../context.ts";
import type { Answer, answered, Call, Handlers } from "../http/handlers.ts";
import { type ByteRange, isUnchanged, parseRange } from "../http/ranges.ts";
import { sendBytes } from "../http/send-bytes.ts";
import { presentEntry } from "../present/workspace-entry.ts";
import { askLiveFiles, type LiveCopyOf, readLiveFile } from "../workspaces/live-files.ts";
import { openSaved } from "../workspaces/open-source.ts";
import { withVersionAnswers } from "../workspaces/version-errors.ts";

const defaultLimit = 200;
/** Read longer than the grace period of removed artifacts by a slow client: the version is held meanwhile. */
const heldFromBytes = 16 * 1024 * 1024;

type FileHandlers = Pick<Handlers, "listWorkspaceFiles" | "statWorkspaceFile" | "getWorkspaceFile">;

export function workspaceFileHandlers(context: Context): FileHandlers {
  return {
    listWorkspaceFiles: async (call) => {
      const { scope, params, query } = call;
      const path = query.path ?? "";
      const limit = query.limit ?? defaultLimit;
      const after = query.cursor === undefined ? undefined : nameOf(query.cursor);
      if (query.source === "live") {
        const question = { operation: "list", path, limit, after: after?.toString() } as const;
        const { entries, nextAfter } = await askLiveFiles(context, call, liveCopyOf(call), question);
        return { status: 200, body: { path, entries: [...entries], ...nextOf(nextAfter) } };
      }
      return await withVersionAnswers(async () => {
        const { tree } = await openSaved(context, scope, params.workspaceID, query.version_id);
        const { kind } = tree.stat(path);
        if (kind !== "directory") throw new ApiError(400, `path: is a ${kind}, not a directory`);
        const page = tree.list(path, { limit, after });
        return { status: 200, body: { path, entries: page.entries.map(presentEntry), ...nextOf(page.next) } };
      });
    },
    statWorkspaceFile: async (call) => {
      const { scope, params, query } = call;
      const { path } = query;
      if (query.source === "live") {
        const question = { operation: "stat", path } as const;
        const { entry } = await askLiveFiles(context, call, liveCopyOf(call), question);
        return { status: 200, body: { entry } };
      }
      return await withVersionAnswers(async () => {
        const { tree } = await openSaved(context, scope, params.workspaceID, query.version_id);
        return { status: 200, body: { entry: presentEntry(tree.stat(path)) } };
      });
    },
    getWorkspaceFile: async (call) => {
      using _place = context.fileReads.take(call.actor);
      return call.query.source === "live"
        ? await sendLive(context, call)
        : await withVersionAnswers(() => sendSaved(context, call));
    },
  };
}

type ReadCall = Call<Routes["getWorkspaceFile"]>;

async function sendSaved(context: Context, call: ReadCall): Promise<Answer<Routes["getWorkspaceFile"]>> {
  const { scope, params, query, request, reply } = call;
  const { tree, version } = await openSaved(context, scope, params.workspaceID, query.version_id);
  const entry = tree.stat(query.path);
  requireFile(entry.kind);
  const etag = `"${entry.sha256}"`;
  void reply.headers({ etag, "cache-control": "private, no-cache", "accept-ranges": "bytes" });
  if (isUnchanged(request, etag)) return { status: 304, body: undefined };
  const range = rangeOf(call, entry.sizeBytes, etag);
  const isHeld =
    version !== undefined && (range?.end ?? entry.sizeBytes) - (range?.start ?? 0) > heldFromBytes;
  const lease = isHeld ? await hold(context, version.id) : undefined;
  try {
    return await sendPart(call, entry.sizeBytes, range, ({ start, end }) =>
      tree.read(query.path, { start, end }),
    );
  } finally {
    if (lease !== undefined) await releaseReservations(context.db, lease);
  }
}

/** As large as the file is now; when it gets shorter meanwhile, the answer is cut. */
async function sendLive(context: Context, call: ReadCall): Promise<Answer<Routes["getWorkspaceFile"]>> {
  const copy = liveCopyOf(call);
  const { path } = call.query;
  const { entry } = await askLiveFiles(context, call, copy, { operation: "stat", path });
  requireFile(entry.kind);
  void call.reply.header("accept-ranges", "bytes");
  const range = rangeOf(call, entry.size_bytes, undefined);
  return await sendPart(call, entry.size_bytes, range, ({ start, end }) =>
    whole(readLiveFile(context, call, copy, { path, start, length: end - start }), end - start),
  );
}

async function* whole(parts: AsyncIterable<Buffer>, length: number): AsyncGenerator<Buffer> {
  let left = length;
  for await (const part of parts) {
    left -= part.length;
    yield part;
  }
  if (left !== 0) throw new Error("the live file is another length than it was");
}

async function sendPart(
  call: ReadCall,
  size: number,
  range: ByteRange | undefined,
  read: (part: ByteRange) => AsyncIterable<Uint8Array>,
): Promise<typeof answered> {
  const { start, end } = range ?? { start: 0, end: size };
  return await sendBytes(call, {
    status: range === undefined ? 200 : 206,
    headers: {
      "content-type": "application/octet-stream",
      "content-length": end - start,
      ...(range === undefined ? {} : { "content-range": `bytes ${start}-${end - 1}/${size}` }),
    },
    source: read({ start, end }),
  });
}

function liveCopyOf({
  scope,
  params,
  query,
}: {
  readonly scope: Scope;
  readonly params: { readonly workspaceID: string };
  readonly query: { readonly materialization_id?: string | undefined };
}): LiveCopyOf {
  return { scope, workspaceId: params.workspaceID, materializationId: query.materialization_id };
}

/** Until `releaseReservations` nothing of the version is removed. */
export async function hold({ db }: Context, versionId: string): Promise<string> {
  const lease = uuidv7();
  if (!(await reserveVersion(db, versionId, lease))) throw codedError("workspace_version_missing");
  return lease;
}

function requireFile(kind: "file" | "directory" | "symlink"): void {
  if (kind === "file") return;
  const what = kind === "directory" ? "a directory" : "a symbolic link";
  throw new ApiError(400, `path: is ${what}, which has no content; stat it`);
}

function rangeOf(
  { request, reply }: ReadCall,
  size: number,
  etag: string | undefined,
): ByteRange | undefined {
  const range = parseRange(request, size, etag);
  if (range !== "unsatisfiable") return range;
  void reply.header("content-range", `bytes */${size}`);
  throw new ApiError(416, `Range: the file has ${size} bytes`);
}

function nextOf(name: Buffer | string | undefined): { next_cursor?: string } {
  return name === undefined ? {} : { next_cursor: Buffer.from(name).toString("base64url") };
}

function nameOf(cursor: string): Buffer {
  const name = Buffer.from(cursor, "base64url");
  if (name.length === 0 || name.toString("base64url") !== cursor) {
    throw new ApiError(400, "cursor: must be the next_cursor of a page of this folder");
  }
  return name;
}
