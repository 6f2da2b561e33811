/** Which queued runs a worker may take, and the order of lanes. Every statement of a claim is put together of these. */
import { type RawBuilder, sql } from "kysely";
import { fitsOffer, type OfferSql, offerParameters, type WorkerOffer } from "../workers/capacity.ts";

const offerNames = [
  "workerGroupId",
  "architecture",
  "freeCpu",
  "freeMemoryMib",
  "freeDiskMib",
  "freeSlots",
  "claimSeq",
] as const satisfies readonly (keyof WorkerOffer)[];

/** How long a due run waits for the worker that has its workspace on its disk. */
const warmSeconds = 2;

/**
 * Level of a run: lower goes first in its environment. Runs that resume come before all others (they hold a saved guest, and
 * somebody answered what they waited for), then higher priority. The text is that of the index runs_queued.
 */
export function levelOf(run: string): RawBuilder<number> {
  const [priority, status] = [sql.ref(`${run}.priority`), sql.ref(`${run}.execution_status`)];
  return sql`(-(${priority}::bigint) - case when ${status} = 'resume_queued' then 8589934592 else 0 end)`;
}

/** Levels from here on are of runs that start; an int32 priority is above, a resuming run far below. */
export const firstStartLevel = -(2 ** 32);

/** Whether the queue of a lane `l` is paused for it: runs that resume go on. */
export function isPaused(l: RawBuilder<unknown>, level: RawBuilder<unknown>, queue: RawBuilder<unknown>) {
  return sql<boolean>`(${level} >= ${sql.lit(firstStartLevel)} and (select true from paused_queues z
    where z.environment_id = ${l} and z.name = ${queue}) is not null)`;
}

/** `r` is a queued run of the lane `l` (environment_id, level, queue_name, lane_key) in the worker group. */
export function inLane(group: RawBuilder<unknown>) {
  return sql<boolean>`r.status = 'queued' and r.worker_group_id = ${group} and r.environment_id = l.environment_id
    and ${levelOf("r")} = l.level and r.queue_name = l.queue_name and r.lane_key = l.lane_key`;
}

/** Columns of the CTE `worker`, next to those of the worker: what it offers. */
export function offerColumns(p: (name: keyof WorkerOffer) => RawBuilder<unknown>): RawBuilder<unknown> {
  const offer = offerParameters(p);
  return sql.join(offerNames.map((name) => sql`${offer[name]} as ${sql.ref(`offer_${name}`)}`));
}

/**
 * The same as it is read from there. Of parameters themselves the planner would see the values: a plan for those seems cheaper,
 * and is made for each claim anew, which takes longer than the claim.
 */
export const offerOfWorker = Object.fromEntries(
  offerNames.map((name) => [name, sql`(select ${sql.ref(`offer_${name}`)} from worker)`]),
) as unknown as OfferSql;

/** Lanes out of a JSON text, with what else is in it. */
export function laneRecords(json: RawBuilder<unknown>, as: RawBuilder<unknown>, more?: RawBuilder<unknown>) {
  const rest = more === undefined ? sql`` : sql`, ${more}`;
  return sql`jsonb_to_recordset(${json}::jsonb) ${as} (environment_id uuid, level bigint, queue_name text, lane_key text${rest})`;
}

/** How many runs of the lane `l` hold a lease (I6), by an index of those only. */
export const takenPlaces = sql<number>`(select count(*)::integer from runs a where a.lease_id is not null and a.limited
  and a.environment_id = l.environment_id and a.queue_name = l.queue_name and a.lane_key = l.lane_key)`;

/**
 * `r`, a queued run, can be claimed now by this worker, and would fit alone into what it has free. Scalar subqueries, because the planner makes joins of EXISTS, and at
 * some sizes of the tables hash joins, which read them whole: a backlog of 6,000 runs was then claimed at 330/s instead of
 * 1,500/s.
 */
export function claimable(workerInstanceId: RawBuilder<unknown>, offer: OfferSql) {
  return sql<boolean>`r.available_at <= now() and ${fitsOffer("r", offer)}
    and (r.ttl_expires_at is null or r.ttl_expires_at > now())
    and (select a.id from runs a where a.workspace_id = r.workspace_id and a.id <> r.id
      and (a.status in ('running', 'waiting') or a.execution_status = 'resume_queued') limit 1) is null
    and (select m.id from workspace_materializations m where m.workspace_id = r.workspace_id and m.ended_at is null
      and m.run_id is null limit 1) is null
    and (r.execution_status <> 'resume_queued' or (select true from run_checkpoints k, worker_instances i
      where k.run_id = r.id and i.id = ${workerInstanceId}
        and k.manifest->>'compatibility' = i.capabilities->>'checkpoint_compatibility'
        and (i.id <> all (k.failed_on) or not exists (select from worker_instances o
          where o.state = 'active' and o.worker_group_id = r.worker_group_id and o.id <> all (k.failed_on)
            and o.capabilities->>'checkpoint_compatibility' = i.capabilities->>'checkpoint_compatibility'))))
    and (r.execution_status = 'resume_queued'
      or (r.available_at <= now() - ${sql.lit(warmSeconds)} * interval '1 second'
        and (select w.dirty_state from workspaces w where w.id = r.workspace_id) <> 'capture_failed')
      or coalesce((select w.worker_instance_id = ${workerInstanceId}
        or (select i.state from worker_instances i where i.id = w.worker_instance_id) <> 'active'
      from workspaces w where w.id = r.workspace_id), true))`;
}
