/**
 * What goes wrong before a request reaches a route: bytes that are no HTTP, headers that are too large, a URL that is no
 * URL. Each is answered like every other error: with the envelope of contract 1.3.
 */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { ApiError, apiVersion, type ErrorEnvelope } from "@helmr/api";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Logger } from "pino";

const refusals: Readonly<Record<string, readonly [status: number, message: string]>> = {
  HPE_HEADER_OVERFLOW: [431, "the request's URL and headers are too large"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "the request took too long to arrive"],
};

/** Fastify's `clientErrorHandler`: the parser has given up on the connection, which is closed behind the answer. */
export function refuseConnection(logger: Logger) {
  return (error: Error & { readonly code?: string }, socket: Socket): void => {
    if (error.code === "ECONNRESET" || !socket.writable) {
      socket.destroy();
      return;
    }
    const [status, message] = refusals[error.code ?? ""] ?? [400, "the request is not valid HTTP/1.1"];
    logger.debug({ code: error.code }, "refused a connection");
    const body = JSON.stringify({ error: message } satisfies ErrorEnvelope);
    socket.write(
      [
        `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
        "Content-Type: application/json",
        `Content-Length: ${Buffer.byteLength(body)}`,
        `Helmr-API-Version: ${apiVersion}`,
        "Connection: close",
        "",
        body,
      ].join("\r\n"),
    );
    socket.destroySoon();
  };
}

/** The framework's own messages repeat the URL, which may hold a token. */
const urlRefusals: Readonly<Record<string, string>> = {
  FST_ERR_BAD_URL: "the URL is not valid: percent-encode it as UTF-8",
  FST_ERR_MAX_PARAM_LENGTH: "a part of the URL's path is too long",
};

/** Fastify's `frameworkErrors`: no route was looked for, and no hook ran. */
export function refuseUrl(error: FastifyError, _request: FastifyRequest, reply: FastifyReply): void {
  reply.hijack();
  const message = urlRefusals[error.code] ?? "the request is not valid";
  const body = JSON.stringify({ error: message } satisfies ErrorEnvelope);
  reply.raw
    .writeHead(400, {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      "helmr-api-version": apiVersion,
    })
    .end(body);
}

/** HTTP/1.1 wants a Host; Node's own refusal has no body. */
export async function requireHost({ raw }: FastifyRequest): Promise<void> {
  if (raw.httpVersion === "1.1" && raw.headers.host === undefined) {
    throw new ApiError(400, "the Host header is missing");
  }
}

/** An expectation that we do not know is ignored, as RFC 9110 allows: Node's own refusal has no body. */
export function ignoreExpectations({ server }: FastifyInstance): void {
  server.on("checkExpectation", (request, response) => server.emit("request", request, response));
}
