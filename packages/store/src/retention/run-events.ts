/**
 * Events and logs of runs that ended long ago.
 *
 *   R1 Only of a run that has ended, under its lock: nothing writes events to it any more.
 *   R2 Its terminal event stays (I4 of ../runs/lifecycle.ts), so that who follows the run still hears how it ended. The run itself,
 *      its output and the number of bytes that it wrote stay with its session.
 */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";

/** Rows of one page: some ten milliseconds. */
const pageEvents = 2000;
/** A chunk of a log has up to 48 KiB. */
const pageLogs = 500;

const terminalKinds = ["run.completed", "run.failed", "run.cancelled", "run.expired"];

/** A page of them, of up to `limit` runs that ended longer than `keepMs` ago. Resolves to whether there may be more. */
export async function removeRunEvents(
  db: Queryable,
  { limit, keepMs }: { readonly limit: number; readonly keepMs: number },
): Promise<boolean> {
  const { rows } = await sql<{ runs: number; events: number; logs: number }>`
    with due as materialized (
      select id from runs where ended_at is not null and events_removed_at is null
        and ended_at <= now() - ${keepMs}::float8 * interval '1 millisecond'
      order by ended_at limit ${limit}::integer for update skip locked
    ), events as (
      delete from run_events where ctid = any (array(
        select e.ctid from due join run_events e on e.run_id = due.id
        where e.kind <> all (${terminalKinds}::text[]) limit ${pageEvents}::integer))
      returning 1
    ), logs as (
      delete from run_logs where ctid = any (array(
        select l.ctid from due join run_logs l on l.run_id = due.id limit ${pageLogs}::integer))
      returning 1
    ), counted as (
      select (select count(*) from due) as runs, (select count(*) from events) as events,
        (select count(*) from logs) as logs
    ), noted as (
      update runs set events_removed_at = now() where id = any (array(select id from due))
        and (select events < ${pageEvents}::integer and logs < ${pageLogs}::integer from counted)
    )
    select runs, events, logs from counted`.execute(db);
  const { runs = 0, events = 0, logs = 0 } = rows[0] ?? {};
  return runs === limit || events === pageEvents || logs === pageLogs;
}
