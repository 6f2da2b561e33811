/**
 * Step 1 of a claim: a look at the lanes that have queued runs, by skips in the index runs_queued, without locks.
 *
 *   worker group > environment > level > queue > concurrency key > runs by age
 *
 * How many rows it reads grows with the lanes that it looks at, and not with what is queued in them. It looks at a page of
 * environments, from the place on where the worker's last claim ended, and in each at the `window` best lanes and, where there
 * are more, at a window of the rest that moves on with each claim (T2 of turns.ts). So priorities are exact among the
 * environment's first lanes that are not full, however many there are behind. A paused queue costs one probe per level.
 *
 * What lost: docs/decisions/0017-fair-claims.md.
 */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "../database.ts";
import { statement } from "../statement.ts";
import { offerParameters, type WorkerOffer } from "../workers/capacity.ts";
import { claimable, inLane, isPaused, levelOf, takenPlaces } from "./claimable.ts";
import type { ClaimTurns, OpenLane, WorkerPlace } from "./turns.ts";

/** Lanes of an environment that one claim looks at, twice: from the best one on, and from where the last claim stopped. */
const laneWindow = 16;
const beforeAll = "00000000-0000-0000-0000-000000000000";

export interface FindLanes extends WorkerOffer {
  readonly workerInstanceId: string;
  /** Runs wanted. */
  readonly limit: number;
  /** Size of the page. */
  readonly environments: number;
}

/** Look at the next lanes, and move the worker's place on. `isAll`: there are no others. */
export async function findLanes(
  db: Queryable,
  turns: ClaimTurns,
  input: FindLanes,
): Promise<{ readonly open: readonly OpenLane[]; readonly isAll: boolean }> {
  const place = turns.placeOf(input.workerInstanceId);
  const lanes = place.lanes.values();
  const rows = await readLanes(db, {
    ...input,
    after: place.environmentId ?? beforeAll,
    placeEnvironments: lanes.map((lane) => lane.environmentId),
    placeLevels: lanes.map((lane) => lane.level),
    placeQueues: lanes.map((lane) => lane.queueName),
    placeKeys: lanes.map((lane) => lane.laneKey),
  });
  return { open: openLanes(rows), isAll: moveOn(place, rows, input.environments) };
}

/** Rows are in the order of the walk. */
function moveOn(place: WorkerPlace, rows: readonly LaneRow[], pageSize: number): boolean {
  const environments = [...new Set(rows.map((row) => row.page_environment))];
  place.environmentId = environments.at(-1);
  let isAll = environments.length < pageSize;
  for (const environmentId of environments) {
    const ends = rows.filter((row) => row.page_environment === environmentId && row.n === laneWindow);
    // The end of the second window; there is none when it came to the end of all lanes: then on from that of the first.
    const end =
      ends.find((row) => row.part === 2) ??
      (place.lanes.get(environmentId) === undefined ? ends[0] : undefined);
    if (end === undefined) place.lanes.delete(environmentId);
    else {
      const { level, queue_name: queueName, lane_key: laneKey } = end;
      place.lanes.set(environmentId, { environmentId, level, queueName, laneKey });
      isAll = false;
    }
  }
  return isAll;
}

function openLanes(rows: readonly LaneRow[]): OpenLane[] {
  const open = new Map<string, OpenLane>();
  for (const row of rows) {
    if (row.since === null) continue;
    const { page_environment: environmentId, level, queue_name: queueName, lane_key: laneKey } = row;
    open.set(JSON.stringify([environmentId, level, queueName, laneKey]), {
      environmentId,
      level,
      queueName,
      laneKey,
      since: row.since.getTime(),
      depth: row.depth,
      limited: row.limited,
      places: row.places ?? undefined,
    });
  }
  return [...open.values()];
}

/** A lane that is open, or the last one of a window; neither: the environment alone. */
interface LaneRow {
  readonly page_environment: string;
  readonly part: 1 | 2 | null;
  readonly n: number | null;
  readonly level: number;
  readonly queue_name: string;
  readonly lane_key: string;
  readonly limited: boolean;
  /** Null: no run of it can be claimed. */
  readonly since: Date | null;
  readonly depth: number;
  readonly places: number | null;
}

interface LaneParameters extends FindLanes {
  readonly after: string;
  readonly placeEnvironments: readonly string[];
  readonly placeLevels: readonly number[];
  readonly placeQueues: readonly string[];
  readonly placeKeys: readonly string[];
}

const readLanes = statement<LaneParameters, LaneRow>((p) => {
  const group = sql`(select worker_group_id from worker)`;
  const environmentFrom = (condition: RawBuilder<unknown>) => sql`select r.environment_id from runs r
    where r.status = 'queued' and r.worker_group_id = ${group} and ${condition} order by r.environment_id limit 1`;
  const lane = sql`${levelOf("r")}, r.queue_name, r.lane_key`;
  const laneFrom = (environment: RawBuilder<unknown>, condition: RawBuilder<unknown>) => sql`
    select ${levelOf("r")} as level, r.queue_name, r.lane_key from runs r
    where r.status = 'queued' and r.worker_group_id = ${group} and r.environment_id = ${environment} and ${condition}
    order by ${lane} limit 1`;
  return sql`
    with recursive worker as materialized (select worker_group_id from worker_instances where id = ${p("workerInstanceId")}),
    after as (
      select e.environment_id, 1 as n from (${environmentFrom(sql`r.environment_id > ${p("after")}::uuid`)}) e
      union all
      select e.environment_id, a.n + 1 from after a
      cross join lateral (${environmentFrom(sql`r.environment_id > a.environment_id`)}) e where a.n < ${p("environments")}::integer
    ), before as (
      select e.environment_id, 1 as n from (${environmentFrom(sql`r.environment_id <= ${p("after")}::uuid`)}) e
      union all
      select e.environment_id, b.n + 1 from before b
      cross join lateral (${environmentFrom(sql`r.environment_id > b.environment_id and r.environment_id <= ${p("after")}::uuid`)}) e
      where b.n < ${p("environments")}::integer
    ), page as materialized (
      select environment_id, row_number() over () as position
      from (select environment_id from after union all select environment_id from before limit ${p("environments")}::integer) e
    ), starts as (
      select g.environment_id, 1 as part, -9223372036854775808 as level, '' as queue_name, '' as lane_key from page g
      union all
      select g.environment_id, 2, c.level, c.queue_name, c.lane_key from page g join unnest(${p("placeEnvironments")}::uuid[],
        ${p("placeLevels")}::bigint[], ${p("placeQueues")}::text[], ${p("placeKeys")}::text[])
        c (environment_id, level, queue_name, lane_key) on c.environment_id = g.environment_id
    ), walk as (
      select s.environment_id, s.part, 1 as n, f.level, f.queue_name, f.lane_key, ${isPaused(sql`s.environment_id`, sql`f.level`, sql`f.queue_name`)} as paused
      from starts s cross join lateral (
        ${laneFrom(sql`s.environment_id`, sql`(${lane}) > (s.level, s.queue_name, s.lane_key)`)}) f
      union all
      select w.environment_id, w.part, w.n + 1, f.level, f.queue_name, f.lane_key, ${isPaused(sql`w.environment_id`, sql`f.level`, sql`f.queue_name`)}
      from walk w cross join lateral (
        (${laneFrom(sql`w.environment_id`, sql`not w.paused and (${lane}) > (w.level, w.queue_name, w.lane_key)`)})
        union all
        (${laneFrom(sql`w.environment_id`, sql`w.paused and (${levelOf("r")}, r.queue_name) > (w.level, w.queue_name)`)})) f
      where w.n < ${sql.lit(laneWindow)}
    ), seen as (
      select l.*, q.concurrency_limit, head.limited or q.concurrency_limit is not null as limited, head.available_at as since,
        q.concurrency_limit - taken.places as places
      from walk l left join queues q on q.environment_id = l.environment_id and q.name = l.queue_name
      cross join lateral (select case when q.concurrency_limit is not null then ${takenPlaces} end as places) taken
      left join lateral (
        select r.limited, r.available_at from runs r
        where not l.paused and (q.concurrency_limit is null or taken.places < q.concurrency_limit)
          and ${inLane(group)} and ${claimable(p("workerInstanceId"), offerParameters(p))}
        order by r.available_at, r.id limit 1) head on true
    )
    select g.environment_id as page_environment, s.part, s.n, s.level, s.queue_name, s.lane_key, s.limited, s.since, s.places,
      case when s.since is not null then (select count(*)::integer from (
        select from runs r, (select s.environment_id, s.level, s.queue_name, s.lane_key) l
        where ${inLane(group)} and r.available_at <= now() limit ${p("limit")}::integer) d) end as depth
    from page g left join seen s on s.environment_id = g.environment_id and (s.since is not null or s.n = ${sql.lit(laneWindow)})
    order by g.position, s.part, s.n`;
});
