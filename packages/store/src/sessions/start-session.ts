/**
 * Starting a session: find the one this start already made, or make session, workspace and first run in one transaction.
 *
 * S1 One session per (environment, external id), ever: the unique index decides; who loses reads the winner's.
 * S2 One session per (environment, task, idempotency key) while the key lives: a try-lock on the key makes the second
 *    of two concurrent starts answer "pending" at once; the primary key decides what slips past it.
 * S3 A cached answer needs the same fingerprint; metadata and tags are not part of it (contract 3.1).
 *
 * Three statements between begin and commit: everything the decision needs, the new rows, the run.
 */
import { ApiError, codedError } from "@helmr/api";
import { sql } from "kysely";
import { auditInsert, scopeIds } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { createRun, getRun, type RunRow } from "../runs/index.ts";
import type { ActingScope, Scope } from "../scope.ts";
import { getSession, type SessionRow } from "./read-sessions.ts";
import { lookUpStart, type StartFacts } from "./start-facts.ts";
import {
  chooseSettings,
  fingerprintOf,
  type RunSettings,
  refuseUnready,
  type StartSession,
} from "./start-request.ts";

export interface StartedSession {
  readonly session: SessionRow;
  readonly run: RunRow;
  /** An earlier start made it. */
  readonly cached: boolean;
}

const maxStartTries = 3;

/** Another start won a unique index between our look-up and our insert. */
class StartRaceError extends Error {
  override readonly name = "StartRaceError";
}

/** Throws the coded errors of contract 3.1, and ApiError 400 for a queue or secrets that are not there. */
export async function startSession(
  db: Queryable,
  scope: ActingScope,
  request: StartSession,
): Promise<StartedSession> {
  const outcome = await startAnd(db, scope, request, async () => {});
  return "session" in outcome ? outcome : await readCached(db, scope, outcome);
}

/**
 * As `startSession`, with something that belongs to it: what `andAlso` does is in the same transaction, and undoes the start
 * when it throws. Undefined when an earlier start made the session.
 */
export async function startSessionAnd(
  db: Queryable,
  scope: ActingScope,
  request: StartSession,
  andAlso: (tx: Tx) => Promise<void>,
): Promise<StartedSession | undefined> {
  const outcome = await startAnd(db, scope, request, andAlso);
  return "session" in outcome ? outcome : undefined;
}

async function startAnd(
  db: Queryable,
  scope: ActingScope,
  request: StartSession,
  andAlso: (tx: Tx) => Promise<void>,
): Promise<StartedSession | Cached> {
  const fingerprint = fingerprintOf(request);
  for (let tries = 1; ; tries += 1) {
    try {
      return await transaction(db, async (tx) => {
        const outcome = await startOnce(tx, scope, request, fingerprint);
        await andAlso(tx);
        return outcome;
      });
    } catch (error) {
      if (!(error instanceof StartRaceError) || tries >= maxStartTries) throw error;
    }
  }
}

type Cached = { readonly sessionId: string; readonly run: "first" | "current" };

async function startOnce(
  tx: Tx,
  scope: ActingScope,
  request: StartSession,
  fingerprint: Buffer,
): Promise<StartedSession | Cached> {
  const facts = await lookUpStart(tx, scope, request);
  if (!facts.environment_open) throw new ApiError(404, "environment not found");
  if (!facts.locked) throw codedError("idempotency_pending");
  const cached = findCached(facts, request, fingerprint);
  if (cached !== undefined) {
    if (cached.run === "current" && request.idempotencyKey !== undefined) {
      await insertKey(tx, scope, request, fingerprint, cached.sessionId);
    }
    return cached;
  }
  const settings = chooseSettings(facts, request);
  refuseUnready(facts, request, settings);
  const ids = { session: uuidv7(), run: uuidv7(), workspace: request.workspaceId ?? uuidv7() };
  const session = await insertSession(tx, scope, request, fingerprint, settings, ids);
  const run = await createRun(tx, scope, {
    id: ids.run,
    sessionId: ids.session,
    workspaceId: ids.workspace,
    ...settings.run,
  });
  return { session: { ...session, run_status: run.status, continues: false }, run, cached: false };
}

/** S3. */
function findCached(facts: StartFacts, request: StartSession, fingerprint: Buffer): Cached | undefined {
  if (facts.key_session_id !== null) {
    if ((facts.key_external_id ?? undefined) !== request.externalId)
      throw codedError("idempotency_external_id_mismatch");
    if (facts.key_fingerprint?.equals(fingerprint) !== true)
      throw codedError("idempotency_fingerprint_mismatch");
    return { sessionId: facts.key_session_id, run: "first" };
  }
  if (facts.external_session_id === null) return undefined;
  if (facts.external_status !== "open" || facts.external_due) throw codedError("session_terminal");
  if (facts.external_fingerprint?.equals(fingerprint) !== true)
    throw codedError("session_fingerprint_mismatch");
  return { sessionId: facts.external_session_id, run: "current" };
}

async function readCached(db: Queryable, scope: Scope, cached: Cached): Promise<StartedSession> {
  const session = await getSession(db, scope, { id: cached.sessionId });
  const runId = cached.run === "current" ? session?.current_run_id : await firstRunId(db, cached.sessionId);
  const run = runId == null ? undefined : await getRun(db, scope, runId);
  if (session === undefined || run === undefined) throw codedError("session_has_no_current_run");
  return { session, run, cached: true };
}

async function firstRunId(db: Queryable, sessionId: string): Promise<string | undefined> {
  const { rows } = await sql<{ id: string }>`
    select id from runs where session_id = ${sessionId} order by turn_index limit 1`.execute(db);
  return rows[0]?.id;
}

/** Session, workspace (when none was given), key and audit record in one statement. */
async function insertSession(
  tx: Tx,
  scope: ActingScope,
  request: StartSession,
  fingerprint: Buffer,
  { deploymentId, sandbox }: RunSettings,
  ids: { readonly session: string; readonly run: string; readonly workspace: string },
): Promise<Omit<SessionRow, "run_status" | "continues">> {
  const { environmentId, projectId } = scope;
  const audit = auditInsert(scope.actor, {
    ...scopeIds(scope),
    action: "session.start",
    resourceId: ids.session,
    attributes: { task_id: request.taskId, run_id: ids.run },
  });
  const { rows } = await sql<
    Omit<SessionRow, "run_status" | "continues"> & { key_taken: boolean; workspace_left: boolean }
  >`
    with touched as (
      update workspaces set last_activity_at = now() where id = ${request.workspaceId ?? null}::uuid and state = 'active'
      returning 1
    ), new_workspace as (
      insert into workspaces (id, environment_id, project_id, deployment_sandbox_id, sandbox_id, sandbox_fingerprint,
        state, desired_state, dirty_state)
      select ${ids.workspace}::uuid, ${environmentId}::uuid, ${projectId}::uuid, ${sandbox.rowId}::uuid,
        ${sandbox.sandboxId}::text, ${sandbox.fingerprint}::text, 'active', 'active', 'clean'
      where ${request.workspaceId === undefined}::boolean
    ), new_key as (
      insert into idempotency_keys (environment_id, scope_name, key, fingerprint, resource_id, expires_at)
      select ${environmentId}::uuid, ${keyScopeName(request)}::text, k.key, ${fingerprint}::bytea, ${ids.session}::uuid,
        now() + make_interval(secs => ${request.idempotencyKeyTtlMs / 1000}::float8)
      from (select ${request.idempotencyKey ?? null}::text as key) k where k.key is not null
      on conflict (environment_id, scope_name, key) do update set fingerprint = excluded.fingerprint,
        resource_id = excluded.resource_id, expires_at = excluded.expires_at, created_at = now()
        where idempotency_keys.expires_at <= now()
      returning 1
    ), s as (
      insert into sessions (id, environment_id, project_id, task_id, initial_deployment_id, active_deployment_id,
        external_id, start_fingerprint, status, current_run_id, workspace_id, metadata, tags, expires_at, schedule_id)
      values (${ids.session}, ${environmentId}, ${projectId}, ${request.taskId}, ${deploymentId}, ${deploymentId},
        ${request.externalId ?? null}, ${fingerprint}, 'open', ${ids.run}, ${ids.workspace},
        ${JSON.stringify(request.metadata)}::jsonb, ${[...request.tags]}::text[], ${request.expiresAt ?? null},
        ${request.schedule?.id ?? null})
      on conflict (environment_id, external_id) do nothing
      returning *
    ), audit as (${audit})
    select s.*, false as due, ${request.idempotencyKey !== undefined}::boolean and not exists (select from new_key) as key_taken,
      ${request.workspaceId !== undefined}::boolean and not exists (select from touched) as workspace_left
    from s`.execute(tx);
  const row = rows[0];
  if (row === undefined || row.key_taken) throw new StartRaceError("another start won");
  // Archived since it was looked up.
  if (row.workspace_left) throw codedError("workspace_not_active");
  return row;
}

function keyScopeName(request: StartSession): string {
  return `session.start:${request.taskId}`;
}

async function insertKey(
  tx: Tx,
  scope: Scope,
  request: StartSession,
  fingerprint: Buffer,
  sessionId: string,
) {
  await sql`insert into idempotency_keys (environment_id, scope_name, key, fingerprint, resource_id, expires_at)
    values (${scope.environmentId}, ${keyScopeName(request)}, ${request.idempotencyKey}, ${fingerprint}, ${sessionId},
      now() + make_interval(secs => ${request.idempotencyKeyTtlMs / 1000}::float8))
    on conflict (environment_id, scope_name, key) do update set fingerprint = excluded.fingerprint,
      resource_id = excluded.resource_id, expires_at = excluded.expires_at, created_at = now()
      where idempotency_keys.expires_at <= now()`.execute(tx);
}
