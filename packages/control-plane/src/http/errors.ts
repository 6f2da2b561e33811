/** Every error becomes an answer here: status and envelope of contract 1.3; a 5xx body tells nothing internal. */
import { STATUS_CODES } from "node:http";
import { ApiError, type ErrorEnvelope } from "@helmr/api";
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { RateLimitedError } from "../limits/rate-limiter.ts";

/** The most that is said about what a request got wrong. */
const maxMessageLength = 2000;

/** SQLSTATEs of values that only the client can have sent. */
const refusedByDatabase: ReadonlyMap<string, string> = new Map([
  ["54001", "request body is nested too deeply"],
  ["22021", "the request holds a character that text cannot hold (U+0000)"],
  ["22P05", "the request holds a character that text cannot hold (U+0000 or half a surrogate pair)"],
]);

export function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { status, code, message } = describeError(error);
  if (status >= 500) request.log.error({ err: error }, "request failed");
  if (status === 202) void reply.header("retry-after", "1");
  if (error instanceof RateLimitedError) void reply.header("retry-after", String(error.retryAfterSeconds));
  const envelope: ErrorEnvelope = code === undefined ? { error: message } : { error: message, code };
  return reply.code(status).type("application/json").send(envelope);
}

interface Described {
  readonly status: number;
  readonly message: string;
  readonly code?: ApiError["code"];
}

function describeError(error: unknown): Described {
  if (error instanceof ApiError)
    return { status: error.status, message: error.message.slice(0, maxMessageLength), code: error.code };
  const status = clientStatus(error);
  if (status !== undefined) return { status, message: clientMessage(status, error as Error) };
  // foreign_key_violation: what the change refers to was deleted while it was made.
  if (sqlStateOf(error) === "23503") return { status: 404, message: "not found: it was deleted meanwhile" };
  const refused = refusedByDatabase.get(String(sqlStateOf(error)));
  if (refused !== undefined) return { status: 400, message: refused };
  return { status: 500, message: "internal server error" };
}

/** Fastify's own errors about a request, reduced to the statuses of the contract. */
function clientStatus(error: unknown): number | undefined {
  const status = (error as FastifyError | undefined)?.statusCode;
  if (status === undefined || status < 400 || status >= 500) return undefined;
  return status === 413 || status === 404 ? status : 400;
}

function clientMessage(status: number, error: Error): string {
  if (status === 413) return "request is too large";
  return error.message === ""
    ? (STATUS_CODES[status] ?? "bad request")
    : error.message.slice(0, maxMessageLength);
}

function sqlStateOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}
