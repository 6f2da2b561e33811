/** Answers other than success on the worker's wire. Workers act on `lease_lost`; the rest is for their log. */
import { ApiError } from "@helmr/api";
import { isRetryable } from "@helmr/store";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";

export class WorkerApiError extends Error {
  override readonly name = "WorkerApiError";
  readonly status: number;
  readonly code: string | undefined;

  constructor(status: number, message: string, code?: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The write's lease and fencing are not this worker's (any more): it must drop the work. */
export function leaseLost(): WorkerApiError {
  return new WorkerApiError(409, "the lease is lost: end the work and report nothing more", "lease_lost");
}

export function sendWorkerError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error instanceof WorkerApiError) {
    return reply
      .code(error.status)
      .send({ error: error.message, ...(error.code === undefined ? {} : { code: error.code }) });
  }
  if (error instanceof ApiError) {
    return reply
      .code(error.status)
      .send({ error: error.message, ...(error.code === undefined ? {} : { code: error.code }) });
  }
  if (error instanceof z.ZodError)
    return reply.code(400).send({ error: z.prettifyError(error).slice(0, 2000) });
  const status = error instanceof Error && "statusCode" in error ? Number(error.statusCode) : 500;
  if (status >= 400 && status < 500) return reply.code(status).send({ error: (error as Error).message });
  if (isRetryable(error)) return reply.code(503).send({ error: "the database is busy: try again" });
  request.log.error({ err: error }, "a worker's request failed");
  return reply.code(500).send({ error: "internal server error" });
}
