/** Events of deployments whose build ended long ago: what it printed. R1 and R2 of run-events.ts hold for them as well. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";

const pageEvents = 2000;
const terminalKinds = ["deployment.deployed", "deployment.failed"];

/** A page of them, of up to `limit` deployments that were made longer than `keepMs` ago. Resolves to whether there may be more. */
export async function removeDeploymentEvents(
  db: Queryable,
  { limit, keepMs }: { readonly limit: number; readonly keepMs: number },
): Promise<boolean> {
  const { rows } = await sql<{ deployments: number; events: number }>`
    with due as materialized (
      select id from deployments where status in ('deployed', 'failed') and events_removed_at is null
        and created_at <= now() - ${keepMs}::float8 * interval '1 millisecond'
      order by created_at limit ${limit}::integer for update skip locked
    ), events as (
      delete from deployment_events where ctid = any (array(
        select e.ctid from due join deployment_events e on e.deployment_id = due.id
        where e.kind <> all (${terminalKinds}::text[]) limit ${pageEvents}::integer))
      returning 1
    ), counted as (
      select (select count(*) from due) as deployments, (select count(*) from events) as events
    ), noted as (
      update deployments set events_removed_at = now() where id = any (array(select id from due))
        and (select events < ${pageEvents}::integer from counted)
    )
    select deployments, events from counted`.execute(db);
  const { deployments = 0, events = 0 } = rows[0] ?? {};
  return deployments === limit || events === pageEvents;
}
