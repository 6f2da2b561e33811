/** Schedules (contract 8). Firing them is the dispatcher's: it finds what is planned here in the database. */
import type { ScheduleUpdateRequest } from "@helmr/api";
import {
  activateSchedule,
  createSchedule,
  deactivateSchedule,
  deleteSchedule,
  getSchedule,
  listSchedules,
  updateSchedule,
} from "@helmr/store";
import { type Context, scheduleTiming } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentSchedule } from "../present/schedule.ts";
import { found } from "./found.ts";

/** Contract 8. */
const maxListed = 200;

type ScheduleHandlers = Pick<
  Handlers,
  | "listSchedules"
  | "createSchedule"
  | "getSchedule"
  | "updateSchedule"
  | "activateSchedule"
  | "deactivateSchedule"
  | "deleteSchedule"
>;

export function scheduleHandlers({ db, config }: Context): ScheduleHandlers {
  const timing = scheduleTiming(config);
  return {
    listSchedules: async ({ scope }) => {
      const schedules = await listSchedules(db, scope, maxListed);
      return { status: 200, body: { schedules: schedules.map(presentSchedule) } };
    },
    createSchedule: async ({ scope, body }) => {
      const input = {
        ...inputOf(body),
        deduplicationKey: body.deduplication_key,
        active: body.active ?? true,
      };
      return { status: 201, body: presentSchedule(await createSchedule(db, scope, input, timing)) };
    },
    getSchedule: async ({ scope, params }) => {
      const row = found(await getSchedule(db, scope, params.scheduleID), "schedule");
      return { status: 200, body: presentSchedule(row) };
    },
    updateSchedule: async ({ scope, params, body }) => {
      const input = { ...inputOf(body), deduplicationKey: body.deduplication_key, active: body.active };
      const row = found(await updateSchedule(db, scope, params.scheduleID, input, timing), "schedule");
      return { status: 200, body: presentSchedule(row) };
    },
    activateSchedule: async ({ scope, params }) => {
      const row = found(await activateSchedule(db, scope, params.scheduleID, timing), "schedule");
      return { status: 200, body: presentSchedule(row) };
    },
    deactivateSchedule: async ({ scope, params }) => {
      const row = found(await deactivateSchedule(db, scope, params.scheduleID), "schedule");
      return { status: 200, body: presentSchedule(row) };
    },
    deleteSchedule: async ({ scope, params }) => {
      found((await deleteSchedule(db, scope, params.scheduleID)) || undefined, "schedule");
      return { status: 204, body: undefined };
    },
  };
}

/** Empty texts and a duration of 0 mean: none. */
function inputOf({ external_id, task, cron, timezone, options = {} }: ScheduleUpdateRequest) {
  return {
    externalId: external_id || undefined,
    taskId: task,
    cron,
    timezone: timezone ?? "UTC",
    options: {
      queue_name: options.queue?.name,
      concurrency_key: options.concurrency_key || undefined,
      priority: options.priority,
      ttl: options.ttl,
      max_duration_seconds: options.max_duration_seconds || undefined,
    },
  };
}
