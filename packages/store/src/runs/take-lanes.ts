/** Step 4 of a claim: lease the first runs of the chosen lanes, in one statement with their events. */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "../database.ts";
import { insertRunEvents } from "../events.ts";
import { type Statement, statement } from "../statement.ts";
import {
  ClaimLostError,
  claimLost,
  countClaim,
  fittingTogether,
  type WorkerOffer,
} from "../workers/capacity.ts";
import type { ClaimedRun, ClaimInput } from "./claim.ts";
import {
  claimable,
  inLane,
  isPaused,
  laneRecords,
  levelOf,
  offerColumns,
  offerOfWorker,
  takenPlaces,
} from "./claimable.ts";
import { commitSoon, tallyRuns } from "./lifecycle.ts";
import type { OpenLane, Taking } from "./turns.ts";

/**
 * Claim from the lanes what is there still, in their turns as far as it fits together into the worker's offer. `queuesAreLocked`: those of the limited lanes, in this transaction; else no run of
 * a limited queue is taken, also when its queue got its limit since the lane was found.
 */
export async function takeLanes(
  db: Queryable,
  input: ClaimInput & WorkerOffer,
  takings: readonly Taking[],
  { queuesAreLocked }: { readonly queuesAreLocked: boolean },
): Promise<ClaimedRun[]> {
  return await takeBy(queuesAreLocked ? takeAlsoLimited : takeUnlimited, db, input, takings);
}

/** Claim from the lane, unless there is another one with queued runs. */
export async function takeFromOnly(
  db: Queryable,
  input: ClaimInput & WorkerOffer,
  lane: OpenLane,
): Promise<ClaimedRun[]> {
  return await takeBy(takeFromOnlyLane, db, input, [{ lane, take: input.limit, before: undefined }]);
}

async function takeBy(
  take: Statement<TakeParameters, ClaimedRow>,
  db: Queryable,
  input: ClaimInput & WorkerOffer,
  takings: readonly Taking[],
): Promise<ClaimedRun[]> {
  const lanes = takings.map(({ lane, take }, turn) => ({
    environment_id: lane.environmentId,
    level: lane.level,
    queue_name: lane.queueName,
    lane_key: lane.laneKey,
    take,
    turn,
  }));
  const rows = await take(db, { ...input, lanes: JSON.stringify(lanes) });
  if (rows[0]?.is_lost === true) throw new ClaimLostError();
  return rows.filter((row): row is ClaimedRow & ClaimedRun => row.id !== null);
}

/** One row at least: without a claim all else is null. */
type ClaimedRow = { readonly is_lost: boolean } & (ClaimedRun | { readonly id: null });

interface TakeParameters extends ClaimInput, WorkerOffer {
  /** JSON. As arrays the planner would count them, and plan each claim anew because it is cheaper than what it assumes. */
  readonly lanes: string;
}

const takeUnlimited = takeStatement({ alsoLimited: false, onlyLane: false });
const takeAlsoLimited = takeStatement({ alsoLimited: true, onlyLane: false });
const takeFromOnlyLane = takeStatement({ alsoLimited: false, onlyLane: true });

interface TakeKind {
  readonly alsoLimited: boolean;
  readonly onlyLane: boolean;
}

/** No run is queued in the group beside those of the lane `l`: its neighbours in runs_queued are of another group. */
function isOnlyLane(group: RawBuilder<unknown>): RawBuilder<boolean> {
  const order = [
    sql`r.worker_group_id`,
    sql`r.environment_id`,
    levelOf("r"),
    sql`r.queue_name`,
    sql`r.lane_key`,
  ];
  const neighbour = (side: RawBuilder<unknown>, direction: RawBuilder<unknown>) => sql`(
    select r.worker_group_id from runs r where r.status = 'queued'
      and (${sql.join(order)}) ${side} (${group}, l.environment_id, l.level, l.queue_name, l.lane_key)
    order by ${sql.join(order.map((each) => sql`${each} ${direction}`))} limit 1) is distinct from ${group}`;
  return sql`(${neighbour(sql`>`, sql`asc`)} and ${neighbour(sql`<`, sql`desc`)})`;
}

function takeStatement({ alsoLimited, onlyLane }: TakeKind): Statement<TakeParameters, ClaimedRow> {
  return statement<TakeParameters, ClaimedRow>((p) => {
    const group = sql`(select worker_group_id from worker)`;
    // One concurrency key may be there at several levels, which share its places (I6).
    const before = sql`coalesce(sum(l.take) over (partition by l.environment_id, l.queue_name, l.lane_key
      order by l.level rows between unbounded preceding and 1 preceding), 0)`;
    const places = alsoLimited
      ? sql`case when q.concurrency_limit is null then l.take
          else least(l.take, greatest(0, q.concurrency_limit - ${takenPlaces} - ${before})) end`
      : sql`l.take`;
    const offer = offerOfWorker;
    return sql`
    with worker as materialized (select id, worker_group_id, ${offerColumns(p)} from worker_instances where id = ${p("workerInstanceId")}),
    lanes as materialized (
      select l.*, ${places} as places
      from ${laneRecords(p("lanes"), sql`l`, sql`take integer, turn integer`)}
      left join queues q on q.environment_id = l.environment_id and q.name = l.queue_name
      where not ${isPaused(sql`l.environment_id`, sql`l.level`, sql`l.queue_name`)}
        ${onlyLane ? sql`and ${isOnlyLane(group)}` : sql``}
    ), candidates as materialized (
      select r.*, l.level, l.turn, row_number() over (partition by l.turn order by r.available_at, r.id) as n
      from lanes l cross join lateral (
        select r.id, r.workspace_id, r.available_at, r.needs_cpu, r.needs_memory_mib, r.needs_disk_mib from runs r
        where ${inLane(group)} and ${claimable(sql`(select id from worker)`, offer)}
          ${alsoLimited ? sql`` : sql`and not r.limited`}
        order by r.available_at, r.id limit l.places for update skip locked) r
    ), one_per_workspace as (
      select distinct on (workspace_id) * from candidates order by workspace_id, level, available_at, id
    ), chosen as materialized (${fittingTogether("one_per_workspace", sql`x.n, x.turn`, offer)}
    ), counted as (${countClaim(p("workerInstanceId"), offer)}
    ), claimed as (
      update runs r set status = 'running', execution_status = 'leased', lease_id = gen_random_uuid(),
        attempt_id = case when r.execution_status = 'resume_queued' then r.attempt_id else gen_random_uuid() end,
        attempt_number = attempt_number + case when r.execution_status = 'resume_queued' then 0 else 1 end, fencing = fencing + 1, append_number = 0, started_at = null,
        worker_instance_id = ${p("workerInstanceId")}, event_seq = event_seq + 1, updated_at = now(), waiting_reason = null,
        lease_expires_at = now() + ${p("leaseDurationMs")}::integer * interval '1 millisecond'
      where r.id = any (array(select id from chosen)) and r.status = 'queued' and exists (select from counted)
      returning *
    ), changed as (
      select id as run_id, event_seq - 1 as base_seq, lease_id, attempt_id, attempt_number,
        jsonb_build_array(jsonb_build_object('kind', 'run_lease.leased', 'message', 'run_lease.leased',
          'category', 'lifecycle', 'severity', 'info', 'source', 'control_plane', 'redaction_class', 'none',
          'attributes', jsonb_build_object('worker_instance_id', worker_instance_id, 'fencing', fencing))) as events
      from claimed
    ), written as (${insertRunEvents("changed")}),
    changes as (select environment_id, 'queued' as from_status, 'running' as to_status from claimed),
    tally as (${tallyRuns("changes")}),
    pinned as (
      update workspaces w set worker_instance_id = ${p("workerInstanceId")},
        dirty_state = case w.dirty_state when 'capture_failed' then 'dirty_state_lost' else w.dirty_state end
      where w.id = any (array(select workspace_id from claimed))
        and w.worker_instance_id is distinct from ${p("workerInstanceId")}
    )
    select ${claimLost} as is_lost, q.* from (select 1) one left join (
    select claimed.id, claimed.environment_id, claimed.project_id, session_id, deployment_id, deployment_task_id,
      deployment_version, workspace_id, lease_id, fencing, attempt_id, attempt_number, max_duration_seconds, checkpoint_id,
      active_ms, coalesce(w.is_here, false) as workspace_is_here, w.is_dirty as workspace_is_dirty, w.state as workspace_state, w.current_version_id as base_version_id,
      w.manifest_digest as base_manifest_digest, payload, metadata::text,
      queue_name, extract(epoch from now() - available_at)::float8 as waited_seconds, trace_context, ${commitSoon}
    from claimed cross join lateral (
      select w.state, w.worker_instance_id = ${p("workerInstanceId")} and w.dirty_state <> 'dirty_state_lost' as is_here,
        w.dirty_state <> 'clean' as is_dirty, w.current_version_id,
        (select v.manifest_digest from workspace_versions v where v.id = w.current_version_id) as manifest_digest
      from workspaces w where w.id = claimed.workspace_id limit 1 for no key update) w
    order by priority desc, available_at, claimed.id) q on true`;
  });
}
