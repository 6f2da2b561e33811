/** Reading, changing and ending sessions (contract 3). Starting: start-session.ts. */
import type { ActingScope, Scope, SessionKey } from "@helmr/store";
import {
  cancelSession,
  closeSession,
  getSession,
  listSessionRuns,
  listSessions,
  patchSession,
} from "@helmr/store";
import type { Context } from "../context.ts";
import { tellCancelled } from "../hints.ts";
import type { Call, Handlers } from "../http/handlers.ts";
import { presentSession, presentSessionRun } from "../present/session.ts";
import { found } from "./found.ts";

const defaultLimit = 100;

type PatchBody = Call<import("@helmr/api").Routes["patchSession"]>["body"];

type SessionHandlers = Pick<
  Handlers,
  | "listSessions"
  | "getSession"
  | "getSessionByExternalId"
  | "patchSession"
  | "patchSessionByExternalId"
  | "closeSession"
  | "closeSessionByExternalId"
  | "cancelSession"
  | "cancelSessionByExternalId"
  | "listSessionRuns"
  | "listSessionRunsByExternalId"
>;

export function sessionHandlers(context: Context): SessionHandlers {
  const { db } = context;
  const read = async (scope: Scope, key: SessionKey) =>
    ok(presentSession(found(await getSession(db, scope, key), "session")));
  const patch = async (scope: ActingScope, key: SessionKey, body: PatchBody) => {
    const { metadata, tags, expires_at } = body;
    const expiresAt = expires_at === undefined ? undefined : new Date(expires_at);
    const session = await patchSession(db, scope, key, { metadata, tags, expiresAt });
    return ok(presentSession(found(session, "session")));
  };
  const close = async (scope: ActingScope, key: SessionKey, reason: string | undefined) =>
    ok(presentSession(found(await closeSession(db, scope, key, reason || "closed"), "session")));
  const cancel = async (scope: ActingScope, key: SessionKey, reason: string | undefined) => {
    const ended = found(await cancelSession(db, scope, key, reason || "cancelled"), "session");
    tellCancelled(context.bus, ended.cancelledRuns);
    return ok(presentSession(ended.session));
  };
  const runs = async (scope: Scope, key: SessionKey) =>
    ok({ runs: found(await listSessionRuns(db, scope, key), "session").map(presentSessionRun) });

  return {
    listSessions: async ({ scope, query }) => {
      const sessions = await listSessions(db, scope, {
        status: query.status === "all" ? undefined : query.status,
        taskId: query.task_id,
        externalId: query.external_id,
        limit: query.limit ?? defaultLimit,
      });
      return ok({ sessions: sessions.map(presentSession) });
    },
    getSession: ({ scope, params }) => read(scope, byId(params)),
    getSessionByExternalId: ({ scope, query }) => read(scope, byExternalId(query)),
    patchSession: ({ scope, params, body }) => patch(scope, byId(params), body),
    patchSessionByExternalId: ({ scope, query, body }) => patch(scope, byExternalId(query), body),
    closeSession: ({ scope, params, body }) => close(scope, byId(params), body.reason),
    closeSessionByExternalId: ({ scope, query, body }) => close(scope, byExternalId(query), body.reason),
    cancelSession: ({ scope, params, body }) => cancel(scope, byId(params), body.reason),
    cancelSessionByExternalId: ({ scope, query, body }) => cancel(scope, byExternalId(query), body.reason),
    listSessionRuns: ({ scope, params }) => runs(scope, byId(params)),
    listSessionRunsByExternalId: ({ scope, query }) => runs(scope, byExternalId(query)),
  };
}

function ok<T>(body: T): { readonly status: 200; readonly body: T } {
  return { status: 200, body };
}

function byId(params: { readonly sessionID: string }): SessionKey {
  return { id: params.sessionID };
}

function byExternalId(query: { readonly external_id: string }): SessionKey {
  return { externalId: query.external_id };
}
