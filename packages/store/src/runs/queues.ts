/** Limits of an environment's queues: those of its current deployment. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import type { Scope } from "../scope.ts";

/**
 * Put the queues of a deployment in force, in the transaction of its promotion. Queued and running runs of queues whose
 * limit came or went move to the other way of being claimed; a lowered limit lets running runs finish.
 */
export async function applyDeploymentQueues(tx: Tx, scope: Scope, deploymentId: string): Promise<void> {
  await sql`
    with wanted as (select name, concurrency_limit from deployment_queues where deployment_id = ${deploymentId}),
    removed as (
      delete from queues where environment_id = ${scope.environmentId} and name not in (select name from wanted)
    )
    insert into queues (environment_id, name, concurrency_limit)
    select ${scope.environmentId}, name, concurrency_limit from wanted order by name
    on conflict (environment_id, name) do update set concurrency_limit = excluded.concurrency_limit`.execute(
    tx,
  );
  await sql`
    update runs r set limited = not r.limited where r.id = any (array(
      select r.id from runs r
      left join queues q on q.environment_id = r.environment_id and q.name = r.queue_name
      where r.environment_id = ${scope.environmentId} and r.status in ('queued', 'running', 'waiting')
        and r.limited <> (q.concurrency_limit is not null)
      order by r.id for update of r))`.execute(tx);
}
