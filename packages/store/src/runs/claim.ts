/**
 * claimRuns: the best queued runs get a lease, in one statement with their events.
 *
 * While no run of a limited queue is queued (the usual case) that is one index scan with SKIP LOCKED. Else, so that the
 * backlog of a full lane costs nothing, lane by lane:
 *
 *   1 walk the lanes that have due runs (one index probe per lane), keep those with a free place
 *   2 lock the rows of their queues in `queues`, in order           (I6: claims of one limited queue take turns)
 *   3 count again and claim, together with the unlimited ones, best priority first
 *
 * A run whose workspace was last on another active worker is left to that worker for `warmSeconds`: it has the files on its
 * disk, the others restore the saved version; and for as long as it is active when its disk has what could not be saved. A run
 * that resumes goes to whichever worker can restore its checkpoint. A workspace in use blocks its other runs (I5: the unique
 * index decides the race between two claimers, and the loser claims again), and so does a live copy of its own
 * (M3 of ../materializations/lifecycle.ts; claim.ts there is what this races with).
 */
import { type RawBuilder, sql } from "kysely";
import { type Queryable, retryConflicts, sqlState, transaction, violatedConstraint } from "../database.ts";
import { insertRunEvents } from "../events.ts";
import type { WorkspaceState } from "../schema-workspaces.ts";
import { type Statement, statement } from "../statement.ts";
import { commitSoon, tallyRuns } from "./lifecycle.ts";

export interface ClaimInput {
  readonly workerInstanceId: string;
  /** Up to that many. */
  readonly limit: number;
  readonly leaseDurationMs: number;
}

/** What the worker needs, apart from the task's definition (`readTaskDefinition`) and secrets. */
export interface ClaimedRun {
  readonly id: string;
  readonly environment_id: string;
  readonly project_id: string;
  readonly session_id: string;
  readonly deployment_id: string;
  readonly deployment_task_id: string;
  readonly deployment_version: string;
  readonly workspace_id: string;
  readonly lease_id: string;
  readonly fencing: number;
  readonly attempt_id: string;
  readonly attempt_number: number;
  readonly max_duration_seconds: number;
  /** Set: resume from it (`readResume`). */
  readonly checkpoint_id: string | null;
  /** Already used of max_duration_seconds. */
  readonly active_ms: number;
  /** The worker had the workspace last; else what it may have of it on its disk is old. */
  readonly workspace_is_here: boolean;
  /** What it was not called clean for ends with the next save. */
  readonly workspace_is_dirty: boolean;
  readonly workspace_state: WorkspaceState;
  /** The files to start with; null: none. */
  readonly base_version_id: string | null;
  /** Null with an id: a restore was committed since the claim began, which sees the id (the row is locked) and not the version. */
  readonly base_manifest_digest: string | null;
  /** JSON texts. */
  readonly payload: string;
  readonly metadata: string;
}

interface Lane {
  readonly environment_id: string;
  readonly queue_name: string;
  readonly lane_key: string;
}

/** How long a due run waits for the worker that has its workspace on its disk. */
const warmSeconds = 2;

/** Lanes taken into one claim: the best ones by their first run. */
const maxLanes = 100;

/** Lease up to `limit` runs to the worker, best priority first, then the longest waiting. */
export async function claimRuns(db: Queryable, input: ClaimInput): Promise<ClaimedRun[]> {
  if (input.limit <= 0) return [];
  const isConflict = (error: unknown) =>
    sqlState(error) === "40P01" || violatedConstraint(error) === "runs_active_in_workspace";
  return await retryConflicts(async () => {
    const unlimited = await claim(db, "unless limited", input);
    if (unlimited.length > 0) return unlimited;
    const lanes = await findOpenLanes(db, input.workerInstanceId);
    if (lanes === undefined) return [];
    if (lanes.length === 0) return await claim(db, "unlimited", input);
    return await transaction(db, async (tx) => {
      await lockQueues(tx, lanes);
      return await claim(tx, "with lanes", {
        ...input,
        laneEnvironments: lanes.map((lane) => lane.environment_id),
        laneQueues: lanes.map((lane) => lane.queue_name),
        laneKeys: lanes.map((lane) => lane.lane_key),
      });
    });
  }, isConflict);
}

/**
 * `r` can be claimed now by this worker. Scalar subqueries, because the planner makes joins of EXISTS, and at some sizes of
 * the tables hash joins, which read them whole: a backlog of 6,000 runs was then claimed at 330/s instead of 1,500/s.
 */
function claimable(workerInstanceId: RawBuilder<unknown>) {
  return sql<boolean>`r.status = 'queued' and r.available_at <= now()
    and (r.ttl_expires_at is null or r.ttl_expires_at > now())
    and (select a.id from runs a where a.workspace_id = r.workspace_id and a.id <> r.id
      and (a.status in ('running', 'waiting') or a.execution_status = 'resume_queued') limit 1) is null
    and (select m.id from workspace_materializations m where m.workspace_id = r.workspace_id and m.ended_at is null
      and m.run_id is null limit 1) is null
    and (r.execution_status <> 'resume_queued' or (select true from run_checkpoints k, worker_instances i
      where k.run_id = r.id and i.id = ${workerInstanceId}
        and k.manifest->>'compatibility' = i.capabilities->>'checkpoint_compatibility'
        and (i.id <> all (k.failed_on) or not exists (select from worker_instances o
          where o.state = 'active' and o.id <> all (k.failed_on)
            and o.capabilities->>'checkpoint_compatibility' = i.capabilities->>'checkpoint_compatibility'))))
    and (r.execution_status = 'resume_queued'
      or (r.available_at <= now() - ${sql.lit(warmSeconds)} * interval '1 second'
        and (select w.dirty_state from workspaces w where w.id = r.workspace_id) <> 'capture_failed')
      or coalesce((select w.worker_instance_id = ${workerInstanceId}
        or (select i.state from worker_instances i where i.id = w.worker_instance_id) <> 'active'
      from workspaces w where w.id = r.workspace_id), true))`;
}

/** Step 1; undefined when no limited run is queued at all. The number of running runs is counted by an index of running ones only. */
async function findOpenLanes(db: Queryable, workerInstanceId: string): Promise<Lane[] | undefined> {
  const limited = await sql`select from runs where status = 'queued' and limited limit 1`.execute(db);
  if (limited.rows.length === 0) return undefined;
  const { rows } = await sql<Lane>`
    with recursive lanes as (
      (select environment_id, queue_name, lane_key from runs where status = 'queued' and limited
       order by environment_id, queue_name, lane_key limit 1)
      union all
      select n.environment_id, n.queue_name, n.lane_key from lanes l cross join lateral (
        select r.environment_id, r.queue_name, r.lane_key from runs r where r.status = 'queued' and r.limited
          and (r.environment_id, r.queue_name, r.lane_key) > (l.environment_id, l.queue_name, l.lane_key)
        order by r.environment_id, r.queue_name, r.lane_key limit 1) n
    )
    select l.environment_id, l.queue_name, l.lane_key from lanes l
    left join queues q on q.environment_id = l.environment_id and q.name = l.queue_name
    cross join lateral (
      select count(*) as running from runs a where a.lease_id is not null and a.limited
        and a.environment_id = l.environment_id and a.queue_name = l.queue_name and a.lane_key = l.lane_key) a
    cross join lateral (
      select r.priority, r.available_at, r.id from runs r where r.limited and r.environment_id = l.environment_id
        and r.queue_name = l.queue_name and r.lane_key = l.lane_key and ${claimable(sql`${workerInstanceId}`)}
      order by r.priority desc, r.available_at, r.id limit 1) best
    where q.concurrency_limit is null or a.running < q.concurrency_limit
    order by best.priority desc, best.available_at, best.id limit ${sql.lit(maxLanes)}`.execute(db);
  return rows;
}

/** Step 2. In one order for all claimers, so that they cannot deadlock. */
async function lockQueues(db: Queryable, lanes: readonly Lane[]): Promise<void> {
  await sql`select from queues where (environment_id, name) in (
      select * from unnest(${lanes.map((lane) => lane.environment_id)}::uuid[], ${lanes.map((lane) => lane.queue_name)}::text[]))
    order by environment_id, name for update`.execute(db);
}

type ClaimKind = "unless limited" | "unlimited" | "with lanes";

interface ClaimParameters extends ClaimInput {
  readonly laneEnvironments?: readonly string[];
  readonly laneQueues?: readonly string[];
  readonly laneKeys?: readonly string[];
}

/** Step 3, or all of it: `unless limited` claims nothing when a run of a limited queue is queued. */
function claimStatement(kind: ClaimKind, limit: number): Statement<ClaimParameters, ClaimedRun> {
  return statement<ClaimParameters, ClaimedRun>((p) => {
    const canClaim = claimable(p("workerInstanceId"));
    const guard =
      kind === "unless limited"
        ? sql`and not exists (select from runs where status = 'queued' and limited)`
        : sql``;
    const inLanes = sql`
    select r.id, r.workspace_id, r.priority, r.available_at
    from unnest(${p("laneEnvironments")}::uuid[], ${p("laneQueues")}::text[],
      ${p("laneKeys")}::text[]) l (environment_id, queue_name, lane_key)
    left join queues q on q.environment_id = l.environment_id and q.name = l.queue_name
    cross join lateral (
      select count(*)::integer as running from runs a where a.lease_id is not null and a.limited
        and a.environment_id = l.environment_id and a.queue_name = l.queue_name and a.lane_key = l.lane_key) a
    cross join lateral (
      select r.id, r.workspace_id, r.priority, r.available_at from runs r where r.limited
        and r.environment_id = l.environment_id and r.queue_name = l.queue_name and r.lane_key = l.lane_key and ${canClaim}
      order by r.priority desc, r.available_at, r.id
      limit least(${sql.lit(limit)}, greatest(0, coalesce(q.concurrency_limit, ${sql.lit(limit)} + a.running) - a.running))
      for update skip locked) r`;
    return sql`
    with unlimited as materialized (
      select r.id, r.workspace_id, r.priority, r.available_at from runs r where not r.limited and ${canClaim} ${guard}
      order by r.priority desc, r.available_at, r.id limit ${sql.lit(limit)} for update skip locked
    ), candidates as (
      select * from unlimited ${kind === "with lanes" ? sql`union all (${inLanes})` : sql``}
    ), one_per_workspace as (
      select distinct on (workspace_id) id, priority, available_at from candidates
      order by workspace_id, priority desc, available_at, id
    ), claimed as (
      update runs r set status = 'running', execution_status = 'leased', lease_id = gen_random_uuid(),
        attempt_id = case when r.execution_status = 'resume_queued' then r.attempt_id else gen_random_uuid() end,
        attempt_number = attempt_number + case when r.execution_status = 'resume_queued' then 0 else 1 end, fencing = fencing + 1, append_number = 0, started_at = null,
        worker_instance_id = ${p("workerInstanceId")}, event_seq = event_seq + 1, updated_at = now(),
        lease_expires_at = now() + ${p("leaseDurationMs")}::integer * interval '1 millisecond'
      where r.id = any (array(
          select id from one_per_workspace order by priority desc, available_at, id limit ${sql.lit(limit)}))
        and r.status = 'queued'
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
    select claimed.id, claimed.environment_id, claimed.project_id, session_id, deployment_id, deployment_task_id,
      deployment_version, workspace_id, lease_id, fencing, attempt_id, attempt_number, max_duration_seconds, checkpoint_id,
      active_ms, coalesce(w.is_here, false) as workspace_is_here, w.is_dirty as workspace_is_dirty, w.state as workspace_state, w.current_version_id as base_version_id,
      w.manifest_digest as base_manifest_digest, payload, metadata::text, ${commitSoon}
    from claimed cross join lateral (
      select w.state, w.worker_instance_id = ${p("workerInstanceId")} and w.dirty_state <> 'dirty_state_lost' as is_here,
        w.dirty_state <> 'clean' as is_dirty, w.current_version_id,
        (select v.manifest_digest from workspace_versions v where v.id = w.current_version_id) as manifest_digest
      from workspaces w where w.id = claimed.workspace_id limit 1 for no key update) w
    order by priority desc, available_at, claimed.id`;
  });
}

/** The limit is part of the text: for one it does not know the planner assumes a tenth of the table. */
const statements = new Map<string, Statement<ClaimParameters, ClaimedRun>>();
const maxClaim = 100;

async function claim(db: Queryable, kind: ClaimKind, input: ClaimParameters): Promise<ClaimedRun[]> {
  const limit = Math.min(maxClaim, Math.trunc(input.limit));
  const key = `${kind} ${limit}`;
  const known = statements.get(key) ?? claimStatement(kind, limit);
  statements.set(key, known);
  return await known(db, input);
}
