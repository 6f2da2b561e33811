/**
 * Emptying what is marked, page by page: each page is one short transaction that a crash may undo.
 *
 *   1 live runs      queued ones are cancelled; of a leased one the worker is told, whose next write finds no lease
 *   2 rows           in the order below, referring rows before those they refer to
 *   3 environment    deleted when nothing refers to it; then its project, when that is marked and empty
 *
 * D5 The environment's row is locked for each page: two purges of it take turns.
 * D6 A run is deleted under its lock, in the page that found no more of its events and logs: no worker's write can add any.
 * D7 The page that finds nothing more deletes the environment: who writes a row that refers to it either has committed
 *    before the page got its lock, and is seen, or waits for the page, and is refused by the foreign key. A run that follows
 *    in a session (input came) refers to the session only: the page that would orphan it fails, and the next one finds it.
 */
import { type RawBuilder, sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { requestCancel } from "../runs/index.ts";
import type { Scope } from "../scope.ts";
import type { CancelledRun } from "../sessions/index.ts";
import { emptyWorkspaces } from "../workspaces/empty-workspaces.ts";
import { discardArtifacts } from "./artifacts.ts";

/** Rows of one page: some ten milliseconds of locks. */
const pageRows = 2000;
/** A chunk of a log has up to 48 KiB. */
const pageLogs = 500;
const pageRuns = 100;
/** Its events, tasks, sandboxes and queues go with each. */
const pageDeployments = 10;

export interface PurgedPage {
  /** Tell `run:<id>` and `worker:<id>` after the commit. */
  readonly cancelledRuns: readonly CancelledRun[];
}

/**
 * One page of the environment, or project, that was marked first. Undefined when nothing is marked, or another process is
 * at it.
 */
export async function purgePage(db: Queryable): Promise<PurgedPage | undefined> {
  return await transaction(db, purgeOnce);
}

async function purgeOnce(tx: Tx): Promise<PurgedPage | undefined> {
  // An environment that is emptied has fewer rows than the statistics say: for one that was large, the planner would read
  // the whole table to find none.
  await sql`select set_config('enable_seqscan', 'off', true)`.execute(tx);
  const { rows } = await sql<Scope>`select organization_id as "organizationId", project_id as "projectId",
      id as "environmentId" from environments where deleting_at is not null
    order by deleting_at, id limit 1 for update skip locked`.execute(tx); // D5
  const [scope] = rows;
  if (scope === undefined) return await purgeProject(tx);
  const cancelledRuns = await cancelPage(tx, scope);
  if (cancelledRuns.length > 0) return { cancelledRuns };
  for (const step of steps) {
    if ((await step(tx, scope.environmentId)) > 0) return { cancelledRuns: [] };
  }
  await sql`delete from environments where id = ${scope.environmentId}`.execute(tx);
  return { cancelledRuns: [] };
}

async function purgeProject(tx: Tx): Promise<PurgedPage | undefined> {
  const { numAffectedRows = 0n } = await sql`delete from projects where id = (
    select p.id from projects p where p.deleting_at is not null
      and not exists (select from environments e where e.project_id = p.id)
    order by p.deleting_at limit 1 for update skip locked)`.execute(tx);
  return numAffectedRows === 0n ? undefined : { cancelledRuns: [] };
}

/** Step 1. A run whose cancel was asked for is left to step 2. */
async function cancelPage(tx: Tx, scope: Scope): Promise<CancelledRun[]> {
  const { rows } = await sql<{ id: string }>`
    select r.id from (values ('queued'), ('running'), ('waiting')) s (status) cross join lateral (
      select id from runs where environment_id = ${scope.environmentId} and status = s.status and not cancel_force
      order by created_at desc, id desc limit ${pageRuns}::integer for update) r limit ${pageRuns}::integer`.execute(
    tx,
  );
  const cancelled: CancelledRun[] = [];
  for (const { id } of rows) {
    const result = await requestCancel(tx, scope, id, { reason: "the environment was deleted", force: true });
    if (result !== undefined) cancelled.push({ runId: id, workerInstanceId: result.workerInstanceId });
  }
  return cancelled;
}

/** Step 2, the tables in their order; what has `on delete cascade` goes with its parent. A test holds them to the schema. */
const steps: readonly ((tx: Tx, environmentId: string) => Promise<number>)[] = [
  // First, so that no run is made for one whose run was cancelled, and none on time.
  plain("schedules"),
  plain("session_continuations"),
  purgeRuns,
  plain("run_counts"),
  purgeAccessTokens,
  purgeStreams,
  plain("tokens"),
  plain("sessions"),
  purgeWorkspaces,
  plain("idempotency_keys"),
  plain("api_keys"),
  plain("secrets"),
  plain("queues"),
  plain("paused_queues"),
  plain("current_deployments"),
  plain("deployment_versions"),
  purgeDeployments,
];

function plain(table: string): (tx: Tx, environmentId: string) => Promise<number> {
  const name = sql.table(table);
  return (tx, environmentId) =>
    removed(
      tx,
      sql`delete from ${name} where ctid = any (array(
        select ctid from ${name} where environment_id = ${environmentId} limit ${pageRows}::integer for update))`,
    );
}

/** D6. Images of parked guests are noted for removal. */
async function purgeRuns(tx: Tx, environmentId: string): Promise<number> {
  const { rows } = await sql<{ id: string }>`select id from runs where environment_id = ${environmentId}
    order by created_at desc, id desc limit ${pageRuns}::integer for update`.execute(tx);
  if (rows.length === 0) return 0;
  const ids = sql`${rows.map(({ id }) => id)}::uuid[]`;
  const logs = await removed(
    tx,
    sql`delete from run_logs where ctid = any (array(
      select ctid from run_logs where run_id = any (${ids}) limit ${pageLogs}::integer))`,
  );
  if (logs === pageLogs) return logs;
  const events = await removed(
    tx,
    sql`delete from run_events where ctid = any (array(
      select ctid from run_events where run_id = any (${ids}) limit ${pageRows}::integer))`,
  );
  if (events === pageRows) return events;
  return await removed(
    tx,
    sql`with images as (
      ${discardArtifacts(sql`select artifact_digest from run_checkpoints where run_id = any (${ids})`)}
    ) delete from runs where id = any (${ids})`,
  );
}

/** By session: there is no other index. */
async function purgeAccessTokens(tx: Tx, environmentId: string): Promise<number> {
  return await removed(
    tx,
    sql`delete from public_access_tokens where ctid = any (array(
      select t.ctid from sessions s join public_access_tokens t on t.session_id = s.id
      where s.environment_id = ${environmentId} limit ${pageRows}::integer for update of t))`,
  );
}

/** Streams of sessions; their cursors go with each. */
async function purgeStreams(tx: Tx, environmentId: string): Promise<number> {
  const { rows } = await sql<{ id: string }>`select t.id from sessions s
    join session_streams t on t.session_id = s.id where s.environment_id = ${environmentId}
    limit ${pageRuns}::integer for update of t`.execute(tx);
  if (rows.length === 0) return 0;
  const ids = sql`${rows.map(({ id }) => id)}::uuid[]`;
  const records = await removed(
    tx,
    sql`delete from stream_records where ctid = any (array(
      select ctid from stream_records where stream_id = any (${ids}) limit ${pageRows}::integer))`,
  );
  if (records === pageRows) return records;
  return await removed(tx, sql`delete from session_streams where id = any (${ids})`);
}

/** Versions, live copies, commands and terminals go before them. */
async function purgeWorkspaces(tx: Tx, environmentId: string): Promise<number> {
  const { rows } = await sql<{ id: string }>`select id from workspaces where environment_id = ${environmentId}
    limit ${pageRuns}::integer for update`.execute(tx);
  if (rows.length === 0) return 0;
  const ids = rows.map(({ id }) => id);
  const emptied = await emptyWorkspaces(tx, ids);
  if (emptied > 0) return emptied;
  return await removed(tx, sql`delete from workspaces where id = any (${ids}::uuid[])`);
}

/** Their sources are noted: what no other deployment has is removed later (artifacts.ts). */
async function purgeDeployments(tx: Tx, environmentId: string): Promise<number> {
  return await removed(
    tx,
    sql`with gone as (
      delete from deployments where id = any (array(
        select id from deployments where environment_id = ${environmentId} limit ${pageDeployments}::integer for update))
      returning source_digest
    )
    ${discardArtifacts(sql`select distinct source_digest from gone`)}`,
  );
}

async function removed(tx: Tx, statement: RawBuilder<unknown>): Promise<number> {
  const { numAffectedRows = 0n } = await statement.execute(tx);
  return Number(numAffectedRows);
}
