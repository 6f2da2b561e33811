/** Streams of sessions (contract 4): for keys and members, and for browsers with a public access token. */
import type { StreamAppend, StreamAppendRequest } from "@helmr/api";
import {
  type ActingScope,
  type AppendedRecord,
  appendInput,
  appendOutput,
  appendPublicInput,
  getSession,
  listSessionStreams,
  type NewRecord,
  readPublicOutput,
  readSessionStream,
  type Scope,
  type SessionKey,
  type StreamDirection,
} from "@helmr/store";
import type { PublicAccess } from "../auth/public-access.ts";
import type { Context } from "../context.ts";
import { tellResolved, tellStream, tellWork } from "../hints.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentAppend, presentRecord, presentStream } from "../present/stream.ts";
import { found } from "./found.ts";

const defaultLimit = 100;

type StreamHandlers = Pick<
  Handlers,
  | "listSessionStreams"
  | "listSessionStreamsByExternalId"
  | "sendSessionInput"
  | "sendSessionInputByExternalId"
  | "listSessionInput"
  | "listSessionInputByExternalId"
  | "appendSessionOutput"
  | "appendSessionOutputByExternalId"
  | "listSessionOutput"
  | "listSessionOutputByExternalId"
  | "readSessionOutput"
  | "readSessionOutputByExternalId"
>;

/** Where a reader stands: contract 4.2. */
interface Position {
  readonly after_sequence?: number | undefined;
  readonly cursor?: number | undefined;
  readonly correlation_id?: string | undefined;
}

export function streamHandlers(context: Context): StreamHandlers {
  const { db } = context;
  const streams = async (scope: Scope, key: SessionKey) => {
    const session = found(await getSession(db, scope, key), "session");
    const rows = await listSessionStreams(db, scope, session);
    return { status: 200, body: { streams: rows.map(presentStream) } } as const;
  };
  const send = async (scope: ActingScope, key: SessionKey, stream: string, body: StreamAppendRequest) =>
    tell(context, found(await appendInput(db, scope, key, stream, newRecord(body)), "session"));
  const append = async (scope: ActingScope, key: SessionKey, stream: string, body: StreamAppendRequest) =>
    tell(context, found(await appendOutput(db, scope, key, stream, newRecord(body)), "session"));
  const records = async (
    scope: Scope,
    key: SessionKey,
    stream: { readonly name: string; readonly direction: StreamDirection },
    query: Position & { readonly limit?: number | undefined },
  ) => {
    const options = { ...positionOf(query), limit: query.limit ?? defaultLimit };
    return found(await readSessionStream(db, scope, key, stream, options), "session").map(presentRecord);
  };
  const list = async (...args: Parameters<typeof records>) =>
    ({ status: 200, body: { records: await records(...args) } }) as const;
  const read = async (scope: Scope, key: SessionKey, name: string, query: Position) => {
    const [record = null] = await records(scope, key, output(name), { ...query, limit: 1 });
    return { status: 200, body: { record } } as const;
  };
  return {
    listSessionStreams: ({ scope, params }) => streams(scope, byId(params)),
    listSessionStreamsByExternalId: ({ scope, query }) => streams(scope, byExternalId(query)),
    sendSessionInput: ({ scope, params, body }) => send(scope, byId(params), params.stream, body),
    sendSessionInputByExternalId: ({ scope, params, query, body }) =>
      send(scope, byExternalId(query), params.stream, body),
    listSessionInput: ({ scope, params, query }) => list(scope, byId(params), input(params.stream), query),
    listSessionInputByExternalId: ({ scope, params, query }) =>
      list(scope, byExternalId(query), input(params.stream), query),
    appendSessionOutput: ({ scope, params, body }) => append(scope, byId(params), params.stream, body),
    appendSessionOutputByExternalId: ({ scope, params, query, body }) =>
      append(scope, byExternalId(query), params.stream, body),
    listSessionOutput: ({ scope, params, query }) => list(scope, byId(params), output(params.stream), query),
    listSessionOutputByExternalId: ({ scope, params, query }) =>
      list(scope, byExternalId(query), output(params.stream), query),
    readSessionOutput: ({ scope, params, query }) => read(scope, byId(params), params.stream, query),
    readSessionOutputByExternalId: ({ scope, params, query }) =>
      read(scope, byExternalId(query), params.stream, query),
  };
}

type PublicStreamHandlers = Pick<
  Handlers,
  "sendPublicInput" | "sendPublicInputByExternalId" | "readPublicOutput" | "readPublicOutputByExternalId"
>;

/** Contract 4.3. */
export function publicStreamHandlers(context: Context): PublicStreamHandlers {
  const { db } = context;
  const send = async (access: PublicAccess, key: SessionKey, stream: string, body: StreamAppendRequest) =>
    tell(context, await appendPublicInput(db, access, key, stream, newRecord(body)));
  const read = async (access: PublicAccess, key: SessionKey, stream: string, query: Position) => {
    const record = await readPublicOutput(db, access, key, { stream, ...positionOf(query) });
    return { status: 200, body: { record: record === undefined ? null : presentRecord(record) } } as const;
  };
  return {
    sendPublicInput: ({ publicAccess, params, body }) =>
      send(publicAccess, byId(params), params.stream, body),
    sendPublicInputByExternalId: ({ publicAccess, params, query, body }) =>
      send(publicAccess, byExternalId(query), params.stream, body),
    readPublicOutput: ({ publicAccess, params, query }) =>
      read(publicAccess, byId(params), params.stream, query),
    readPublicOutputByExternalId: ({ publicAccess, params, query }) =>
      read(publicAccess, byExternalId(query), params.stream, query),
  };
}

/** After the commit: who waits for the record, who follows the stream, who starts the continuation run. */
function tell(
  { bus }: Context,
  appended: AppendedRecord,
): { readonly status: 201; readonly body: StreamAppend } {
  tellStream(bus, appended.record.stream_id);
  tellResolved(bus, appended.resolved);
  if (appended.workerGroupId !== undefined) tellWork(bus, appended.workerGroupId);
  return { status: 201, body: presentAppend(appended) };
}

function newRecord(body: StreamAppendRequest): NewRecord {
  return {
    data: JSON.stringify(body.data ?? null),
    contentType: body.content_type,
    correlationId: body.correlation_id,
    idempotencyKey: body.idempotency_key,
  };
}

function positionOf(query: Position): { afterSequence: number; correlationId: string | undefined } {
  return {
    afterSequence: query.after_sequence ?? query.cursor ?? 0,
    correlationId: query.correlation_id,
  };
}

const input = (name: string) => ({ name, direction: "input" }) as const;
const output = (name: string) => ({ name, direction: "output" }) as const;

function byId(params: { readonly sessionID: string }): SessionKey {
  return { id: params.sessionID };
}

function byExternalId(query: { readonly external_id: string }): SessionKey {
  return { externalId: query.external_id };
}
