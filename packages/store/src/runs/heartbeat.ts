/** heartbeat: a worker keeps its leases (of runs and builds) and hears what became of them. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";

export interface HeartbeatInput {
  readonly workerInstanceId: string;
  readonly leases: readonly { readonly leaseId: string; readonly fencing: number }[];
  readonly leaseDurationMs: number;
}

export interface LeaseState {
  readonly leaseId: string;
  readonly status: "active" | "lost";
  readonly cancel?: { readonly reason: string; readonly force: boolean };
}

interface KeptLease {
  readonly lease_id: string;
  readonly cancel_reason: string | null;
  readonly cancel_force: boolean | null;
}

/**
 * Extend the leases that are still this worker's; each of the input is in the answer. Also of a lease that is over but
 * that nobody took back yet: its fencing is still the last one. Rows are locked in order of id, and one that is locked
 * just now (its transition is under way) is reported active without being extended: the next beat comes before the end.
 */
export async function extendLeases(db: Queryable, input: HeartbeatInput): Promise<LeaseState[]> {
  if (input.leases.length === 0) return [];
  const ids = input.leases.map((lease) => lease.leaseId);
  const fencings = input.leases.map((lease) => lease.fencing);
  const expiry = sql`now() + ${input.leaseDurationMs}::integer * interval '1 millisecond'`;
  const { rows } = await sql<KeptLease>`
    with named as (select * from unnest(${ids}::uuid[], ${fencings}::bigint[]) as n (lease_id, fencing)),
    kept_runs as materialized (
      select r.id, r.lease_id, r.cancel_reason, r.cancel_force from runs r
      join named n on n.lease_id = r.lease_id and n.fencing = r.fencing
      where r.lease_id = any (${ids}::uuid[]) and r.worker_instance_id = ${input.workerInstanceId}
    ), free_runs as (
      select r.id from runs r where r.lease_id = any (array(select lease_id from kept_runs)) order by r.id
      for update skip locked
    ), extended_runs as (
      update runs r set lease_expires_at = ${expiry} where r.id = any (array(select id from free_runs))
    ), kept_builds as (
      update deployments d set lease_expires_at = ${expiry} from named n
      where n.lease_id = d.lease_id and n.fencing = d.fencing and d.lease_id = any (${ids}::uuid[])
        and d.worker_instance_id = ${input.workerInstanceId}
      returning d.lease_id
    )
    select lease_id, cancel_reason, cancel_force from kept_runs
    union all select lease_id, null, null from kept_builds`.execute(db);
  const kept = new Map(rows.map((row) => [row.lease_id, row]));
  return ids.map((leaseId): LeaseState => {
    const row = kept.get(leaseId);
    if (row === undefined) return { leaseId, status: "lost" };
    if (row.cancel_reason === null) return { leaseId, status: "active" };
    return {
      leaseId,
      status: "active",
      cancel: { reason: row.cancel_reason, force: row.cancel_force ?? false },
    };
  });
}
