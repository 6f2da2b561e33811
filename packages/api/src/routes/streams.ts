/** Streams of sessions (contract 3, 4): by id and by external id, and for browsers below /v1. */
import type { Permission } from "../permissions.ts";
import * as wire from "../wire/index.ts";
import { environment, get, post } from "./route.ts";

/** Contract 3: only an API key may use the unprefixed routes, else 403. */
const forKeys = <const P extends Permission>(permission: P) => ({
  access: { ...environment(permission).access, unprefixedSession: 403 } as const,
});
const readStreams = forKeys("session.streams.read");
const sendInput = forKeys("session.input.send");
const appendOutput = forKeys("session.output.append");

const byId = "/sessions/:sessionID";
const byExternalId = "/sessions/by-external-id";
const streamById = { params: wire.sessionStreamParams } as const;
const streamByExternalId = { params: wire.streamParams, query: wire.sessionExternalQuery } as const;
const listById = { params: wire.sessionStreamParams, query: wire.streamListQuery } as const;
const listByExternalId = { params: wire.streamParams, query: wire.streamListExternalQuery } as const;
const readById = { params: wire.sessionStreamParams, query: wire.streamReadQuery } as const;
const readByExternalId = { params: wire.streamParams, query: wire.streamReadExternalQuery } as const;

const listStreams = {
  ...get,
  ...readStreams,
  summary: "List a session's streams",
  responses: { 200: wire.sessionStreamList },
} as const;
const append = {
  ...post,
  body: wire.streamAppendRequest,
  responses: { 201: wire.streamAppend },
} as const;
const send = {
  ...append,
  ...sendInput,
  summary: "Send a record to an input stream",
  errors: [409, 410],
} as const;
const appendToOutput = {
  ...append,
  ...appendOutput,
  summary: "Append a record to an output stream",
  errors: [409],
} as const;
const listInput = {
  ...get,
  ...readStreams,
  summary: "List the records of an input stream",
  responses: { 200: wire.streamRecordList },
} as const;
const listOutput = {
  ...get,
  ...readStreams,
  summary: "List the records of an output stream",
  responses: { 200: wire.streamRecordList },
} as const;
const read = { ...get, responses: { 200: wire.streamRecordRead } } as const;
const readOutput = { ...read, ...readStreams, summary: "Read the next record of an output stream" } as const;

/** Contract 4.3. */
const publicSend = {
  ...append,
  summary: "Send a record to an input stream with a public access token",
  access: { kind: "public-access", scopeType: "session.input.send" },
  rateLimit: "public_stream",
  cors: true,
  errors: [409, 410],
} as const;
const publicRead = {
  ...read,
  summary: "Read the next record of an output stream with a public access token",
  access: { kind: "public-access", scopeType: "session.output.read" },
  rateLimit: "public_stream",
  cors: true,
  errors: [410],
} as const;

export const streamRoutes = {
  listSessionStreams: { ...listStreams, params: wire.sessionParams, path: `${byId}/streams` },
  listSessionStreamsByExternalId: {
    ...listStreams,
    query: wire.sessionExternalQuery,
    path: `${byExternalId}/streams`,
  },
  sendSessionInput: { ...send, ...streamById, path: `${byId}/inputs/:stream` },
  sendSessionInputByExternalId: { ...send, ...streamByExternalId, path: `${byExternalId}/inputs/:stream` },
  listSessionInput: { ...listInput, ...listById, path: `${byId}/inputs/:stream` },
  listSessionInputByExternalId: {
    ...listInput,
    ...listByExternalId,
    path: `${byExternalId}/inputs/:stream`,
  },
  appendSessionOutput: { ...appendToOutput, ...streamById, path: `${byId}/outputs/:stream` },
  appendSessionOutputByExternalId: {
    ...appendToOutput,
    ...streamByExternalId,
    path: `${byExternalId}/outputs/:stream`,
  },
  listSessionOutput: { ...listOutput, ...listById, path: `${byId}/outputs/:stream` },
  listSessionOutputByExternalId: {
    ...listOutput,
    ...listByExternalId,
    path: `${byExternalId}/outputs/:stream`,
  },
  readSessionOutput: { ...readOutput, ...readById, path: `${byId}/outputs/:stream/read` },
  readSessionOutputByExternalId: {
    ...readOutput,
    ...readByExternalId,
    path: `${byExternalId}/outputs/:stream/read`,
  },
  sendPublicInput: { ...publicSend, ...streamById, path: `/v1${byId}/inputs/:stream` },
  sendPublicInputByExternalId: {
    ...publicSend,
    ...streamByExternalId,
    path: `/v1${byExternalId}/inputs/:stream`,
  },
  readPublicOutput: { ...publicRead, ...readById, path: `/v1${byId}/outputs/:stream/read` },
  readPublicOutputByExternalId: {
    ...publicRead,
    ...readByExternalId,
    path: `/v1${byExternalId}/outputs/:stream/read`,
  },
} as const;
