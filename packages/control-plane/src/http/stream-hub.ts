/**
 * Server-sent events: replay from a cursor, then live, in one loop per subscriber.
 *
 *   read a page from the database -> write its frames -> full page: again; else wait for a hint, at most one second
 *
 * E1 Every frame comes from the database in seq order after the cursor: what was missed is replayed, nothing twice.
 * E2 A slow reader holds back its own loop only: the next page is read when the socket has taken the last one.
 * E3 A stream ends when its source says so (terminal and drained), after 30 minutes, when the client is gone, when the
 *    client takes nothing for a minute, or when the server closes; the subscriber resumes with the last id.
 * E4 A stream ends within two seconds of its caller losing access: it is asked again every second.
 * E5 Followers of one thing that stand at one place share a read that is under way, unless a hint has come since it began: 1,000
 *    followers of 100 runs poll the database as 100 do. Their polls are due at the same time for that.
 */
import { once } from "node:events";
import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import { ApiError } from "@helmr/api";
import type { LiveBus } from "@helmr/coordination";
import type { Actor } from "@helmr/store";
import type { FastifyReply, FastifyRequest } from "fastify";
import { RateLimitedError } from "../limits/rate-limiter.ts";
import { answered } from "./handlers.ts";
import { noteStream } from "./observe.ts";
import { slowPollMs, WakeUp } from "./wake-up.ts";

export interface Frame {
  /** The reader's cursor once it has the frame. */
  readonly id: number;
  /** Default: the source's. */
  readonly event?: string;
  readonly data: unknown;
}

export interface StreamPage {
  readonly frames: readonly Frame[];
  /** More may be there already: read on without waiting. */
  readonly full: boolean;
  /** Nothing follows these frames. */
  readonly ended: boolean;
}

export interface StreamSource {
  /** Bus topic that hints at new frames. */
  readonly topic: string;
  /** Name of the SSE events. */
  readonly event: string;
  readonly cursor: number;
  /** A comment is sent when nothing else was for that long. */
  readonly keepAliveMs: number;
  /** E5: the name of what is followed, the same for all who get the same frames; absent: nobody else does. */
  readonly sharedAs?: string;
  /** Frames with ids above `cursor`, in order. */
  next(cursor: number): Promise<StreamPage>;
  /** Told when the client's connection has taken every frame up to there. */
  written?(cursor: number): Promise<void>;
  /** What a client is told when the stream cannot go on for a reason of ours; without, it ends. */
  failure?(cursor: number): Frame;
}

/** A call that follows: see `Call`. */
export interface StreamCall {
  readonly actor: Actor;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  stillAllowed(): Promise<boolean>;
}

const maxStreamMs = 30 * 60_000;
/** E4 */
const askAgainMs = 1000;
const defaultMaxStalledMs = 60_000;
/** Streams end when they end: a guess that does not make clients press. */
const retryStreamAfterSeconds = 10;

export interface StreamLimits {
  readonly maxStreams: number;
  readonly maxStreamsPerActor: number;
  /** E3. Default a minute. */
  readonly maxStalledMs?: number;
  /** Told how many streams are open, whenever that changes. */
  readonly onCount?: (open: number) => void;
}

export class StreamHub {
  readonly #bus: LiveBus;
  readonly #limits: StreamLimits;
  readonly #closing: AbortSignal;
  readonly #open = new Set<Promise<void>>();
  /** How many of `#open` and of what is reserved are whose; nobody who has none. */
  readonly #openByActor = new Map<string, number>();
  #reserved = 0;
  /** E5: reads under way, by what is read and from where. */
  readonly #reads = new Map<string, Map<number, Promise<StreamPage>>>();

  constructor(bus: LiveBus, closing: AbortSignal, limits: StreamLimits) {
    this.#bus = bus;
    this.#limits = limits;
    this.#closing = closing;
  }

  /** Takes over the reply. Throws ApiError 503 when too many streams are open, 429 when too many are this actor's. */
  async stream(call: StreamCall, source: StreamSource): Promise<typeof answered> {
    this.#requireRoom();
    const ended = this.#countActor(call.actor);
    call.reply.hijack();
    noteStream(call.request);
    const running = this.#run(call, source).finally(() => {
      this.#open.delete(running);
      this.#limits.onCount?.(this.#open.size);
      ended();
    });
    this.#open.add(running);
    this.#limits.onCount?.(this.#open.size);
    await running;
    return answered;
  }

  /**
   * A place among the streams for a request that is answered later, until disposed. Throws as `stream` does; with `actor` it
   * is also one of this actor's.
   */
  reserve(actor?: Actor): Disposable {
    this.#requireRoom();
    const ended = actor && this.#countActor(actor);
    this.#reserved += 1;
    return {
      [Symbol.dispose]: () => {
        this.#reserved -= 1;
        ended?.();
      },
    };
  }

  /** Call what it gives when the stream has ended. */
  #countActor({ kind, id }: Actor): () => void {
    const name = `${kind} ${id ?? ""}`;
    const before = this.#openByActor.get(name) ?? 0;
    if (before >= this.#limits.maxStreamsPerActor) throw new RateLimitedError(retryStreamAfterSeconds);
    this.#openByActor.set(name, before + 1);
    return () => {
      const left = (this.#openByActor.get(name) ?? 1) - 1;
      if (left === 0) this.#openByActor.delete(name);
      else this.#openByActor.set(name, left);
    };
  }

  #requireRoom(): void {
    if (this.#open.size + this.#reserved >= this.#limits.maxStreams || this.#closing.aborted) {
      throw new ApiError(503, "too many streams and waiting requests are open; try again");
    }
  }

  /** Resolves when every stream has ended; `closing` must have been aborted. */
  async drained(): Promise<void> {
    await Promise.all(this.#open);
  }

  /** E5 */
  #read(source: StreamSource, cursor: number): Promise<StreamPage> {
    const { sharedAs } = source;
    if (sharedAs === undefined) return source.next(cursor);
    const reads = this.#reads.get(sharedAs) ?? new Map<number, Promise<StreamPage>>();
    this.#reads.set(sharedAs, reads);
    const underWay = reads.get(cursor);
    if (underWay !== undefined) return underWay;
    const read = source.next(cursor).finally(() => {
      reads.delete(cursor);
      if (reads.size === 0 && this.#reads.get(sharedAs) === reads) this.#reads.delete(sharedAs);
    });
    reads.set(cursor, read);
    return read;
  }

  async #run({ request, reply, stillAllowed }: StreamCall, source: StreamSource): Promise<void> {
    const response = reply.raw;
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const signal = AbortSignal.any([gone.signal, this.#closing]);
    try {
      response.writeHead(200, {
        ...(reply.getHeaders() as OutgoingHttpHeaders),
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
      });
      response.flushHeaders();
      await this.#follow(request, response, source, stillAllowed, signal);
    } catch (error) {
      // E3: what a stalled client was sent is held in memory until its connection is gone.
      if (error instanceof StalledError) response.destroy();
      else if (!signal.aborted) request.log.error({ err: error }, "stream failed");
    } finally {
      // The head that was sent says that the connection stays; the client's next request must not come to it.
      if (this.#closing.aborted) response.once("finish", () => request.raw.socket.destroySoon());
      response.end();
    }
  }

  async #follow(
    request: FastifyRequest,
    response: ServerResponse,
    source: StreamSource,
    stillAllowed: () => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<void> {
    const forget = () => this.#reads.delete(source.sharedAs ?? "");
    using wakeUp = new WakeUp(this.#bus, source.topic, signal, forget);
    const endMs = Date.now() + maxStreamMs;
    let cursor = source.cursor;
    let lastWriteMs = Date.now();
    let lastAskedMs = Date.now();
    while (!signal.aborted && Date.now() < endMs) {
      if (Date.now() - lastAskedMs >= askAgainMs) {
        if (!(await stillAllowed())) return; // E4
        lastAskedMs = Date.now();
      }
      const page = await nextPage(source, () => this.#read(source, cursor), cursor, request);
      if (page.frames.length > 0) {
        cursor = page.frames.at(-1)?.id ?? cursor;
        await write(
          response,
          page.frames.map((frame) => formatFrame(source.event, frame)).join(""),
          signal,
          this.#limits.maxStalledMs ?? defaultMaxStalledMs,
        ); // E2
        lastWriteMs = Date.now();
        await source.written?.(cursor);
      }
      if (page.ended) return;
      if (page.full) continue;
      await wakeUp.wait(Math.min(untilPollMs(source.topic), source.keepAliveMs));
      if (Date.now() - lastWriteMs < source.keepAliveMs) continue;
      await write(response, ": keep-alive\n\n", signal, this.#limits.maxStalledMs ?? defaultMaxStalledMs);
      lastWriteMs = Date.now();
    }
  }
}

/** E5: to the topic's next turn, once a second; topics have theirs at different times. */
function untilPollMs(topic: string): number {
  let offset = 0;
  for (let at = 0; at < topic.length; at += 1) offset = (offset * 31 + topic.charCodeAt(at)) % slowPollMs;
  const left = slowPollMs - ((Date.now() + offset) % slowPollMs);
  // One that is due in a moment is left out: it was just read.
  return left < slowPollMs / 10 ? left + slowPollMs : left;
}

/** The source's next page, or the frame that says that it failed. */
async function nextPage(
  source: StreamSource,
  read: () => Promise<StreamPage>,
  cursor: number,
  request: FastifyRequest,
): Promise<StreamPage> {
  if (source.failure === undefined) return await read();
  try {
    return await read();
  } catch (error) {
    request.log.error({ err: error }, "stream failed");
    return { frames: [source.failure(cursor)], full: false, ended: true };
  }
}

/** JSON.stringify puts no line break into its text, so the data is one line. */
function formatFrame(event: string, frame: Frame): string {
  return `id: ${frame.id}\nevent: ${frame.event ?? event}\ndata: ${JSON.stringify(frame.data)}\n\n`;
}

class StalledError extends Error {
  override readonly name = "StalledError";
}

async function write(
  response: ServerResponse,
  text: string,
  signal: AbortSignal,
  stalledMs: number,
): Promise<void> {
  if (signal.aborted || response.write(text)) return;
  const stalled = AbortSignal.timeout(stalledMs);
  try {
    await once(response, "drain", { signal: AbortSignal.any([signal, stalled]) });
  } catch (error) {
    throw stalled.aborted && !signal.aborted ? new StalledError("the client takes nothing") : error;
  }
}

/** Contract 6: `follow=1` or the Accept header asks for a stream. */
export function wantsStream(request: FastifyRequest, follow: boolean | undefined): boolean {
  return follow === true || (request.headers.accept ?? "").includes("text/event-stream");
}

/** The same where the query wins (contract 7.6). */
export function queryCursor(request: FastifyRequest, cursor: number | undefined): number {
  return cursor ?? streamCursor(request, undefined);
}

/** Where the stream starts: `Last-Event-ID` wins over the query (contract 6.2). */
export function streamCursor(request: FastifyRequest, cursor: number | undefined): number {
  const header = request.headers["last-event-id"];
  if (header === undefined || header === "") return cursor ?? 0;
  if (typeof header !== "string" || !/^\d{1,15}$/.test(header)) {
    throw new ApiError(400, "Last-Event-ID: must be the id of an event of this stream");
  }
  return Number(header);
}
