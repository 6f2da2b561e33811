/** Schedules (contract 8): sessions that time starts. */
import { z } from "zod";
import { isTimeZone, maxCronLength, normalizeCron } from "../cron.ts";
import {
  concurrencyKey,
  duration,
  externalId,
  maxDurationSeconds,
  queueName,
  taskId,
  uuid,
} from "./values.ts";

export const scheduleTypes = ["imperative", "declarative"] as const;
export const scheduleStatuses = ["active", "inactive", "errored"] as const;

export const schedule = z.strictObject({
  id: z.string(),
  type: z.enum(scheduleTypes),
  project_id: z.string(),
  environment_id: z.string(),
  task: z.string(),
  /** Imperative ones only. */
  deduplication_key: z.string().optional(),
  external_id: z.string().optional(),
  cron: z.string(),
  timezone: z.string(),
  active: z.boolean(),
  status: z.enum(scheduleStatuses),
  last_error: z.string().optional(),
  next_fire_at: z.string().optional(),
  last_fire_at: z.string().optional(),
  created_at: z.string(),
  updated_at: z.string(),
});
export type Schedule = z.infer<typeof schedule>;
export const scheduleList = z.strictObject({ schedules: z.array(schedule) });

/** With single spaces. */
export const cronPattern = z.string().transform((text, context): string => {
  const pattern = normalizeCron(text);
  if (pattern !== undefined) return pattern;
  context.addIssue({
    code: "custom",
    message: `must be five fields (minute hour day month weekday) like "0 9 * * 1-5", of at most ${maxCronLength} characters, that come about`,
  });
  return z.NEVER;
});
export const timezone = z.string().refine(isTimeZone, {
  error: "must be an IANA time zone like UTC or Europe/Berlin",
});
const deduplicationKey = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, {
  error: "must start with a letter or digit, then letters, digits, . _ - (at most 128)",
});

/** A key that is refused by name. */
const refused = z
  .never({ error: "is not accepted here: a schedule runs on the current deployment" })
  .optional();

const scheduleOptions = z.strictObject({
  queue: z.strictObject({ name: queueName }).optional(),
  concurrency_key: concurrencyKey.optional(),
  priority: z.int32().optional(),
  ttl: duration.optional(),
  max_duration_seconds: maxDurationSeconds.optional(),
  deployment_id: refused,
  version: refused,
});
const fields = {
  external_id: externalId.optional(),
  task: taskId,
  cron: cronPattern,
  timezone: timezone.optional(),
  active: z.boolean().optional(),
  options: scheduleOptions.optional(),
};
export const scheduleCreateRequest = z.strictObject({ deduplication_key: deduplicationKey, ...fields });
export type ScheduleCreateRequest = z.output<typeof scheduleCreateRequest>;
/** Replaces external_id, options, timezone, cron and task; `deduplication_key` may be repeated, not changed. */
export const scheduleUpdateRequest = z.strictObject({
  deduplication_key: deduplicationKey.optional(),
  ...fields,
});
export type ScheduleUpdateRequest = z.output<typeof scheduleUpdateRequest>;
export const scheduleParams = z.object({ scheduleID: uuid });
