/**
 * How a session ends, and what may change while it is open. All in one row lock on the session; the run's lock comes after.
 *
 *   from   to         verb              requires                            result envelope
 *   open   closed     closeSession      no active run, no continuation due  none
 *   open   expired    closeSession      no active run, expires_at over      SessionExpired
 *   open   cancelled  cancelSession     nothing; the active run goes too    TaskCancelled
 *   open   expired    expireSessions    expires_at over; same               SessionExpired
 *   open   open       patchSession      expires_at only later
 *
 * Anything else is refused with session_terminal. A run that ends leaves its session open.
 */
import { codedError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { isTerminal, requestCancel } from "../runs/index.ts";
import type { ActingScope, Scope } from "../scope.ts";
import {
  getSession,
  type SessionKey,
  type SessionRow,
  sessionColumns,
  sessionKeyMatches,
} from "./read-sessions.ts";

/** What a caller tells others after the commit: whose worker must hear of a cancel. */
export interface EndedSession {
  readonly session: SessionRow;
  readonly cancelledRuns: readonly CancelledRun[];
}

/** A run that was cancelled, or whose worker must do it: `run:<id>` and `worker:<id>` are told after the commit. */
export interface CancelledRun {
  readonly runId: string;
  readonly workerInstanceId: string | null;
}

export interface SessionPatch {
  readonly metadata?: Record<string, unknown> | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly expiresAt?: Date | undefined;
}

/** Undefined when there is no such session; throws session_terminal, session_expires_at_not_extendable. */
export async function patchSession(
  db: Queryable,
  scope: ActingScope,
  key: SessionKey,
  patch: SessionPatch,
): Promise<SessionRow | undefined> {
  return await transaction(db, async (tx) => {
    const session = await lockSession(tx, scope, key);
    if (session === undefined) return undefined;
    if (session.status !== "open") throw codedError("session_terminal");
    if (patch.expiresAt !== undefined) refuseEarlierExpiry(session, patch.expiresAt);
    await sql`update sessions set
        metadata = coalesce(${patch.metadata === undefined ? null : JSON.stringify(patch.metadata)}::jsonb, metadata),
        tags = coalesce(${patch.tags ?? null}::text[], tags),
        expires_at = coalesce(${patch.expiresAt ?? null}::timestamptz, expires_at),
        updated_at = now()
      where id = ${session.id}`.execute(tx);
    const changed = Object.keys(patch).filter((field) => patch[field as keyof SessionPatch] !== undefined);
    await recordScopeAudit(tx, scope, {
      action: "session.update",
      resourceId: session.id,
      attributes: { changed },
    });
    return await getSession(tx, scope, { id: session.id });
  });
}

function refuseEarlierExpiry(session: SessionRow, expiresAt: Date): void {
  if (session.expires_at === null || session.due || expiresAt <= session.expires_at) {
    throw codedError("session_expires_at_not_extendable");
  }
}

/** Undefined when there is no such session; throws session_terminal, close_run_active. */
export async function closeSession(
  db: Queryable,
  scope: ActingScope,
  key: SessionKey,
  reason: string,
): Promise<SessionRow | undefined> {
  return await transaction(db, async (tx) => {
    const session = await lockSession(tx, scope, key);
    if (session === undefined) return undefined;
    if (session.status !== "open") throw codedError("session_terminal");
    if (hasActiveRun(session)) throw codedError("close_run_active");
    if (session.continues && !session.due) throw codedError("close_run_active");
    if (session.due) await endAs(tx, session.id, expired);
    else await endAs(tx, session.id, { status: "closed", terminalReason: { reason, origin: "api" } });
    await recordScopeAudit(tx, scope, { action: "session.close", resourceId: session.id });
    return await getSession(tx, scope, { id: session.id });
  });
}

/** Cancelling what is cancelled changes nothing. Undefined when there is no such session; throws session_terminal. */
export async function cancelSession(
  db: Queryable,
  scope: ActingScope,
  key: SessionKey,
  reason: string,
): Promise<EndedSession | undefined> {
  return await transaction(db, async (tx) => {
    const session = await lockSession(tx, scope, key);
    if (session === undefined) return undefined;
    if (session.status === "cancelled") return { session, cancelledRuns: [] };
    if (session.status !== "open") throw codedError("session_terminal");
    await endAs(tx, session.id, {
      status: "cancelled",
      terminalReason: { reason, origin: "api" },
      error: { name: "TaskCancelled", message: reason, details: { origin: "api" } },
    });
    const cancelledRuns = await cancelActiveRun(tx, scope, session, reason);
    await recordScopeAudit(tx, scope, { action: "session.cancel", resourceId: session.id });
    const after = await getSession(tx, scope, { id: session.id });
    return after && { session: after, cancelledRuns };
  });
}

/** Expire up to `limit` sessions that are due; returns how many, and the runs that were cancelled with them. */
export async function expireSessions(
  db: Queryable,
  limit: number,
): Promise<{ readonly expired: number; readonly cancelledRuns: readonly CancelledRun[] }> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<Omit<SessionRow, "continues"> & { organization_id: string }>`
      select ${sessionColumns}, e.organization_id,
        (select r.status from runs r where r.id = s.current_run_id) as run_status
      from sessions s join environments e on e.id = s.environment_id
      where s.status = 'open' and s.expires_at <= now()
      order by s.expires_at limit ${limit} for update of s skip locked`.execute(tx);
    const cancelledRuns: CancelledRun[] = [];
    for (const session of rows) {
      const scope = {
        organizationId: session.organization_id,
        projectId: session.project_id,
        environmentId: session.environment_id,
      };
      await endAs(tx, session.id, expired);
      cancelledRuns.push(...(await cancelActiveRun(tx, scope, session, "session_expired")));
    }
    return { expired: rows.length, cancelledRuns };
  });
}

interface Ending {
  readonly status: "closed" | "cancelled" | "expired";
  readonly terminalReason: { readonly reason: string; readonly origin: string };
  readonly error?: Record<string, unknown>;
}

const expired: Ending = {
  status: "expired",
  terminalReason: { reason: "session_expired", origin: "system" },
  error: { name: "SessionExpired", message: "session expired" },
};

async function endAs(tx: Tx, sessionId: string, ending: Ending): Promise<void> {
  const result = ending.error === undefined ? null : JSON.stringify({ ok: false, error: ending.error });
  await sql`update sessions set status = ${ending.status}, result = ${result}::json,
      terminal_reason = ${JSON.stringify(ending.terminalReason)}::json,
      expired_at = case when ${ending.status} = 'expired' then now() end, updated_at = now()
    where id = ${sessionId} and status = 'open'`.execute(tx);
}

function hasActiveRun(session: Pick<SessionRow, "run_status">): boolean {
  return session.run_status !== null && !isTerminal(session.run_status);
}

async function cancelActiveRun(
  tx: Tx,
  scope: Scope,
  session: Pick<SessionRow, "current_run_id" | "run_status">,
  reason: string,
): Promise<CancelledRun[]> {
  if (session.current_run_id === null || !hasActiveRun(session)) return [];
  const result = await requestCancel(tx, scope, session.current_run_id, { reason });
  if (result === undefined || result.outcome === "rejected") return [];
  return [{ runId: session.current_run_id, workerInstanceId: result.workerInstanceId }];
}

/** The row lock that every ending takes first; the run's status is read after it is held. */
async function lockSession(tx: Tx, scope: Scope, key: SessionKey): Promise<SessionRow | undefined> {
  const { rows } = await sql<{ id: string }>`
    select s.id from sessions s where ${sessionKeyMatches(scope, key)} for update`.execute(tx);
  const id = rows[0]?.id;
  return id === undefined ? undefined : await getSession(tx, scope, { id });
}
