/** The environment variables of `helmr-dispatcher`. */
import {
  artifactStoreVariables,
  count,
  duration,
  keepFor,
  logLevel,
  metricsListen,
  postgresUrl,
  redisUrl,
  scheduleJitter,
  tracingVariables,
  type Values,
  workspaceIdleStop,
  workspaceLostAfter,
} from "@helmr/process";

export const dispatcherVariables = {
  HELMR_DATABASE_URL: postgresUrl,
  ...artifactStoreVariables,
  HELMR_REDIS_URL: redisUrl
    .optional()
    .describe(
      "Redis or Valkey: hints go over it, and it tells when schedules are due; without one each dispatcher keeps that for itself",
    ),
  HELMR_SCHEDULE_REPAIR_EVERY: duration("5s").describe(
    "how often what is due soon is put into Redis anew; without Redis, how late a fire may be",
  ),
  HELMR_SCHEDULE_REPAIR_LIMIT: count(100, 10_000).describe("schedules of one page of that"),
  HELMR_SCHEDULE_REPAIR_LOOKAHEAD: duration("40s").describe(
    "how far ahead; several times HELMR_SCHEDULE_REPAIR_EVERY",
  ),
  HELMR_SCHEDULE_TRIGGER_CONCURRENCY: count(10, 100).describe(
    "sessions that are started at a time, each on a database connection",
  ),
  HELMR_SCHEDULE_LEASE: duration("5m").describe("a fire whose dispatcher is gone is another's after that"),
  HELMR_SCHEDULE_MAX_ATTEMPTS: count(10, 1000).describe("at one fire, before it is skipped"),
  HELMR_SCHEDULE_JITTER: scheduleJitter,
  HELMR_WORKSPACE_IDLE_STOP: workspaceIdleStop,
  HELMR_WORKSPACE_LOST_AFTER: workspaceLostAfter,
  HELMR_WORKSPACE_OUTPUT_RETENTION: keepFor("7d").describe(
    "from the end of a command or terminal in a workspace until what it wrote and read is removed",
  ),
  HELMR_ARTIFACT_GRACE: duration("10m", "0s").describe(
    "from when nothing refers to an object of the object store any more until it is removed; longer than any read of one takes",
  ),
  HELMR_ARTIFACT_RESERVATION: keepFor("24h").describe(
    "an object that was stored for what never came is given up after that; longer than any upload takes",
  ),
  HELMR_METRICS_LISTEN: metricsListen,
  HELMR_EVENT_RETENTION: keepFor("30d").describe(
    "from the end of a run or a build until its events and logs are removed; how it ended stays",
  ),
  HELMR_SCHEDULED_SESSION_IDLE: keepFor("7d").describe(
    "from the end of the last run of a session that a schedule started until the session is closed",
  ),
  HELMR_SESSION_RETENTION: keepFor("90d").describe(
    "from the end of a session until it is removed, with its runs and streams",
  ),
  HELMR_LOG_LEVEL: logLevel,
  ...tracingVariables,
} as const;

/** What does not go together. */
export function dispatcherProblems(values: Partial<Values<typeof dispatcherVariables>>): string[] {
  const { HELMR_SCHEDULE_REPAIR_EVERY: every, HELMR_SCHEDULE_REPAIR_LOOKAHEAD: lookahead } = values;
  if (every === undefined || lookahead === undefined || lookahead >= 2 * every) return [];
  return [
    "HELMR_SCHEDULE_REPAIR_LOOKAHEAD: must be at least twice HELMR_SCHEDULE_REPAIR_EVERY, or fires would be late",
  ];
}
