/** Reading workers, for operators. */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "../database.ts";
import { isNamed } from "../worker-groups/groups.ts";
import { freeOf, heldByWorker } from "./capacity.ts";
import type { WorkerState } from "./lifecycle.ts";

export interface WorkerRow {
  readonly id: string;
  readonly name: string;
  readonly group_id: string;
  readonly group_name: string;
  readonly state: WorkerState;
  readonly drain_requested_at: Date | null;
  readonly version: string;
  readonly labels: Record<string, string>;
  readonly capacity: Record<string, unknown>;
  readonly capabilities: Record<string, unknown>;
  readonly capacity_free: Record<string, unknown> | null;
  readonly bootstrap_token_id: string | null;
  readonly credential_issued_at: Date;
  readonly registered_at: Date;
  readonly last_heartbeat_at: Date;
  readonly held_cpu: number;
  readonly held_memory_mib: number;
  readonly held_disk_mib: number;
  readonly held_slots: number;
  readonly held_builds: number;
  readonly free_cpu: number;
  readonly free_memory_mib: number;
  readonly free_disk_mib: number;
  readonly free_slots: number;
}

function selectWorkers(condition: RawBuilder<unknown>, limit: number) {
  return sql<WorkerRow>`
    select i.id, i.name, g.id as group_id, g.name as group_name, i.state, i.drain_requested_at, i.version, i.labels,
      i.capacity, i.capabilities, i.capacity_free, i.bootstrap_token_id, i.credential_issued_at, i.registered_at,
      i.last_heartbeat_at, h.cpu as held_cpu, h.memory_mib as held_memory_mib, h.disk_mib as held_disk_mib,
      h.slots as held_slots, ${freeOf("cpu")} as free_cpu, ${freeOf("memory_mib")} as free_memory_mib,
      ${freeOf("disk_mib")} as free_disk_mib, ${freeOf("slots")} as free_slots,
      (select count(*) from deployments d where d.worker_instance_id = i.id and d.lease_id is not null) as held_builds
    from worker_instances i join worker_groups g on g.id = i.worker_group_id cross join lateral ${heldByWorker} h
    where ${condition} order by i.id limit ${limit}::integer`;
}

export interface ListWorkers {
  /** By name or id. */
  readonly group?: string | undefined;
  readonly state?: WorkerState | undefined;
  readonly after?: string | undefined;
  readonly limit: number;
}

/** By id; the page after `after`. */
export async function listWorkers(
  db: Queryable,
  { group, state, after, limit }: ListWorkers,
): Promise<WorkerRow[]> {
  const conditions = [
    ...(group === undefined ? [] : [isNamed(group)]),
    ...(state === undefined ? [] : [sql`i.state = ${state}`]),
    ...(after === undefined ? [] : [sql`i.id > ${after}::uuid`]),
  ];
  const condition = conditions.length === 0 ? sql`true` : sql.join(conditions, sql` and `);
  return (await selectWorkers(condition, limit).execute(db)).rows;
}

export async function getWorker(db: Queryable, id: string): Promise<WorkerRow | undefined> {
  return (await selectWorkers(sql`i.id = ${id}`, 1).execute(db)).rows[0];
}
