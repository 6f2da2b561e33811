/** Records of a session's streams over HTTP (contract 2.3, 4): requests and answers that inputs and outputs share. */
import { expectPattern } from "../authoring/checks.ts";
import { InvalidResponseError } from "../errors.ts";
import type { StreamRecord } from "../runtime/stream-record.ts";
import { type Address, sessionRoute } from "./session-address.ts";
import { type ApiRequest, pathSegment, type ScopeOptions, type Transport } from "./transport.ts";
import { textOrNull, wireList, wireObject, wireText } from "./wire.ts";

/** A record that was appended, or the one that an earlier append with the same key made. */
export interface SentRecord<T = unknown> extends StreamRecord<T> {
  readonly idempotencyStatus: "created" | "duplicate";
  /** Of input that nobody waited for: whether a run follows that takes it. */
  readonly continuationStatus?: string;
}
export interface RecordReadOptions extends ScopeOptions {
  /** The sequence after which to read. Default 0: from the beginning. */
  readonly cursor?: number | undefined;
  readonly correlationId?: string | undefined;
}
export interface RecordListOptions extends RecordReadOptions {
  /** 1 to 500, default 100. */
  readonly limit?: number | undefined;
}
export interface RecordAppendOptions extends ScopeOptions {
  readonly correlationId?: string | undefined;
  /** Sent as it is: the same key with the same data is one record. */
  readonly idempotencyKey?: string | undefined;
}

/** Contract 1.7. */
const streamNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,255}$/;

/** The stream's name. Throws a TypeError on a bad name, or a definition of the other direction. */
export function streamNameOf(
  stream: string | { readonly id: string; readonly direction: string },
  direction: "input" | "output",
): string {
  const where = `session.${direction}(stream)`;
  if (typeof stream === "string") return expectPattern(stream, streamNamePattern, where);
  if (stream?.direction !== direction)
    throw new TypeError(`${where}: must be a name, or what streams.${direction}(...) returned`);
  return expectPattern(stream.id, streamNamePattern, where);
}

export interface StreamTarget {
  readonly transport: () => Transport;
  readonly address: Address;
  /** Such as `inputs/answers`. */
  readonly stream: string;
}

export function streamTarget(
  transport: () => Transport,
  address: Address,
  direction: "input" | "output",
  name: string,
): StreamTarget {
  return { transport, address, stream: `${direction}s/${pathSegment(name, "stream")}` };
}

/** With a public access token the request goes to the browsers' route, which takes no project and environment. */
function requestOf(
  { address, stream }: StreamTarget,
  method: "GET" | "POST",
  suffix: string,
  scope: ScopeOptions,
  publicAccessToken?: string,
): ApiRequest {
  const { path, query } = sessionRoute(address);
  if (publicAccessToken === undefined) return { method, path: `${path}/${stream}${suffix}`, query, scope };
  const { signal } = scope;
  return { method, path: `/v1${path}/${stream}${suffix}`, query, scope: { signal }, publicAccessToken };
}

export async function appendRecord<T>(
  target: StreamTarget,
  body: Readonly<Record<string, unknown>>,
  scope: ScopeOptions,
  publicAccessToken?: string,
): Promise<SentRecord<T>> {
  const request = requestOf(target, "POST", "", scope, publicAccessToken);
  const answer = wireObject(await target.transport().json({ ...request, body }), "append");
  const continuationStatus = textOrNull(answer, "continuation_status");
  const idempotencyStatus: SentRecord["idempotencyStatus"] =
    answer.idempotency_status === "duplicate" ? "duplicate" : "created";
  return Object.freeze({
    ...parseRecord<T>(answer.record),
    idempotencyStatus,
    ...(continuationStatus === null ? {} : { continuationStatus }),
  });
}

export async function listRecords<T>(
  target: StreamTarget,
  options: RecordListOptions,
): Promise<StreamRecord<T>[]> {
  const request = requestOf(target, "GET", "", options);
  const query = [...(request.query ?? []), ...positionOf(options)];
  return wireList(await target.transport().json({ ...request, query }), "records").map((record) =>
    parseRecord<T>(record),
  );
}

export async function readRecord<T>(
  target: StreamTarget,
  options: RecordReadOptions,
  publicAccessToken?: string,
): Promise<StreamRecord<T> | null> {
  const request = requestOf(target, "GET", "/read", options, publicAccessToken);
  const { cursor, correlationId } = options;
  const query = [...(request.query ?? []), ...positionOf({ cursor, correlationId })];
  const { record } = wireObject(await target.transport().json({ ...request, query }), "read");
  return record === null || record === undefined ? null : parseRecord<T>(record);
}

function positionOf({ cursor, limit, correlationId }: RecordListOptions) {
  return [
    ["after_sequence", cursor],
    ["limit", limit],
    ["correlation_id", correlationId],
  ] as const;
}

function parseRecord<T>(value: unknown): StreamRecord<T> {
  const record = wireObject(value, "record");
  const { sequence } = record;
  if (typeof sequence !== "number" || !Number.isSafeInteger(sequence))
    throw new InvalidResponseError('record: the server sent no whole number "sequence"');
  const correlationId = textOrNull(record, "correlation_id");
  return Object.freeze({
    id: wireText(record, "id", "record"),
    sequence,
    data: record.data as T,
    ...(correlationId === null ? {} : { correlationId }),
    contentType: wireText(record, "content_type", "record"),
    createdAt: wireText(record, "created_at", "record"),
  });
}
