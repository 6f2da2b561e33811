/** POST leases/:id/streams/append, /streams/read and /tokens: what a run says and asks for. */
import {
  appendOutputRequest,
  type appendOutputResponse,
  codedError,
  createRunTokenRequest,
  maxOutputRecordBytes,
  readStreamRequest,
  type readStreamResponse,
  type WorkerRecord,
} from "@helmr/api";
import {
  appendRunOutput,
  createRunToken,
  type ReadRunStream,
  type RecordRow,
  type RunStreamRecords,
  readRunStream,
} from "@helmr/store";
import type { FastifyInstance } from "fastify";
import type { z } from "zod";
import { tellStream } from "../hints.ts";
import { presentCreatedToken } from "../present/token.ts";
import type { WorkerContext } from "./context.ts";
import { leaseLost, WorkerApiError } from "./errors.ts";
import { leaseOf } from "./lease-routes.ts";
import { requestSignal } from "./request-signal.ts";
import { longPoll } from "./wait.ts";

/** A record as JSON in JSON, with what escaping adds. */
const appendBodyLimit = 4 * maxOutputRecordBytes;
/** Contract 5.1. */
const defaultTokenTimeoutMs = 7 * 86_400_000;

export function streamRoutes(app: FastifyInstance, context: WorkerContext): void {
  const { db, bus } = context;

  app.post(
    "/leases/:lease_id/streams/append",
    { bodyLimit: appendBodyLimit },
    async (request): Promise<z.infer<typeof appendOutputResponse>> => {
      const lease = await leaseOf(context, request);
      const body = appendOutputRequest.parse(request.body);
      requireJson(body.data_json);
      const result = await appendRunOutput(db, {
        ...lease,
        fencing: body.fencing,
        stream: body.stream,
        record: {
          data: body.data_json,
          contentType: body.content_type,
          correlationId: body.correlation_id,
          idempotencyKey: `lease:${lease.leaseId}:${body.number}`,
        },
      });
      if (result.status === "lost") throw leaseLost();
      if (result.status === "stream_not_found") throw codedError("stream_not_found");
      tellStream(bus, result.streamId);
      return { record: wireRecord(result.record) };
    },
  );

  app.post(
    "/leases/:lease_id/streams/read",
    async (request, reply): Promise<z.infer<typeof readStreamResponse>> => {
      const lease = await leaseOf(context, request);
      const body = readStreamRequest.parse(request.body);
      const signal = requestSignal(request, reply, context.closing);
      const read = await readWithin(context, { ...lease, ...storeRead(body) }, body.wait_ms, signal);
      return { records: read.records.map(wireRecord), after_sequence: read.afterSequence };
    },
  );

  app.post("/leases/:lease_id/tokens", async (request) => {
    const lease = await leaseOf(context, request);
    const body = createRunTokenRequest.parse(request.body);
    const created = await createRunToken(
      db,
      { ...lease, fencing: body.fencing },
      {
        timeoutMs: body.timeout_ms ?? defaultTokenTimeoutMs,
        tags: body.tags,
        metadata: body.metadata,
        idempotencyKey: `lease:${lease.leaseId}:${body.number}`,
      },
    );
    if (created === undefined) throw leaseLost();
    return { token: presentCreatedToken(created.token, context.tokenSecrets) };
  });
}

function storeRead(
  body: z.infer<typeof readStreamRequest>,
): Omit<ReadRunStream, "workerInstanceId" | "leaseId"> {
  return {
    fencing: body.fencing,
    stream: body.stream,
    direction: body.direction,
    afterSequence: body.after_sequence,
    correlationId: body.correlation_id,
    take: body.take,
    limit: body.limit,
  };
}

async function readWithin(
  { db, bus }: WorkerContext,
  input: ReadRunStream,
  waitMs: number,
  signal: AbortSignal,
): Promise<RunStreamRecords> {
  const once = async () => {
    const result = await readRunStream(db, input);
    if (result.status === "lost") throw leaseLost();
    if (result.status === "stream_not_found") throw codedError("stream_not_found");
    return result;
  };
  let last = await once();
  if (last.records.length > 0 || waitMs === 0) return last;
  const found = await longPoll({
    bus,
    topic: `stream:${last.streamId}`,
    waitMs,
    signal,
    attempt: async () => {
      last = await once();
      return last.records.length > 0 ? last : undefined;
    },
  });
  return found ?? last;
}

function wireRecord(record: RecordRow): WorkerRecord {
  return {
    id: record.id,
    sequence: record.sequence,
    data_json: record.data,
    content_type: record.content_type,
    created_at: record.created_at.toISOString(),
    ...(record.correlation_id === null ? {} : { correlation_id: record.correlation_id }),
  };
}

function requireJson(text: string): void {
  if (Buffer.byteLength(text) > maxOutputRecordBytes) {
    throw new WorkerApiError(413, `a record may take ${maxOutputRecordBytes} bytes`);
  }
  try {
    JSON.parse(text);
  } catch {
    throw new WorkerApiError(400, "data_json is not JSON");
  }
}
