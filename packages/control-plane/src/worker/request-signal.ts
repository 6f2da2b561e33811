/** Aborted when the caller of a request hangs up, or the server closes. */
import type { FastifyReply, FastifyRequest } from "fastify";

export function requestSignal(
  request: FastifyRequest,
  reply: FastifyReply,
  closing: AbortSignal,
): AbortSignal {
  const hungUp = new AbortController();
  // The response closes with its connection, or when it is complete, which nobody waits for any more.
  reply.raw.once("close", () => hungUp.abort());
  if (request.raw.destroyed && !request.raw.complete) hungUp.abort();
  return AbortSignal.any([closing, hungUp.signal]);
}
