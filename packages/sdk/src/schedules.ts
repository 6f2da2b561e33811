/** `schedules`: what declares a scheduled task, and the schedules of a client made from HELMR_API_URL and HELMR_API_KEY. */
import { scheduledTask } from "./authoring/scheduled-task.ts";
import { clientSchedules } from "./client/client.ts";
import type { SchedulesApi } from "./client/schedules.ts";

export interface SchedulesNamespace extends SchedulesApi {
  /** Declares a task that time starts: as `task`, without `payload`, with `cron`. */
  readonly task: typeof scheduledTask;
}

export const schedules: SchedulesNamespace = Object.freeze({ ...clientSchedules, task: scheduledTask });
