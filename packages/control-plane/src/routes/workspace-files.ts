/** Files of workspaces (contract 7.7), read where their saved version lies: nothing is started or materialized. */
import { ApiError, codedError } from "@helmr/api";
import type { VersionEntry } from "@helmr/artifacts/versions";
import { releaseReservations, reserveVersion, uuidv7 } from "@helmr/store";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { type ByteRange, isUnchanged, parseRange } from "../http/ranges.ts";
import { sendBytes } from "../http/send-bytes.ts";
import { presentEntry } from "../present/workspace-entry.ts";
import { openSaved } from "../workspaces/open-source.ts";
import { withVersionAnswers } from "../workspaces/version-errors.ts";

const defaultLimit = 200;
/** Read longer than the grace period of removed artifacts by a slow client: the version is held meanwhile. */
const heldFromBytes = 16 * 1024 * 1024;

type FileHandlers = Pick<Handlers, "listWorkspaceFiles" | "statWorkspaceFile" | "getWorkspaceFile">;

export function workspaceFileHandlers(context: Context): FileHandlers {
  return {
    listWorkspaceFiles: async ({ scope, params, query }) => {
      if (query.source === "live") throw codedError("workspace_not_live");
      const path = query.path ?? "";
      return await withVersionAnswers(async () => {
        const { tree } = await openSaved(context, scope, params.workspaceID, query.version_id);
        const { kind } = tree.stat(path);
        if (kind !== "directory") throw new ApiError(400, `path: is a ${kind}, not a directory`);
        const page = tree.list(path, {
          limit: query.limit ?? defaultLimit,
          after: query.cursor === undefined ? undefined : nameOf(query.cursor),
        });
        const next = page.next === undefined ? {} : { next_cursor: page.next.toString("base64url") };
        return { status: 200, body: { path, entries: page.entries.map(presentEntry), ...next } };
      });
    },
    statWorkspaceFile: async ({ scope, params, query }) => {
      if (query.source === "live") throw codedError("workspace_not_live");
      return await withVersionAnswers(async () => {
        const { tree } = await openSaved(context, scope, params.workspaceID, query.version_id);
        return { status: 200, body: { entry: presentEntry(tree.stat(query.path)) } };
      });
    },
    getWorkspaceFile: async (call) => {
      const { scope, params, query, request, reply, actor } = call;
      if (query.source === "live") throw codedError("workspace_not_live");
      return await withVersionAnswers(async () => {
        const { tree, version } = await openSaved(context, scope, params.workspaceID, query.version_id);
        const entry = tree.stat(query.path);
        const etag = etagOf(entry);
        void reply.headers({ etag, "cache-control": "private, no-cache", "accept-ranges": "bytes" });
        if (isUnchanged(request, etag)) return { status: 304, body: undefined };
        const range = rangeOf(request, reply, entry, etag);
        const { start, end } = range ?? { start: 0, end: entry.sizeBytes };
        using _place = context.fileReads.take(actor);
        const isHeld = version !== undefined && end - start > heldFromBytes;
        const lease = isHeld ? await hold(context, version.id) : undefined;
        try {
          return await sendBytes(call, {
            status: range === undefined ? 200 : 206,
            headers: {
              "content-type": "application/octet-stream",
              "content-length": end - start,
              ...(range === undefined
                ? {}
                : { "content-range": `bytes ${start}-${end - 1}/${entry.sizeBytes}` }),
            },
            source: tree.read(query.path, { start, end }),
          });
        } finally {
          if (lease !== undefined) await releaseReservations(context.db, lease);
        }
      });
    },
  };
}

/** Until `releaseReservations` nothing of the version is removed. */
export async function hold({ db }: Context, versionId: string): Promise<string> {
  const lease = uuidv7();
  if (!(await reserveVersion(db, versionId, lease))) throw codedError("workspace_version_missing");
  return lease;
}

/** Strong: the content's digest. What is no file has no content, and is refused with the reason. */
function etagOf(entry: VersionEntry): string {
  if (entry.sha256 === undefined) {
    const what = entry.kind === "directory" ? "a directory" : "a symbolic link";
    throw new ApiError(400, `path: is ${what}, which has no content; stat it`);
  }
  return `"${entry.sha256}"`;
}

function rangeOf(
  request: FastifyRequest,
  reply: FastifyReply,
  entry: VersionEntry,
  etag: string,
): ByteRange | undefined {
  const range = parseRange(request, entry.sizeBytes, etag);
  if (range !== "unsatisfiable") return range;
  void reply.header("content-range", `bytes */${entry.sizeBytes}`);
  throw new ApiError(416, `Range: the file has ${entry.sizeBytes} bytes`);
}

function nameOf(cursor: string): Buffer {
  const name = Buffer.from(cursor, "base64url");
  if (name.length === 0 || name.toString("base64url") !== cursor) {
    throw new ApiError(400, "cursor: must be the next_cursor of a page of this folder");
  }
  return name;
}
