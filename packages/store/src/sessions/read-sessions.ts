/** Reading sessions: the row with what its current run is doing, from which activity and can_close follow. */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { ExecutionStatus, RunStatus, SessionStatus } from "../schema.ts";
import type { Scope } from "../scope.ts";
import { hasUntaken } from "../streams/untaken.ts";

export interface SessionRow {
  readonly id: string;
  readonly environment_id: string;
  readonly project_id: string;
  readonly task_id: string;
  readonly initial_deployment_id: string;
  readonly active_deployment_id: string;
  readonly external_id: string | null;
  readonly status: SessionStatus;
  readonly current_run_id: string | null;
  readonly workspace_id: string | null;
  readonly metadata: Record<string, unknown>;
  readonly tags: string[];
  /** JSON text of the envelope `{ok: true, value}` or `{ok: false, error}`. */
  readonly result: string | null;
  /** JSON text. */
  readonly terminal_reason: string | null;
  readonly expires_at: Date | null;
  readonly expired_at: Date | null;
  readonly created_at: Date;
  readonly updated_at: Date;
  /** Past its expires_at by the database's clock, swept or not. */
  readonly due: boolean;
  readonly run_status: RunStatus | null;
  /** Input came that the current run has not taken: a continuation run is to follow. */
  readonly continues: boolean;
}

/** A session is named by its id or by its external id (contract 3, `{S}`). */
export type SessionKey = { readonly id: string } | { readonly externalId: string };

export const sessionColumns: RawBuilder<unknown> = sql`s.id, s.environment_id, s.project_id, s.task_id,
  s.initial_deployment_id, s.active_deployment_id, s.external_id, s.status, s.current_run_id, s.workspace_id,
  s.metadata, s.tags, s.result, s.terminal_reason, s.expires_at, s.expired_at, s.created_at, s.updated_at,
  coalesce(s.expires_at <= now(), false) as due`;
const fromSessions = sql`select ${sessionColumns}, r.status as run_status,
  coalesce((select ${hasUntaken(sql`c.session_id`)} from session_continuations c where c.session_id = s.id), false)
    as continues
  from sessions s left join runs r on r.id = s.current_run_id`;

export function sessionKeyMatches(scope: Scope, key: SessionKey): RawBuilder<unknown> {
  return "id" in key
    ? sql`s.environment_id = ${scope.environmentId} and s.id = ${key.id}`
    : sql`s.environment_id = ${scope.environmentId} and s.external_id = ${key.externalId}`;
}

export async function getSession(
  db: Queryable,
  scope: Scope,
  key: SessionKey,
): Promise<SessionRow | undefined> {
  const { rows } = await sql<SessionRow>`${fromSessions} where ${sessionKeyMatches(scope, key)}`.execute(db);
  return rows[0];
}

export interface SessionFilter {
  readonly status?: SessionStatus | undefined;
  readonly taskId?: string | undefined;
  readonly externalId?: string | undefined;
  readonly limit: number;
}

/** Last updated first. Each combination of filters has an index in this order: the cost is that of the page. */
export async function listSessions(
  db: Queryable,
  scope: Scope,
  filter: SessionFilter,
): Promise<SessionRow[]> {
  const conditions = [
    sql`s.environment_id = ${scope.environmentId}`,
    ...(filter.status === undefined ? [] : [sql`s.status = ${filter.status}`]),
    ...(filter.taskId === undefined ? [] : [sql`s.task_id = ${filter.taskId}`]),
    ...(filter.externalId === undefined ? [] : [sql`s.external_id = ${filter.externalId}`]),
  ];
  const { rows } = await sql<SessionRow>`${fromSessions} where ${sql.join(conditions, sql` and `)}
    order by s.updated_at desc, s.id desc limit ${filter.limit}`.execute(db);
  return rows;
}

export interface SessionRunRow {
  readonly id: string;
  readonly deployment_id: string;
  readonly previous_run_id: string | null;
  readonly turn_index: number;
  readonly status: RunStatus;
  readonly execution_status: ExecutionStatus;
  readonly created_at: Date;
  readonly ended_at: Date | null;
}

const maxListedRuns = 1000;

/** The session's runs in turn order; undefined when there is no such session. */
export async function listSessionRuns(
  db: Queryable,
  scope: Scope,
  key: SessionKey,
): Promise<SessionRunRow[] | undefined> {
  const session = await getSession(db, scope, key);
  if (session === undefined) return undefined;
  const { rows } = await sql<SessionRunRow>`
    select id, deployment_id, previous_run_id, turn_index, status, execution_status, created_at, ended_at
    from runs where session_id = ${session.id} order by turn_index limit ${maxListedRuns}`.execute(db);
  return rows;
}
