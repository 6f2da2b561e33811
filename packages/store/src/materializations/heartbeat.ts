/** extendMaterializations: a worker keeps the leases of its copies of their own (those of runs are kept by the run's lease). */
import { sql } from "kysely";
import { type Queryable, retryConflicts } from "../database.ts";

export interface ExtendMaterializations {
  readonly workerInstanceId: string;
  readonly leases: readonly { readonly leaseId: string; readonly fencing: number }[];
  readonly lostAfterMs: number;
}

/**
 * The ids of those leases that are this worker's. A row is written once in a tenth of its window, not at every beat, and one
 * that is locked just now is left to the next beat.
 */
export async function extendMaterializations(
  db: Queryable,
  { workerInstanceId, leases, lostAfterMs }: ExtendMaterializations,
): Promise<string[]> {
  if (leases.length === 0) return [];
  const ids = leases.map((lease) => lease.leaseId);
  const window = sql`${lostAfterMs}::float8 * interval '1 millisecond'`;
  const { rows } = await retryConflicts(() =>
    sql<{ lease_id: string }>`
      with kept as materialized (
        select m.id, m.lease_id, m.last_heartbeat_at from workspace_materializations m
        join unnest(${ids}::uuid[], ${leases.map((lease) => lease.fencing)}::bigint[]) as n (lease_id, fencing)
          on n.lease_id = m.lease_id and n.fencing = m.fencing_generation
        where m.lease_id = any (${ids}::uuid[]) and m.run_id is null and m.ended_at is null
          and m.worker_instance_id = ${workerInstanceId}
      ), due as (
        select m.id from workspace_materializations m
        where m.id = any (array(select k.id from kept k where k.last_heartbeat_at <= now() - ${window} / 10))
        order by m.id for no key update skip locked
      ), extended as (
        update workspace_materializations m set last_heartbeat_at = now(), reservation_expires_at = now() + ${window}
        where m.id = any (array(select id from due))
      )
      select lease_id from kept`.execute(db),
  );
  return rows.map((row) => row.lease_id);
}
