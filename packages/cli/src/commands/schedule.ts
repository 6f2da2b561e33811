/** `helmr schedule`: sessions that time starts. Those that `schedules.task` declares change with the deployment only. */
import type { Command } from "commander";
import type { Schedule } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { note, paintStatus, writeFields, writeJson, writeTable } from "../output.ts";
import { writeRuns } from "../run-view.ts";
import { integer, seconds } from "../values.ts";

const exampleId = "01990000-0000-7000-8000-000000000004";

export function register(program: Command): void {
  const group = declare(program, "schedule", "Start tasks on a timetable", [
    'helmr schedule create nightly --task report --cron "0 3 * * *" --timezone Europe/Berlin',
  ]);
  withSettings(
    declare(
      group,
      "create <key>",
      "Create a schedule; the key is your own name for it, once per environment",
      [
        'helmr schedule create nightly --task report --cron "0 3 * * *" --timezone Europe/Berlin',
        'helmr schedule create poll --task poll --cron "*/5 * * * *" --inactive',
      ],
    ),
    true,
  )
    .option("--inactive", "do not fire before it is activated")
    .action(create);
  inEnvironment(declare(group, "list", "List schedules, newest first", ["helmr schedule list"])).action(list);
  inEnvironment(
    declare(group, "get <schedule>", "Show one schedule", [`helmr schedule get ${exampleId}`]),
  ).action(get);
  withSettings(
    declare(
      group,
      "update <schedule>",
      "Change a schedule; of queue, concurrency key, priority, ttl and max duration those not given are removed",
      [`helmr schedule update ${exampleId} --cron "30 3 * * *"`],
    ),
    false,
  ).action(update);
  for (const [verb, summary, done] of [
    ["activate", "Let a schedule fire, from its next time on", "is active"],
    ["deactivate", "Stop a schedule from firing", "is inactive"],
  ] as const) {
    inEnvironment(
      declare(group, `${verb} <schedule>`, summary, [`helmr schedule ${verb} ${exampleId}`]),
    ).action((id: string, options: EnvironmentOptions) => change(id, verb, done, options));
  }
  inEnvironment(
    declare(group, "delete <schedule>", "Delete a schedule; what it has started goes on", [
      `helmr schedule delete ${exampleId}`,
    ]),
  ).action(remove);
  inEnvironment(
    declare(group, "runs <schedule>", "List the runs that a schedule has started, newest first", [
      `helmr schedule runs ${exampleId} --status failed`,
    ]),
  )
    .option("--status <status>", "live, all, or a status of runs", "all")
    .option("--limit <n>", "at most this many", integer(1, 200))
    .action(runs);
}

/** Options of create and update. */
function withSettings(command: Command, required: boolean): Command {
  const add = (flags: string, description: string) =>
    required ? command.requiredOption(flags, description) : command.option(flags, description);
  inEnvironment(command);
  add("--task <task>", "what it starts");
  add("--cron <pattern>", 'five fields, such as "0 9 * * 1-5": minute hour day-of-month month day-of-week');
  return command
    .option("--timezone <zone>", `IANA name (default: ${required ? "UTC" : "as it is"})`)
    .option("--external-id <id>", "your own name for it, which its runs are told")
    .option("--queue <name>", "a queue of the deployment other than the task's own")
    .option("--concurrency-key <key>", "queue limits count per key")
    .option("--priority <n>", "higher runs first in the environment", integer(-(2 ** 31), 2 ** 31 - 1))
    .option("--ttl <duration>", "expire when not started within this time")
    .option("--max-duration <seconds>", "limit of the run, 5 to 86400 seconds (or 10m, 2h)", seconds);
}

interface Settings extends EnvironmentOptions {
  readonly task?: string;
  readonly cron?: string;
  readonly timezone?: string;
  readonly externalId?: string;
  readonly queue?: string;
  readonly concurrencyKey?: string;
  readonly priority?: number;
  readonly ttl?: string;
  readonly maxDuration?: number;
}

/** Keys without a value are left out by JSON. */
function bodyOf(settings: Settings) {
  return {
    task: settings.task,
    cron: settings.cron,
    timezone: settings.timezone,
    external_id: settings.externalId,
    options: {
      queue: settings.queue === undefined ? undefined : { name: settings.queue },
      concurrency_key: settings.concurrencyKey,
      priority: settings.priority,
      ttl: settings.ttl,
      max_duration_seconds: settings.maxDuration,
    },
  };
}

const pathOf = (id: string): string => `/schedules/${encodeURIComponent(id)}`;

const create = (key: string, options: Settings & { inactive?: boolean }): Promise<void> =>
  withApi(options, async (api) => {
    const body = { deduplication_key: key, ...bodyOf(options), active: options.inactive ? false : undefined };
    await show(await api.send("POST", "/schedules", { body, schema: "schedule" }), options);
  });

const list = (options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get("/schedules", { schema: "scheduleList" });
    if (options.json) return writeJson(answer);
    await writeTable<Schedule>(
      [
        { header: "SCHEDULE", value: (row) => row.id },
        { header: "KEY", value: (row) => row.deduplication_key ?? "(declared)" },
        { header: "TASK", value: (row) => row.task },
        { header: "CRON", value: (row) => row.cron },
        { header: "ZONE", value: (row) => row.timezone },
        { header: "STATUS", value: (row) => row.status },
        { header: "NEXT", value: (row) => row.next_fire_at },
      ],
      answer.schedules,
    );
  });

const get = (id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => show(await api.get(pathOf(id), { schema: "schedule" }), options));

const update = (id: string, options: Settings): Promise<void> =>
  withApi(options, async (api) => {
    const before = await api.get(pathOf(id), { schema: "schedule" });
    const { task, cron, timezone, external_id: externalId } = before;
    const body = bodyOf({
      task,
      cron,
      timezone,
      ...(externalId === undefined ? {} : { externalId }),
      ...options,
    });
    await show(await api.send("PUT", pathOf(id), { body, schema: "schedule" }), options);
  });

const change = (
  id: string,
  verb: "activate" | "deactivate",
  done: string,
  options: EnvironmentOptions,
): Promise<void> =>
  withApi(options, async (api) => {
    const schedule = await api.send("POST", `${pathOf(id)}/${verb}`, { schema: "schedule" });
    if (options.json) return writeJson(schedule);
    note(`schedule ${id} ${done}`);
  });

const remove = (id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    await api.remove(pathOf(id));
    if (options.json) return writeJson({ id, deleted: true });
    note(`schedule ${id} is deleted`);
  });

const runs = (id: string, options: EnvironmentOptions & { status: string; limit?: number }): Promise<void> =>
  withApi(options, async (api) => {
    // A schedule that is not there would look like one that has started nothing.
    await api.get(pathOf(id), { schema: "schedule" });
    const query = { status: options.status, limit: options.limit, schedule_id: id };
    const answer = await api.get("/runs", { query, schema: "runList" });
    if (options.json) return writeJson(answer);
    await writeRuns(answer.runs);
  });

async function show(schedule: Schedule, options: EnvironmentOptions): Promise<void> {
  if (options.json) return writeJson(schedule);
  await writeFields([
    ["schedule", schedule.id],
    ["key", schedule.deduplication_key],
    ["declared by", schedule.type === "declarative" ? `task ${schedule.task}` : undefined],
    ["task", schedule.task],
    ["cron", `${schedule.cron} (${schedule.timezone})`],
    ["external id", schedule.external_id],
    ["status", paintStatus(schedule.status)],
    ["error", schedule.last_error],
    ["next", schedule.next_fire_at],
    ["last", schedule.last_fire_at],
  ]);
}
