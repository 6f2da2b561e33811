/** Schedules on the wire (contract 8.2): what there is nothing of is left out. */
import type { Schedule } from "@helmr/api";
import { type ScheduleRow, scheduleNextFireAt, scheduleStatus } from "@helmr/store";

export function presentSchedule(row: ScheduleRow): Schedule {
  const nextFireAt = scheduleNextFireAt(row);
  return {
    id: row.id,
    type: row.type,
    project_id: row.project_id,
    environment_id: row.environment_id,
    task: row.task_id,
    ...(row.deduplication_key === null ? {} : { deduplication_key: row.deduplication_key }),
    ...(row.external_id === null ? {} : { external_id: row.external_id }),
    cron: row.cron,
    timezone: row.timezone,
    active: row.active,
    status: scheduleStatus(row),
    ...(row.last_error === null ? {} : { last_error: row.last_error }),
    ...(nextFireAt === null ? {} : { next_fire_at: nextFireAt.toISOString() }),
    ...(row.last_fire_at === null ? {} : { last_fire_at: row.last_fire_at.toISOString() }),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}
