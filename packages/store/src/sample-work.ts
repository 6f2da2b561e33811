/**
 * What waits, for whoever watches an installation: one statement, by worker group and never by tenant.
 *
 * It reads only rows that wait, by the indexes of them, and of each kind at most `maxCounted`: with 100,000 queued runs it takes
 * some 100 ms. The numbers of runs come from the counters that every transition keeps (I8 of runs/lifecycle.ts); what is parked
 * is what waits without a lease, and of those with one there are few.
 */
import { sql } from "kysely";
import type { Queryable } from "./database.ts";

export interface SampledWork {
  readonly queues: readonly SampledQueue[];
  readonly runs: { readonly queued: number; readonly running: number; readonly waiting: number };
  readonly parkedRuns: number;
  readonly workers: readonly { readonly state: string; readonly count: number }[];
  readonly schedules: { readonly due: number; readonly oldestDueSeconds: number };
}

export interface SampledQueue {
  readonly kind: "run" | "build" | "materialization";
  readonly workerGroup: string;
  /** Up to 100,000. */
  readonly depth: number;
  readonly oldestSeconds: number;
}

const maxCounted = 100_000;

/** Every group has its queues, be they empty. */
export async function sampleWork(db: Queryable): Promise<SampledWork> {
  const limit = sql.lit(maxCounted);
  const age = (column: string) =>
    sql`coalesce(greatest(0, extract(epoch from now() - min(${sql.ref(column)}))), 0)::float8`;
  const { rows } = await sql<SampledWork>`
    with waiting (kind, worker_group_id, since) as (
      (select 'run', worker_group_id, available_at from runs
        where status = 'queued' and not limited and available_at <= now() limit ${limit})
      union all
      (select 'run', worker_group_id, available_at from runs
        where status = 'queued' and limited and available_at <= now() limit ${limit})
      union all
      (select 'build', worker_group_id, created_at from deployments where status = 'queued' limit ${limit})
      union all
      (select 'materialization', worker_group_id, created_at from workspace_materializations
        where state = 'requested' limit ${limit})
    ), queues as (
      select k.kind, g.name, least(count(w.since), ${limit}) as depth, ${age("w.since")} as oldest
      from worker_groups g
      cross join (values ('run'), ('build'), ('materialization')) k (kind)
      left join waiting w on w.kind = k.kind and w.worker_group_id = g.id
      group by g.name, k.kind
    ), due as (
      select due_at from schedules where due_at <= now() order by due_at limit ${limit}
    ), counts as (
      select coalesce(sum(queued), 0)::float8 as queued, coalesce(sum(running), 0)::float8 as running,
        coalesce(sum(waiting), 0)::float8 as waiting from run_counts
    )
    select
      (select jsonb_agg(jsonb_build_object('kind', kind, 'workerGroup', name, 'depth', depth, 'oldestSeconds', oldest)
        order by name, kind) from queues) as queues,
      (select jsonb_build_object('queued', queued, 'running', running, 'waiting', waiting) from counts) as runs,
      greatest(0, (select waiting from counts)
        - (select count(*) from runs where lease_id is not null and status = 'waiting'))::float8 as "parkedRuns",
      (select coalesce(jsonb_agg(jsonb_build_object('state', s.state, 'count', coalesce(n.count, 0)) order by s.state), '[]')
        from (values ('active'), ('draining'), ('gone')) s (state)
        left join (select state, count(*) from worker_instances group by state) n on n.state = s.state) as workers,
      (select jsonb_build_object('due', count(*), 'oldestDueSeconds', ${age("due_at")}) from due) as schedules`.execute(
    db,
  );
  const [sample] = rows;
  if (sample === undefined) throw new Error("the sample of what waits has no row");
  return { ...sample, queues: sample.queues ?? [] };
}
