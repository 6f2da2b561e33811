/** applyDeploymentSchedules: F8, in the transaction of the promotion. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import type { Scope } from "../scope.ts";
import { replan } from "./change.ts";
import { planAfter, readClock, type ScheduleRow, type ScheduleTiming } from "./lifecycle.ts";

export interface ReconciledSchedules {
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
}

/**
 * Make the environment's declarative schedules those of a deployment. One that is declared as before keeps its plan; one whose
 * pattern or zone is another fires from its next slot on; one that is not declared any more goes.
 */
export async function applyDeploymentSchedules(
  tx: Tx,
  scope: Scope,
  deploymentId: string,
  { jitterMs, now: testNow }: ScheduleTiming,
): Promise<ReconciledSchedules> {
  await sql`select from environments where id = ${scope.environmentId} for key share`.execute(tx); // F6
  const { rows: declared } = await sql<{ task_id: string; cron: string; timezone: string }>`
    select task_id, schedule->>'cron' as cron, schedule->>'timezone' as timezone from deployment_tasks
    where deployment_id = ${deploymentId} and schedule is not null order by task_id`.execute(tx);
  const { rows: existing } = await sql<ScheduleRow>`select * from schedules
    where environment_id = ${scope.environmentId} and type = 'declarative' order by id for update`.execute(
    tx,
  );
  if (declared.length === 0 && existing.length === 0) return { added: 0, changed: 0, removed: 0 };

  const now = await readClock(tx, testNow);
  const byTask = new Map(existing.map((row) => [row.task_id, row]));
  const added = declared.filter(({ task_id }) => !byTask.has(task_id));
  const changed = declared.flatMap((wanted) => {
    const row = byTask.get(wanted.task_id);
    return row === undefined || (row.cron === wanted.cron && row.timezone === wanted.timezone)
      ? []
      : [{ ...wanted, id: row.id }];
  });
  const wantedTasks = new Set(declared.map(({ task_id }) => task_id));
  const removed = existing.filter(({ task_id }) => !wantedTasks.has(task_id));

  if (removed.length > 0) {
    await sql`delete from schedules where id = any (${removed.map(({ id }) => id)}::uuid[])`.execute(tx);
  }
  for (const wanted of changed) {
    await sql`update schedules set cron = ${wanted.cron}, timezone = ${wanted.timezone},
      ${replan(planAfter(wanted, now, jitterMs))} where id = ${wanted.id}`.execute(tx);
  }
  if (added.length > 0) {
    const rows = added.map((wanted) => {
      const id = uuidv7();
      return {
        id,
        environment_id: scope.environmentId,
        project_id: scope.projectId,
        type: "declarative" as const,
        ...wanted,
        ...planAfter({ id, ...wanted }, now, jitterMs),
      };
    });
    // At most one per task of a catalog, of which there are 2000: below the limit of parameters.
    await tx.insertInto("schedules").values(rows).execute();
  }
  return { added: added.length, changed: changed.length, removed: removed.length };
}
