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
import { type Statement, statement } from "../statement.ts";
import type { WorkerOffer } from "../workers/capacity.ts";
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
import type { ClaimTurns, OpenLane, WorkerPlace } from "./turns.ts";

/** Runs of a lane that are counted. */
export const maxDepth = 100;
const beforeAll = "00000000-0000-0000-0000-000000000000";

export interface FindLanes extends WorkerOffer {
  readonly workerInstanceId: string;
  /** Size of the page. */
  readonly environments: number;
  /** Lanes of each that are looked at, twice: from the best one on, and from where the last claim stopped. */
  readonly window: number;
}

/** Look at the next lanes, and move the worker's place on. `isAll`: there are no others. */
export async function findLanes(
  db: Queryable,
  turns: ClaimTurns,
  input: FindLanes,
): Promise<{ readonly open: readonly OpenLane[]; readonly isAll: boolean }> {
  const place = turns.placeOf(input.workerInstanceId);
  const lanes = [...place.lanes.values()].map((lane) => ({
    environment_id: lane.environmentId,
    level: lane.level,
    queue_name: lane.queueName,
    lane_key: lane.laneKey,
  }));
  const rows = await readLanes(input)(db, {
    ...input,
    after: place.environmentId ?? beforeAll,
    places: JSON.stringify(lanes),
  });
  return { open: openLanes(rows), isAll: moveOn(place, rows, input) };
}

/** Rows are in the order of the walk. */
function moveOn(
  place: WorkerPlace,
  rows: readonly LaneRow[],
  { environments: pageSize, window }: FindLanes,
): boolean {
  const environments = [...new Set(rows.map((row) => row.page_environment))];
  place.environmentId = environments.at(-1);
  let isAll = environments.length < pageSize;
  for (const environmentId of environments) {
    const ends = rows.filter((row) => row.page_environment === environmentId && row.n === window);
    // The end of the second window. There is none when it came to the end of all lanes: then on from that of the first.
    const isSecond = place.lanes.get(environmentId) !== undefined;
    const end = ends.find((row) => row.part === (isSecond ? 2 : 1));
    if (ends.length > 0) isAll = false;
    if (end === undefined) place.lanes.delete(environmentId);
    else {
      const { level, queue_name: queueName, lane_key: laneKey } = end;
      place.lanes.set(environmentId, { environmentId, level, queueName, laneKey });
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

interface LaneParameters extends WorkerOffer {
  readonly workerInstanceId: string;
  readonly after: string;
  /** JSON of lanes. */
  readonly places: string;
}

/**
 * By the sizes of the page and the windows, which are part of the text: the planner takes a limit that it does not know for a tenth
 * of the table, and plans each claim anew when it finds it smaller.
 */
const statements = new Map<string, Statement<LaneParameters, LaneRow>>();

function readLanes({ environments, window }: FindLanes): Statement<LaneParameters, LaneRow> {
  const key = `${environments} ${window}`;
  const known = statements.get(key) ?? laneStatement(sql.lit(environments), sql.lit(window));
  statements.set(key, known);
  return known;
}

const laneStatement = (environments: RawBuilder<number>, window: RawBuilder<number>) =>
  statement<LaneParameters, LaneRow>((p) => {
    // Parameters are read from a table: a plan for their values would seem cheaper, and be made for each claim.
    const group = sql`(select worker_group_id from worker)`;
    // By the order of runs_queued alone: in that of environments the planner would take an index of all runs, ended ones too.
    const environmentAfter = (environment: RawBuilder<unknown>) => sql`
    select r.worker_group_id, r.environment_id from runs r
    where r.status = 'queued' and (r.worker_group_id, r.environment_id) > (${group}, ${environment})
    order by r.worker_group_id, r.environment_id limit 1`;
    const isIn = sql`e.worker_group_id = ${group}`;
    const after = sql`(select after from worker)`;
    const isBefore = sql`${isIn} and e.environment_id <= ${after}`;
    const lane = sql`${levelOf("r")}, r.queue_name, r.lane_key`;
    const laneFrom = (environment: RawBuilder<unknown>, condition: RawBuilder<unknown>) => sql`
    select ${levelOf("r")} as level, r.queue_name, r.lane_key from runs r
    where r.status = 'queued' and r.worker_group_id = ${group} and r.environment_id = ${environment} and ${condition}
    order by ${lane} limit 1`;
    return sql`
    with recursive worker as materialized (
      select id, worker_group_id, ${p("after")}::uuid as after, ${offerColumns(p)} from worker_instances where id = ${p("workerInstanceId")}),
    after as (
      select e.environment_id, 1 as n from (${environmentAfter(after)}) e where ${isIn}
      union all
      select e.environment_id, a.n + 1 from after a cross join lateral (${environmentAfter(sql`a.environment_id`)}) e
      where a.n < ${environments} and ${isIn}
    ), before as (
      select e.environment_id, 1 as n from (${environmentAfter(sql`${sql.lit(beforeAll)}::uuid`)}) e where ${isBefore}
      union all
      select e.environment_id, b.n + 1 from before b cross join lateral (${environmentAfter(sql`b.environment_id`)}) e
      where b.n < ${environments} and ${isBefore}
    ), page as materialized (
      select environment_id, row_number() over () as position
      from (select environment_id from after union all select environment_id from before limit ${environments}) e
    ), starts as (
      select g.environment_id, 1 as part, -9223372036854775808 as level, '' as queue_name, '' as lane_key from page g
      union all
      select g.environment_id, 2, c.level, c.queue_name, c.lane_key from page g join ${laneRecords(p("places"), sql`c`)} on c.environment_id = g.environment_id
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
      where w.n < ${window}
    ), seen as (
      select l.*, q.concurrency_limit, head.limited or q.concurrency_limit is not null as limited, head.available_at as since,
        q.concurrency_limit - taken.places as places
      from walk l left join queues q on q.environment_id = l.environment_id and q.name = l.queue_name
      cross join lateral (select case when q.concurrency_limit is not null then ${takenPlaces} end as places) taken
      left join lateral (
        select r.limited, r.available_at from runs r
        where not l.paused and (q.concurrency_limit is null or taken.places < q.concurrency_limit)
          and ${inLane(group)} and ${claimable(sql`(select id from worker)`, offerOfWorker)}
        order by r.available_at, r.id limit 1) head on true
    )
    select g.environment_id as page_environment, s.part, s.n, s.level, s.queue_name, s.lane_key, s.limited, s.since, s.places,
      case when s.since is not null then (select count(*)::integer from (
        select from runs r, (select s.environment_id, s.level, s.queue_name, s.lane_key) l
        where ${inLane(group)} and r.available_at <= now() limit ${sql.lit(maxDepth)}) d) end as depth
    from page g left join seen s on s.environment_id = g.environment_id and (s.since is not null or s.n = ${window})
    order by g.position, s.part, s.n`;
  });
