/** Whether anything waits for a worker of a group: three probes of partial indexes, which all begin with the group. */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "./database.ts";

/** Runs that are due, builds, live copies; also such as no worker can take now. */
function isDue(workerGroupId: RawBuilder<unknown>): RawBuilder<boolean> {
  return sql<boolean>`(exists (select from runs r where r.worker_group_id = ${workerGroupId} and r.status = 'queued'
        and r.available_at <= now())
      or exists (select from deployments d where d.worker_group_id = ${workerGroupId} and d.status = 'queued')
      or exists (select from workspace_materializations m where m.worker_group_id = ${workerGroupId}
        and m.state = 'requested'))`;
}

/** Of one group. */
export async function hasDueWork(db: Queryable, workerGroupId: string): Promise<boolean> {
  const { rows } = await sql<{ due: boolean }>`select ${isDue(sql`${workerGroupId}::uuid`)} as due`.execute(
    db,
  );
  return rows[0]?.due ?? false;
}

/** Ids of the groups that have some: it became due, or was queued, while nobody was told. */
export async function listGroupsWithWork(db: Queryable): Promise<string[]> {
  const { rows } = await sql<{
    id: string;
  }>`select g.id from worker_groups g where ${isDue(sql`g.id`)}`.execute(db);
  return rows.map((row) => row.id);
}
