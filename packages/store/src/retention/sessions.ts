/**
 * Sessions whose time is over.
 *
 *   open   -> closed   closeScheduledSessions   a schedule started it, its last run ended long ago, no input waits
 *   ended  -> (gone)   removeSessions           it ended long ago, and no run of it is live; with its runs and streams
 *
 *   R3 The session's row is locked for each page: no run and no record comes to it meanwhile.
 *   R4 A session goes after everything that refers to it, in pages that a crash may undo or repeat; run_counts follow.
 *   R5 The workspace that a schedule's session was given is archived with it, unless something else has used it: a name, another
 *      session, a saved version that somebody made. Every other workspace stays: it is its users'.
 */
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { discardArtifacts } from "../deletion/artifacts.ts";
import { tallyRuns } from "../runs/lifecycle.ts";

const pageRows = 2000;
/** A chunk of a log has up to 48 KiB. */
const pageLogs = 500;
/** Sessions that are taken into one page. */
const pageSessions = 20;

const closedReason = JSON.stringify({ reason: "schedule_session_idle", origin: "system" });

/** Up to `limit` of them, idle for longer than `idleMs`; returns how many. */
export async function closeScheduledSessions(
  db: Queryable,
  { limit, idleMs }: { readonly limit: number; readonly idleMs: number },
): Promise<number> {
  const cutoff = sql`now() - ${idleMs}::float8 * interval '1 millisecond'`;
  const { numAffectedRows = 0n } = await sql`
    update sessions set status = 'closed', terminal_reason = ${closedReason}::json, updated_at = now()
    where id = any (array(
      select s.id from sessions s where s.status = 'open' and s.schedule_id is not null and s.created_at <= ${cutoff}
        and coalesce((select r.ended_at from runs r where r.id = s.current_run_id) <= ${cutoff}, false)
        and (select c.session_id from session_continuations c where c.session_id = s.id) is null
      order by s.created_at limit ${limit}::integer for update of s skip locked))`.execute(db);
  return Number(numAffectedRows);
}

interface Due {
  readonly id: string;
  readonly workspace_id: string | null;
  readonly schedule_id: string | null;
}

/** One page of sessions that ended longer than `keepMs` ago. Resolves to whether there may be more. */
export async function removeSessions(
  db: Queryable,
  { keepMs }: { readonly keepMs: number },
): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<Due>`select s.id, s.workspace_id, s.schedule_id from sessions s
      where s.status <> 'open' and s.updated_at <= now() - ${keepMs}::float8 * interval '1 millisecond'
        and (select r.id from runs r where r.session_id = s.id and r.status in ('queued', 'running', 'waiting') limit 1) is null
      order by s.updated_at limit ${pageSessions}::integer for update of s skip locked`.execute(tx); // R3
    if (rows.length === 0) return false;
    const ids = rows.map(({ id }) => id);
    for (const step of steps) if ((await step(tx, ids)) > 0) return true;
    await archiveWorkspaces(tx, rows);
    await sql`delete from sessions where id = any (${ids}::uuid[])`.execute(tx);
    return rows.length === pageSessions;
  });
}

/** R4: what refers to a session, before it. Access tokens and cursors go with it. */
const steps: readonly ((tx: Tx, sessionIds: readonly string[]) => Promise<number>)[] = [
  rows("stream_records", { by: "stream_id", of: "session_streams", limit: pageRows }),
  rows("run_logs", { by: "run_id", of: "runs", limit: pageLogs }),
  rows("run_events", { by: "run_id", of: "runs", limit: pageRows }),
  removeRuns,
];

/** A step: rows of a table that belong to what belongs to the sessions. */
function rows(table: string, { by, of, limit }: { by: string; of: string; limit: number }) {
  return async (tx: Tx, sessionIds: readonly string[]): Promise<number> => {
    const { numAffectedRows = 0n } = await sql`delete from ${sql.table(table)} where ctid = any (array(
      select c.ctid from ${sql.table(of)} p join ${sql.table(table)} c on ${sql.ref(`c.${by}`)} = p.id
      where p.session_id = any (${sessionIds}::uuid[]) limit ${limit}::integer))`.execute(tx);
    return Number(numAffectedRows);
  };
}

async function removeRuns(tx: Tx, sessionIds: readonly string[]): Promise<number> {
  const { rows } = await sql<{ removed: number }>`
    with due as materialized (
      select id from runs where session_id = any (${sessionIds}::uuid[]) limit ${pageRows}::integer for update
    ), images as (
      ${discardArtifacts(sql`select artifact_digest from run_checkpoints where run_id in (select id from due)`)}
    ), gone as (
      delete from runs where id in (select id from due) returning environment_id, status as from_status, null as to_status
    ), tallied as (${tallyRuns("gone")})
    select count(*) as removed from gone`.execute(tx);
  return rows[0]?.removed ?? 0;
}

/** R5. Its files go as those of any archived workspace (purgeArchived). */
async function archiveWorkspaces(tx: Tx, sessions: readonly Due[]): Promise<void> {
  const ids = sessions.flatMap(({ workspace_id, schedule_id }) =>
    workspace_id !== null && schedule_id !== null ? [workspace_id] : [],
  );
  if (ids.length === 0) return;
  const removedSessions = sessions.map(({ id }) => id);
  await sql`
    update workspaces w set state = 'archived', desired_state = 'archived', archived_at = now(), auto_stop_at = null,
      auto_delete_at = now(), updated_at = now()
    where id = any (array(
      select w.id from workspaces w where w.id = any (${ids}::uuid[]) and w.state = 'active' and w.external_id is null
        and not exists (select from sessions o where o.workspace_id = w.id and o.id <> all (${removedSessions}::uuid[]))
        and not exists (select from runs r where r.workspace_id = w.id)
        and not exists (select from workspace_materializations m where m.workspace_id = w.id and m.ended_at is null)
        and not exists (select from workspace_versions v where v.workspace_id = w.id and v.kind <> 'system')
      order by w.id for update of w skip locked))`.execute(tx);
}
