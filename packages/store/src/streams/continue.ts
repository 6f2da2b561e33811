/**
 * Continuation runs: input that no run took starts the session's next one, with the payload and settings of the one before.
 *
 *   Q1 A session has at most one run that has not ended: the session's row is locked while the next is made.
 *   Q2 A request stays recorded until a run was made for it, or its records were taken, or the session has ended.
 *   Q3 One request stands for all input that came: a run that succeeds or fails and took some of it, not all, leaves another
 *      request (../runs/leave-waits.ts).
 */

import type { RetryPolicy } from "@helmr/api";
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { createRun } from "../runs/create.ts";
import { isTerminal } from "../runs/lifecycle.ts";
import type { Scope } from "../scope.ts";
import { getSession, type SessionRow } from "../sessions/read-sessions.ts";
import { hasUntaken } from "./untaken.ts";

/** Contract 4.1 `continuation_status`. */
export type Continuation = "accepted_run_pending" | "created" | "duplicate";

/** Input came and nothing waits for it. The session's row is locked, and it is open. */
export async function continueLocked(
  tx: Tx,
  scope: Scope,
  session: SessionRow,
): Promise<{ readonly continuation: Continuation; readonly workerGroupId?: string }> {
  if (session.run_status !== null && !isTerminal(session.run_status)) {
    const { numAffectedRows = 0n } = await sql`insert into session_continuations (session_id, environment_id)
      values (${session.id}, ${session.environment_id}) on conflict do nothing`.execute(tx);
    return { continuation: numAffectedRows > 0n ? "accepted_run_pending" : "duplicate" };
  }
  return { continuation: "created", workerGroupId: await createContinuation(tx, scope, session) };
}

/**
 * Make the continuation runs that are due: of these sessions, or of up to `limit` whose run has ended. Returns the
 * worker groups of the runs, one for each: tell the workers.
 */
export async function continueSessions(
  db: Queryable,
  { limit, sessionIds }: { readonly limit: number; readonly sessionIds?: readonly string[] },
): Promise<string[]> {
  const named = sessionIds === undefined ? sql`` : sql`and c.session_id = any (${sessionIds}::uuid[])`;
  const { rows } = await sql<{
    session_id: string;
    environment_id: string;
    project_id: string;
    organization_id: string;
  }>`
    select c.session_id, s.environment_id, s.project_id, e.organization_id from session_continuations c
    join sessions s on s.id = c.session_id join environments e on e.id = s.environment_id
    where (s.status <> 'open' or coalesce((select r.status in ('succeeded', 'failed', 'cancelled', 'expired')
      from runs r where r.id = s.current_run_id), true)) ${named}
    order by c.requested_at limit ${limit}::integer`.execute(db);
  const made: string[] = [];
  for (const row of rows) {
    const scope = {
      organizationId: row.organization_id,
      projectId: row.project_id,
      environmentId: row.environment_id,
    };
    const workerGroupId = await transaction(db, (tx) => continueOne(tx, scope, row.session_id));
    if (workerGroupId !== undefined) made.push(workerGroupId);
  }
  return made;
}

async function continueOne(tx: Tx, scope: Scope, sessionId: string): Promise<string | undefined> {
  const locked =
    await sql`select from sessions where id = ${sessionId} for no key update skip locked`.execute(tx);
  if (locked.rows.length === 0) return undefined;
  const session = await getSession(tx, scope, { id: sessionId });
  if (session === undefined) return undefined;
  if (session.run_status !== null && !isTerminal(session.run_status)) return undefined;
  // Q2: the request goes with its answer.
  const { numAffectedRows = 0n } =
    await sql`delete from session_continuations where session_id = ${sessionId}`.execute(tx);
  if (numAffectedRows === 0n || session.status !== "open" || session.due) return undefined;
  if (!(await hasUntakenInput(tx, sessionId))) return undefined;
  return await createContinuation(tx, scope, session);
}

async function hasUntakenInput(tx: Tx, sessionId: string): Promise<boolean> {
  const { rows } = await sql<{
    untaken: boolean;
  }>`select ${hasUntaken(sql`${sessionId}`)} as untaken`.execute(tx);
  return rows[0]?.untaken === true;
}

interface PreviousRun {
  readonly id: string;
  readonly deployment_id: string;
  readonly deployment_task_id: string;
  readonly deployment_version: string;
  readonly workspace_id: string;
  readonly task_id: string;
  readonly turn_index: number;
  readonly queue_name: string;
  readonly concurrency_key: string | null;
  readonly priority: number;
  readonly payload: string;
  readonly metadata: Record<string, unknown>;
  readonly tags: string[];
  readonly retry_policy: unknown;
  readonly max_duration_seconds: number;
  readonly ttl: string | null;
  readonly api_version: string;
  readonly sdk_version: string | null;
  readonly cli_version: string | null;
  readonly secret_names: string[];
}

/** Contract 4.1: the previous run's payload, turn_index + 1, becomes the session's current run. Returns its worker group. */
async function createContinuation(tx: Tx, scope: Scope, session: SessionRow): Promise<string> {
  const { rows } =
    await sql<PreviousRun>`select r.id, r.deployment_id, r.deployment_task_id, r.deployment_version,
      r.workspace_id, r.task_id, r.turn_index, r.queue_name, r.concurrency_key, r.priority, r.payload, r.metadata, r.tags,
      r.retry_policy, r.max_duration_seconds, r.ttl, r.api_version, r.sdk_version, r.cli_version,
      coalesce((select array_agg(distinct e->>'name') from deployment_tasks t, jsonb_array_elements(t.secrets) e
        where t.id = r.deployment_task_id), '{}') as secret_names
    from runs r where r.session_id = ${session.id} order by r.turn_index desc limit 1`.execute(tx);
  const previous = rows[0];
  if (previous === undefined) throw new Error("a session without a run cannot go on");
  const run = await createRun(tx, scope, {
    sessionId: session.id,
    deploymentId: previous.deployment_id,
    deploymentTaskId: previous.deployment_task_id,
    deploymentVersion: previous.deployment_version,
    workspaceId: previous.workspace_id,
    taskId: previous.task_id,
    turnIndex: previous.turn_index + 1,
    previousRunId: previous.id,
    reason: "input",
    cause: { type: "session_input" },
    queueName: previous.queue_name,
    concurrencyKey: previous.concurrency_key ?? undefined,
    priority: previous.priority,
    payloadJson: previous.payload,
    metadata: previous.metadata,
    tags: previous.tags,
    retryPolicy: previous.retry_policy as RetryPolicy,
    maxDurationSeconds: previous.max_duration_seconds,
    ttl: previous.ttl ?? undefined,
    secretNames: previous.secret_names,
    apiVersion: previous.api_version,
    sdkVersion: previous.sdk_version ?? undefined,
    cliVersion: previous.cli_version ?? undefined,
  });
  await sql`update sessions set current_run_id = ${run.id}, updated_at = now() where id = ${session.id}`.execute(
    tx,
  );
  return run.worker_group_id;
}
