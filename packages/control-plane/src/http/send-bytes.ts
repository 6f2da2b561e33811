/**
 * Answers that are bytes: as fast as the client takes them, from a source that is read no faster.
 *
 * B1 What fails before the first byte is an ordinary answer; later the connection is cut, so that nobody takes a part for the
 *    whole.
 * B2 Who takes nothing for a minute, or loses access meanwhile, is cut off.
 */
import { once } from "node:events";
import type { OutgoingHttpHeaders } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import { answered } from "./handlers.ts";

const maxStalledMs = 60_000;
const askAgainMs = 1000;

export interface BytesCall {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  stillAllowed(): Promise<boolean>;
}

export interface Bytes {
  readonly status: 200 | 206 | 304;
  readonly headers: OutgoingHttpHeaders;
  /** Ended by its iterator's `return` when the client is gone. */
  readonly source: AsyncIterable<Uint8Array>;
}

/** Rejects with what the source rejected with before its first bytes. */
export async function sendBytes(call: BytesCall, bytes: Bytes): Promise<typeof answered> {
  const { request, reply, stillAllowed } = call;
  const response = reply.raw;
  const iterator = bytes.source[Symbol.asyncIterator]();
  const first = await iterator.next();
  reply.hijack();
  const cut = new AbortController();
  const end = () => cut.abort();
  response.once("close", end);
  const asking = setInterval(() => {
    stillAllowed().then(
      (allowed) => allowed || end(),
      () => undefined,
    );
  }, askAgainMs);
  try {
    response.writeHead(bytes.status, { ...(reply.getHeaders() as OutgoingHttpHeaders), ...bytes.headers });
    for (let part = first; part.done !== true; part = await iterator.next()) {
      cut.signal.throwIfAborted();
      if (response.write(part.value)) continue;
      const stalled = AbortSignal.timeout(maxStalledMs);
      await once(response, "drain", { signal: AbortSignal.any([cut.signal, stalled]) });
    }
    response.end();
  } catch (error) {
    if (!response.closed) request.log.warn({ err: error }, "an answer was cut");
    response.destroy();
  } finally {
    clearInterval(asking);
    response.off("close", end);
    await iterator.return?.();
  }
  return answered;
}
