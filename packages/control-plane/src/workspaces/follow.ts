/** The streams of execs and ptys as server-sent events (contract 7.6). */
import { codedError } from "@helmr/api";
import {
  type ChunkPage,
  type CommandKey,
  noteRead,
  type OutputStream,
  readChunks,
  type Scope,
} from "@helmr/store";
import type { FastifyRequest } from "fastify";
import type { Context } from "../context.ts";
import { type Frame, queryCursor, type StreamPage, type StreamSource } from "../http/stream-hub.ts";
import { errorOf, presentChunk } from "../present/workspace-command.ts";

export interface OutputOf {
  readonly scope: Scope;
  readonly key: CommandKey;
  readonly stream: OutputStream;
}

const defaultLimit = 100;
/** Read for one subscriber at a time. */
const maxPageBytes = 1024 * 1024;
/** Contract 7.6: every 25 s at the latest; the loop looks once a second. */
const keepAliveMs = 20_000;
/** How often, or after how many bytes, it is noted how far an attached reader has come. */
const noteEveryMs = 250;
const noteEveryBytes = 1024 * 1024;

/** Replay from the query's cursor, then live, to the terminal frame. */
export function followOutput(
  context: Context,
  request: FastifyRequest,
  output: OutputOf,
  query: { readonly cursor?: number | undefined; readonly limit?: number | undefined },
): StreamSource {
  const { key, stream } = output;
  const limit = query.limit ?? defaultLimit;
  const cursor = queryCursor(request, query.cursor);
  const reader = new AttachedReader(context, output, cursor);
  return {
    topic: `${stream === "output" ? "pty" : "exec"}:${key.id}`,
    event: "workspace_stream_chunk",
    cursor,
    keepAliveMs,
    next: async (from) => {
      const page = await readChunks(context.db, output.scope, key, {
        stream,
        cursor: from,
        limit,
        maxBytes: maxPageBytes,
      });
      if (page === undefined) return over;
      reader.isAttached = page.isAttached && !page.isOver;
      if (from < page.retained) return { ...over, frames: [expired(from)] };
      return pageOf(output, from, page);
    },
    written: (to) => reader.written(to),
    failure: (from) =>
      errorFrame(from, "workspace_stream_follow_failed", "the stream failed; follow it again"),
  };
}

function pageOf({ key, stream }: OutputOf, from: number, page: ChunkPage): StreamPage {
  const frames: Frame[] = page.chunks.map((chunk) => ({ id: chunk.offset_end, data: presentChunk(chunk) }));
  const end = page.chunks.at(-1)?.offset_end ?? from;
  if (page.isFull || !page.isOver) return { frames, full: page.isFull, ended: false };
  const event = page.state === "lost" ? "workspace_stream_lost" : "workspace_stream_terminal";
  const data = {
    resource_kind: stream === "output" ? "workspace_pty" : "workspace_exec",
    resource_id: key.id,
    stream,
    state: page.state,
    cursor: page.cursor,
    ...errorOf(page),
  };
  frames.push({ id: Math.max(end, page.cursor), event, data });
  return { frames, full: false, ended: true };
}

const over: StreamPage = { frames: [], full: false, ended: true };

function expired(from: number): Frame {
  const { code, message } = codedError("workspace_stream_cursor_expired");
  return errorFrame(from, code ?? "", message);
}

function errorFrame(from: number, code: string, message: string): Frame {
  return { id: from, event: "workspace_stream_error", data: { code, message, cursor: from } };
}

/** Tells how far a reader has come who holds back the process: one of a pty, or of an exec that is not detached. */
class AttachedReader {
  readonly #context: Context;
  readonly #output: OutputOf;
  isAttached = false;
  #noted: number;
  #notedAtMs = 0;

  constructor(context: Context, output: OutputOf, cursor: number) {
    this.#context = context;
    this.#output = output;
    this.#noted = cursor;
  }

  async written(cursor: number): Promise<void> {
    const isDue =
      performance.now() - this.#notedAtMs >= noteEveryMs || cursor - this.#noted >= noteEveryBytes;
    if (!this.isAttached || !isDue) return;
    this.#noted = cursor;
    this.#notedAtMs = performance.now();
    const { key, stream } = this.#output;
    await noteRead(this.#context.db, key.id, { stream, cursor });
  }
}
