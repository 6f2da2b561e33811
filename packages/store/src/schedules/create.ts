/** createSchedule: imperative ones. Declarative ones come with a deployment (reconcile.ts). */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import type { ScheduleOptions } from "../schema-schedules.ts";
import type { ActingScope, Scope } from "../scope.ts";
import { planAfter, type ScheduleRow, type ScheduleTiming, unplanned } from "./lifecycle.ts";

/** Cron and time zone are valid: the wire's schema has seen them. */
export interface ScheduleInput {
  readonly externalId?: string | undefined;
  readonly taskId: string;
  readonly cron: string;
  readonly timezone: string;
  readonly options: ScheduleOptions;
}

/** Throws ApiError 409 when the environment has one with this key, 400 for a task or queue that is not deployed. */
export async function createSchedule(
  db: Queryable,
  scope: ActingScope,
  input: ScheduleInput & { readonly deduplicationKey: string; readonly active: boolean },
  timing: ScheduleTiming,
): Promise<ScheduleRow> {
  return await transaction(db, async (tx) => {
    const now = await requireDeployed(tx, scope, input, timing.now);
    const { cron, timezone } = input;
    const id = uuidv7();
    const plan = input.active ? planAfter({ id, cron, timezone }, now, timing.jitterMs) : unplanned;
    const { rows } =
      await sql<ScheduleRow>`insert into schedules (id, environment_id, project_id, type, task_id,
        deduplication_key, external_id, cron, timezone, active, options, next_fire_at, due_at)
      values (${id}, ${scope.environmentId}, ${scope.projectId}, 'imperative', ${input.taskId}, ${input.deduplicationKey},
        ${input.externalId ?? null}, ${cron}, ${timezone}, ${input.active}, ${jsonbText(input.options)}::jsonb,
        ${plan.next_fire_at}, ${plan.due_at})
      on conflict (environment_id, deduplication_key) where type = 'imperative' do nothing
      returning *`.execute(tx);
    const row = rows[0];
    if (row === undefined) throw new ApiError(409, "schedule already exists");
    await recordScopeAudit(tx, scope, {
      action: "schedule.create",
      resourceId: id,
      attributes: { task_id: input.taskId, deduplication_key: input.deduplicationKey, cron, timezone },
    });
    return row;
  });
}

/**
 * What contract 8.1 asks of a schedule, and the time. F6: locks the environment. Throws ApiError 404 when that is being
 * deleted, 400 for the rest.
 */
export async function requireDeployed(
  tx: Tx,
  scope: Scope,
  { taskId, options }: Pick<ScheduleInput, "taskId" | "options">,
  now: Date | undefined,
): Promise<Date> {
  const queue = options.queue_name ?? null;
  const { rows } = await sql<{ open: boolean; task: boolean; queue: boolean; now: Date }>`select
      here.id is not null as open, t.id is not null as task,
      ${queue}::text is null or ${queue}::text = t.queue_name or exists (select from deployment_queues q
        where q.deployment_id = c.deployment_id and q.name = ${queue}::text) as queue,
      coalesce(${now ?? null}::timestamptz, now()) as now
    from (select 1) as always
    left join (select id from environments where id = ${scope.environmentId} and deleting_at is null for key share) here on true
    left join current_deployments c on c.environment_id = ${scope.environmentId}
    left join deployment_tasks t on t.deployment_id = c.deployment_id and t.task_id = ${taskId}`.execute(tx);
  const [facts] = rows;
  if (!facts?.open) throw new ApiError(404, "environment not found");
  if (!facts.task) {
    throw new ApiError(
      400,
      `task: "${taskId}" is not in the current deployment; deploy and promote a version that declares it`,
    );
  }
  if (!facts.queue) {
    throw new ApiError(400, `options.queue.name: queue "${queue}" is not declared in the current deployment`);
  }
  return facts.now;
}
