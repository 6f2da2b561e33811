/** `schedules.task()` (contract 13.2): a task that time starts. */
import type { PayloadSchema, PayloadSchemaIssue } from "../schema.ts";
import { expectKeys, expectObject, fail } from "./checks.ts";
import { expectCron, expectTimeZone } from "./cron.ts";
import type { TaskSecret } from "./secrets.ts";
import { buildTask, openTaskConfig, taskKeys } from "./task.ts";
import type { ScheduleDefinition, Task, TaskConfigBase, TaskContext } from "./task-types.ts";

/** What `run` of a scheduled task receives. */
export interface ScheduledTaskPayload {
  /** The time of the pattern; the run starts a little later. */
  readonly timestamp: Date;
  /** The time before it that started a session; absent at the first. */
  readonly lastTimestamp?: Date;
  /** IANA name. */
  readonly timezone: string;
  readonly scheduleId: string;
  readonly scheduleType: "imperative" | "declarative";
  readonly externalId?: string;
  /** The next times, up to ten. */
  readonly upcoming: readonly Date[];
}

/** The same as a caller writes it who starts the task without a schedule: times as ISO 8601 texts. */
export interface ScheduledTaskPayloadInput {
  readonly timestamp: string;
  readonly lastTimestamp?: string | undefined;
  readonly timezone: string;
  readonly scheduleId: string;
  readonly scheduleType: "imperative" | "declarative";
  readonly externalId?: string | undefined;
  readonly upcoming: readonly string[];
}

export interface ScheduledTaskConfig<Output, Secrets extends readonly TaskSecret[] = readonly TaskSecret[]>
  extends TaskConfigBase<Secrets> {
  /** Five fields; in UTC, or in `timezone`. Without one only schedules made with `schedules.create` start it. */
  readonly cron?: string | { readonly pattern: string; readonly timezone?: string | undefined } | undefined;
  readonly run: (payload: ScheduledTaskPayload, ctx: TaskContext) => Output | Promise<Output>;
}

/** Declares a scheduled task, as `task` does; with `cron`, promoting the deployment makes its schedule. */
export function scheduledTask<Output, const Secrets extends readonly TaskSecret[] = readonly []>(
  config: ScheduledTaskConfig<Output, Secrets>,
): Task<ScheduledTaskPayload, Awaited<Output>, Secrets, ScheduledTaskPayloadInput>;
export function scheduledTask(config: unknown): Task {
  const { given, id, where } = openTaskConfig(config, "schedules.task");
  if (given.payload !== undefined) {
    fail(`${where}.payload`, "is not an option of schedules.task; remove it: the schedule is the payload");
  }
  const known = [...taskKeys.filter((key) => key !== "payload"), "cron"];
  expectKeys(given, known, where);
  const schedule = given.cron === undefined ? undefined : expectSchedule(given.cron, `${where}.cron`);
  return buildTask(given, id, where, { payload: scheduledTaskSchema, schedule });
}

function expectSchedule(value: unknown, where: string): ScheduleDefinition {
  if (typeof value === "string") return { cron: expectCron(value, where), timezone: "UTC" };
  const given = expectObject(value, where, '{ pattern: "0 9 * * *", timezone: "Europe/Berlin" }');
  expectKeys(given, ["pattern", "timezone"], where);
  return {
    cron: expectCron(given.pattern, `${where}.pattern`),
    timezone: given.timezone === undefined ? "UTC" : expectTimeZone(given.timezone, `${where}.timezone`),
  };
}

/** Contract 8.2: what the server sends, with its times as dates. */
export const scheduledTaskSchema: PayloadSchema<ScheduledTaskPayloadInput, ScheduledTaskPayload> =
  Object.freeze({
    "~standard": Object.freeze({ version: 1 as const, vendor: "helmr", validate }),
  });

const isoTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)$/;

function validate(
  value: unknown,
): { readonly value: ScheduledTaskPayload } | { readonly issues: readonly PayloadSchemaIssue[] } {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { issues: [{ message: "must be an object, as a schedule sends it" }] };
  }
  const given = value as Record<string, unknown>;
  const issues: PayloadSchemaIssue[] = [];
  const time = (text: unknown, path: readonly PropertyKey[]): Date => {
    const date = new Date(typeof text === "string" && isoTime.test(text) ? text : Number.NaN);
    if (Number.isNaN(date.getTime())) issues.push({ message: "must be an ISO 8601 time", path });
    return date;
  };
  const text = (key: string): string => {
    const found = given[key];
    if (typeof found === "string" && found.trim() !== "") return found;
    issues.push({ message: "must be a text that is not blank", path: [key] });
    return "";
  };
  const { scheduleType, upcoming, lastTimestamp, externalId } = given;
  if (scheduleType !== "imperative" && scheduleType !== "declarative")
    issues.push({ message: 'must be "imperative" or "declarative"', path: ["scheduleType"] });
  if (!Array.isArray(upcoming))
    issues.push({ message: "must be a list of ISO 8601 times", path: ["upcoming"] });
  const payload = Object.freeze({
    timestamp: time(given.timestamp, ["timestamp"]),
    ...(lastTimestamp === undefined ? {} : { lastTimestamp: time(lastTimestamp, ["lastTimestamp"]) }),
    timezone: text("timezone"),
    scheduleId: text("scheduleId"),
    scheduleType: scheduleType as ScheduledTaskPayload["scheduleType"],
    ...(externalId === undefined ? {} : { externalId: text("externalId") }),
    upcoming: Object.freeze(
      Array.isArray(upcoming) ? upcoming.map((each, index) => time(each, ["upcoming", index])) : [],
    ),
  });
  return issues.length > 0 ? { issues } : { value: payload };
}
