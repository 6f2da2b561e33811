/** One connection to a stream of the server (SSE). */
import { createParser, type EventSourceMessage } from "eventsource-parser";
import type { ApiClient, RequestOptions } from "./api-client.ts";
import { responseError, unreachable } from "./api-error.ts";

/** The server sends a comment at least every 25 s; three missed ones mean that the connection is dead. */
const silenceLimitMs = 80_000;
/** Contract 12: a line is at most 1 MiB; a frame holds one line of data and two short ones. */
const frameLimitChars = 2 * 1024 * 1024;

export interface Connection {
  readonly api: ApiClient;
  readonly path: string;
  readonly query: NonNullable<RequestOptions["query"]>;
  readonly headers?: Record<string, string>;
  readonly signal: AbortSignal;
  /** Told when the server has answered. */
  readonly onOpen?: () => void;
}

/** Its frames; ends where the server ends it, throws a transient error where it breaks. */
export async function* frames(connection: Connection): AsyncGenerator<EventSourceMessage> {
  const { api, path, query } = connection;
  const silence = new AbortController();
  const timer = setTimeout(
    () => silence.abort(new DOMException("the stream fell silent", "TimeoutError")),
    silenceLimitMs,
  );
  const signal = AbortSignal.any([connection.signal, silence.signal]);
  try {
    const headers = { accept: "text/event-stream", ...connection.headers };
    const response = await api.raw("GET", path, { query, headers }, signal);
    if (!response.ok) throw await responseError(response);
    connection.onOpen?.();
    const read: EventSourceMessage[] = [];
    const parser = createParser({ onEvent: (event) => read.push(event), maxBufferSize: frameLimitChars });
    const decoder = new TextDecoder();
    const body = response.body?.getReader();
    for (;;) {
      const chunk = await body?.read().catch((error: unknown) => {
        throw unreachable(api.url, error);
      });
      if (chunk === undefined || chunk.done) return;
      timer.refresh();
      parser.feed(decoder.decode(chunk.value, { stream: true }));
      yield* read.splice(0);
    }
  } finally {
    clearTimeout(timer);
    // Frees the socket when the reader stops early.
    silence.abort();
  }
}
