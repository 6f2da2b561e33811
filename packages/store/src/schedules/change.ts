/** What people change about imperative schedules: F2, each change supersedes a lease. */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { jsonbText } from "../json.ts";
import type { ActingScope } from "../scope.ts";
import { requireDeployed, type ScheduleInput } from "./create.ts";
import {
  type Plan,
  planAfter,
  planSlot,
  readClock,
  type ScheduleRow,
  type ScheduleTiming,
  unplanned,
} from "./lifecycle.ts";

/**
 * Replaces external id, options, time zone, cron and task; `active` only where it is given. A slot that is due, or failed, stays
 * when pattern and zone are the same, and is tried at once. Undefined when there is none; throws ApiError 400 for a
 * declarative one, another deduplication key, or a task or queue that is not deployed.
 */
export async function updateSchedule(
  db: Queryable,
  scope: ActingScope,
  id: string,
  input: ScheduleInput & {
    readonly deduplicationKey?: string | undefined;
    readonly active?: boolean | undefined;
  },
  timing: ScheduleTiming,
): Promise<ScheduleRow | undefined> {
  return await transaction(db, async (tx) => {
    const before = await lockImperative(tx, scope, id);
    if (before === undefined) return undefined;
    if (input.deduplicationKey !== undefined && input.deduplicationKey !== before.deduplication_key) {
      throw new ApiError(400, "deduplication_key: cannot be changed; create another schedule");
    }
    const now = await requireDeployed(tx, scope, input, timing.now);
    const active = input.active ?? before.active;
    const { rows } = await sql<ScheduleRow>`update schedules set external_id = ${input.externalId ?? null},
        task_id = ${input.taskId}, cron = ${input.cron}, timezone = ${input.timezone}, active = ${active},
        options = ${jsonbText(input.options)}::jsonb, ${replan(planUpdate(before, { ...input, active }, now, timing))}
      where id = ${id} returning *`.execute(tx);
    await recordScopeAudit(tx, scope, {
      action: "schedule.update",
      resourceId: id,
      attributes: { task_id: input.taskId, cron: input.cron, timezone: input.timezone, active },
    });
    return rows[0];
  });
}

function planUpdate(
  before: ScheduleRow,
  { active, cron, timezone }: ScheduleInput & { readonly active: boolean },
  now: Date,
  { jitterMs }: ScheduleTiming,
): Plan {
  if (!active) return unplanned;
  const isSame = before.active && before.cron === cron && before.timezone === timezone;
  if (isSame && before.next_fire_at !== null) return planSlot(before.id, before.next_fire_at, jitterMs);
  return planAfter({ id: before.id, cron, timezone }, now, jitterMs);
}

/** From its next slot on. One that is active stays as it is. Undefined and errors as `updateSchedule`. */
export async function activateSchedule(
  db: Queryable,
  scope: ActingScope,
  id: string,
  timing: ScheduleTiming,
): Promise<ScheduleRow | undefined> {
  return await transaction(db, async (tx) => {
    const before = await lockImperative(tx, scope, id);
    if (before === undefined || before.active) return before;
    const plan = planAfter(before, await readClock(tx, timing.now), timing.jitterMs);
    const { rows } = await sql<ScheduleRow>`update schedules set active = true, ${replan(plan)}
      where id = ${id} returning *`.execute(tx);
    await recordScopeAudit(tx, scope, { action: "schedule.activate", resourceId: id });
    return rows[0];
  });
}

/** Sessions that it started go on. Undefined and errors as `updateSchedule`. */
export async function deactivateSchedule(
  db: Queryable,
  scope: ActingScope,
  id: string,
): Promise<ScheduleRow | undefined> {
  return await transaction(db, async (tx) => {
    const before = await lockImperative(tx, scope, id);
    if (before === undefined || !before.active) return before;
    const { rows } = await sql<ScheduleRow>`update schedules set active = false, ${replan(unplanned)}
      where id = ${id} returning *`.execute(tx);
    await recordScopeAudit(tx, scope, { action: "schedule.deactivate", resourceId: id });
    return rows[0];
  });
}

/** Whether there was one; sessions that it started stay. Throws ApiError 400 for a declarative one. */
export async function deleteSchedule(db: Queryable, scope: ActingScope, id: string): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const before = await lockImperative(tx, scope, id);
    if (before === undefined) return false;
    await sql`delete from schedules where id = ${id}`.execute(tx);
    await recordScopeAudit(tx, scope, {
      action: "schedule.delete",
      resourceId: id,
      attributes: { task_id: before.task_id, deduplication_key: before.deduplication_key },
    });
    return true;
  });
}

/** F6, F8. */
async function lockImperative(tx: Tx, scope: ActingScope, id: string): Promise<ScheduleRow | undefined> {
  await sql`select from environments where id = ${scope.environmentId} for key share`.execute(tx);
  const { rows } = await sql<ScheduleRow>`select * from schedules
    where id = ${id} and environment_id = ${scope.environmentId} for update`.execute(tx);
  const row = rows[0];
  if (row?.type === "declarative") {
    throw new ApiError(
      400,
      `the schedule is declared by the task "${row.task_id}"; change its cron in the source and deploy`,
    );
  }
  return row;
}

/** The columns of a new plan: nothing of the old one counts any more. F2. */
export function replan({ next_fire_at, due_at }: Plan) {
  return sql`next_fire_at = ${next_fire_at}::timestamptz, due_at = ${due_at}::timestamptz, attempt = 0, last_error = null,
    fencing = fencing + 1, lease_expires_at = null, updated_at = now()`;
}
