/** Queues as people see them: limit, pause, and how many runs are where. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { Scope } from "../scope.ts";

export interface QueueRow {
  readonly name: string;
  /** Per concurrency key; null: none. */
  readonly concurrency_limit: number | null;
  /** Null: it is not paused. */
  readonly paused_at: Date | null;
  /** It is in the environment's current deployment; else it has runs of earlier ones, or a pause that stayed. */
  readonly declared: boolean;
  readonly queued: number;
  readonly running: number;
  readonly waiting: number;
  /** Since when the run that waits longest could have started; null: none is queued. */
  readonly oldest_queued_at: Date | null;
}

/**
 * By name: the queues of the current deployment, those that are paused, and those with live runs. `name`: this one alone. The
 * cost grows with the live runs of the environment, queued ones by an index alone.
 */
export async function listQueues(db: Queryable, scope: Scope, name?: string): Promise<QueueRow[]> {
  const environment = sql`${scope.environmentId}::uuid`;
  const isWanted = name === undefined ? sql`true` : sql`names.name = ${name}::text`;
  const { rows } = await sql<QueueRow>`
    with current as materialized (select deployment_id from current_deployments where environment_id = ${environment}),
    declared as (
      select name from deployment_queues where deployment_id = (select deployment_id from current)
      union select queue_name from deployment_tasks where deployment_id = (select deployment_id from current)
    ), queued as (
      select queue_name as name, count(*) as queued, min(available_at) as oldest_queued_at from runs
      where status = 'queued' and worker_group_id = any (array(select id from worker_groups)) and environment_id = ${environment}
      group by queue_name
    ), active as (
      select queue_name as name, count(*) filter (where status = 'running') as running,
        count(*) filter (where status = 'waiting') as waiting
      from runs where environment_id = ${environment} and status in ('running', 'waiting') group by queue_name
    ), names as (
      select name from declared union select name from queued union select name from active
      union select name from paused_queues where environment_id = ${environment}
    )
    select names.name, q.concurrency_limit, z.paused_at, declared.name is not null as declared, coalesce(queued, 0) as queued,
      coalesce(running, 0) as running, coalesce(waiting, 0) as waiting, oldest_queued_at
    from names left join declared on declared.name = names.name left join queued on queued.name = names.name
    left join active on active.name = names.name
    left join queues q on q.environment_id = ${environment} and q.name = names.name
    left join paused_queues z on z.environment_id = ${environment} and z.name = names.name
    where ${isWanted} order by names.name`.execute(db);
  return rows;
}
