/** claimBuilds: queued deployments of the worker's group, oldest first, get a lease each. */
import { sql } from "kysely";
import { type Queryable, retryConflicts } from "../database.ts";
import { insertDeploymentEvents } from "../events.ts";
import type { ClaimInput } from "../runs/index.ts";

export interface ClaimedBuild {
  readonly id: string;
  readonly environment_id: string;
  readonly lease_id: string;
  readonly fencing: number;
  readonly build_attempt: number;
  readonly source_digest: string;
  readonly source_size_bytes: number;
}

/** Lease up to `limit` builds to the worker, with event deployment.building. */
export async function claimBuilds(db: Queryable, input: ClaimInput): Promise<ClaimedBuild[]> {
  if (input.limit <= 0) return [];
  return await retryConflicts(async () => {
    const { rows } = await sql<ClaimedBuild>`
      with candidates as materialized (
        select id from deployments where status = 'queued' and worker_group_id = (
          select i.worker_group_id from worker_instances i where i.id = ${input.workerInstanceId} and i.state <> 'draining')
        order by created_at limit ${input.limit}::integer
        for update skip locked
      ), claimed as (
        update deployments d set status = 'building', lease_id = gen_random_uuid(), fencing = fencing + 1,
          append_number = 0, build_attempt = build_attempt + 1, worker_instance_id = ${input.workerInstanceId},
          building_at = coalesce(building_at, now()), event_seq = event_seq + 1,
          lease_expires_at = now() + ${input.leaseDurationMs}::integer * interval '1 millisecond'
        where d.id = any (array(select id from candidates))
        returning *
      ), changed as (
        select id as deployment_id, event_seq - 1 as base_seq,
          jsonb_build_array(jsonb_build_object('kind', 'deployment.building', 'category', 'lifecycle',
            'message', case when build_attempt = 1 then 'A worker builds it' else 'A worker builds it again' end,
            'severity', 'info', 'source', 'control_plane',
            'attributes', jsonb_build_object('status', 'building', 'attempt', build_attempt))) as events
        from claimed
      ), written as (${insertDeploymentEvents("changed")})
      select id, environment_id, lease_id, fencing, build_attempt, source_digest, source_size_bytes
      from claimed order by created_at`.execute(db);
    return rows;
  });
}
