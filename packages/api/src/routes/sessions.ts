/** Sessions (contract 3). */
import type { Permission } from "../permissions.ts";
import * as wire from "../wire/index.ts";
import { environment, get, patch, post } from "./route.ts";

/** Contract 3: only an API key may use the unprefixed routes, else 403. */
const forKeys = <const P extends Permission>(permission: P) => ({
  access: { ...environment(permission).access, unprefixedSession: 403 } as const,
});
const createRuns = forKeys("runs.create");
const readRuns = forKeys("runs.read");
const manageRuns = forKeys("runs.manage");

/** `{S}` of contract 3: the same route by id and by external id. */
const byId = { params: wire.sessionParams } as const;
const byExternalId = { query: wire.sessionExternalQuery } as const;

const patchSession = {
  ...patch,
  ...manageRuns,
  summary: "Change a session's metadata, tags or expiry",
  body: wire.sessionPatchRequest,
  responses: { 200: wire.session },
  errors: [409],
} as const;
const closeSession = {
  ...post,
  ...manageRuns,
  summary: "Close a session that has no active run",
  body: wire.sessionEndRequest,
  responses: { 200: wire.session },
  errors: [409],
} as const;
const cancelSession = {
  ...post,
  ...manageRuns,
  summary: "Cancel a session and its current run",
  body: wire.sessionEndRequest,
  responses: { 200: wire.session },
  errors: [409],
} as const;
const getSession = {
  ...get,
  ...readRuns,
  summary: "Read a session",
  responses: { 200: wire.session },
} as const;
const listSessionRuns = {
  ...get,
  ...readRuns,
  summary: "List a session's runs in turn order",
  responses: { 200: wire.sessionRunList },
} as const;

export const sessionRoutes = {
  startSession: {
    ...post,
    ...createRuns,
    path: "/sessions",
    summary: "Start a session, or find the one already started",
    body: wire.sessionStartRequest,
    responses: { 201: wire.sessionStart, 200: wire.sessionStart },
    errors: [202, 409],
  },
  startSessionAndWait: {
    ...post,
    ...createRuns,
    path: "/sessions/start-and-wait",
    summary: "Start a session and wait for its run to end",
    body: wire.sessionStartAndWaitRequest,
    responses: { 200: wire.sessionStart },
    errors: [202, 409],
  },
  listSessions: {
    ...get,
    ...readRuns,
    path: "/sessions",
    summary: "List sessions, last updated first",
    query: wire.sessionListQuery,
    responses: { 200: wire.sessionList },
  },
  getSession: { ...getSession, ...byId, path: "/sessions/:sessionID" },
  getSessionByExternalId: { ...getSession, ...byExternalId, path: "/sessions/by-external-id" },
  patchSession: { ...patchSession, ...byId, path: "/sessions/:sessionID" },
  patchSessionByExternalId: { ...patchSession, ...byExternalId, path: "/sessions/by-external-id" },
  closeSession: { ...closeSession, ...byId, path: "/sessions/:sessionID/close" },
  closeSessionByExternalId: { ...closeSession, ...byExternalId, path: "/sessions/by-external-id/close" },
  cancelSession: { ...cancelSession, ...byId, path: "/sessions/:sessionID/cancel" },
  cancelSessionByExternalId: { ...cancelSession, ...byExternalId, path: "/sessions/by-external-id/cancel" },
  listSessionRuns: { ...listSessionRuns, ...byId, path: "/sessions/:sessionID/runs" },
  listSessionRunsByExternalId: { ...listSessionRuns, ...byExternalId, path: "/sessions/by-external-id/runs" },
} as const;
