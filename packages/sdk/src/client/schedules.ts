/** `client.schedules` (contract 8): sessions that time starts. Always of the API key's own environment. */
import type { Queue } from "../authoring/queue.ts";
import { isTask } from "../authoring/task.ts";
import { InvalidResponseError } from "../errors.ts";
import { queueName } from "./start.ts";
import type { AnyTask } from "./start-types.ts";
import { type ApiRequest, pathSegment, type Transport } from "./transport.ts";
import { textOrNull, wireList, wireObject, wireText } from "./wire.ts";

export interface Schedule {
  readonly id: string;
  /** `declarative`: declared with `schedules.task`; it changes with the deployment only. */
  readonly type: "imperative" | "declarative";
  readonly projectId: string;
  readonly environmentId: string;
  /** The task's id. */
  readonly task: string;
  /** Of imperative ones. */
  readonly deduplicationKey?: string;
  readonly externalId?: string;
  readonly cron: string;
  readonly timezone: string;
  readonly active: boolean;
  /** `errored`: the last fire failed; `lastError` says why. */
  readonly status: "active" | "inactive" | "errored";
  readonly lastError?: string;
  /** Timestamps are RFC 3339 texts in UTC. */
  readonly nextFireAt?: string;
  readonly lastFireAt?: string;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** What the sessions are started with. */
export interface ScheduleSessionOptions {
  readonly queue?: Queue | string | { readonly name: string } | undefined;
  readonly concurrencyKey?: string | undefined;
  /** Whole number; higher runs first. */
  readonly priority?: number | undefined;
  /** A run not started within it expires, such as "10m". */
  readonly ttl?: string | undefined;
  /** 5 to 86400; default the task's. */
  readonly maxDurationSeconds?: number | undefined;
}
export interface ScheduleUpdateInput {
  /** A task object, or its id. */
  readonly task: AnyTask | string;
  /** Five fields, such as "0 9 * * 1-5". */
  readonly cron: string;
  /** IANA name; default UTC. */
  readonly timezone?: string | undefined;
  /** Your own name for it: the run's payload has it. */
  readonly externalId?: string | undefined;
  readonly active?: boolean | undefined;
  readonly options?: ScheduleSessionOptions | undefined;
}
export interface ScheduleCreateInput extends ScheduleUpdateInput {
  /** Your own name for the schedule, once per environment. */
  readonly deduplicationKey: string;
}
export interface ScheduleCallOptions {
  readonly signal?: AbortSignal | undefined;
}
/** A schedule's id, or the schedule. */
export type ScheduleReference = string | Pick<Schedule, "id">;

export interface SchedulesApi {
  /** Throws HelmrApiError with status 409 when there is one with this deduplication key. Active by default. */
  create(schedule: ScheduleCreateInput, options?: ScheduleCallOptions): Promise<Schedule>;
  /** Replaces task, cron, timezone, externalId and options; `active` only where it is given. */
  update(
    schedule: ScheduleReference,
    input: ScheduleUpdateInput,
    options?: ScheduleCallOptions,
  ): Promise<Schedule>;
  /** Newest first, up to 200. */
  list(options?: ScheduleCallOptions): Promise<Schedule[]>;
  retrieve(schedule: ScheduleReference, options?: ScheduleCallOptions): Promise<Schedule>;
  /** From its next time on; what was missed is not made up for. */
  activate(schedule: ScheduleReference, options?: ScheduleCallOptions): Promise<Schedule>;
  deactivate(schedule: ScheduleReference, options?: ScheduleCallOptions): Promise<Schedule>;
  /** What it has started goes on. */
  delete(schedule: ScheduleReference, options?: ScheduleCallOptions): Promise<void>;
}

/** Builds the API on a transport that is asked for at each call. */
export function createSchedulesApi(transport: () => Transport): SchedulesApi {
  const one = async (request: Omit<ApiRequest, "scope">, { signal }: ScheduleCallOptions = {}) =>
    scheduleOf(await transport().json({ ...request, scope: { signal } }));
  return Object.freeze({
    create: async (schedule: ScheduleCreateInput, options?: ScheduleCallOptions) => {
      const body = { deduplication_key: schedule.deduplicationKey, ...bodyOf(schedule) };
      return await one({ method: "POST", path: "/schedules", body }, options);
    },
    update: async (schedule: ScheduleReference, input: ScheduleUpdateInput, options?: ScheduleCallOptions) =>
      await one({ method: "PUT", path: pathOf(schedule), body: bodyOf(input) }, options),
    list: async ({ signal }: ScheduleCallOptions = {}) => {
      const answer = await transport().json({ method: "GET", path: "/schedules", scope: { signal } });
      return wireList(answer, "schedules").map(scheduleOf);
    },
    retrieve: async (schedule: ScheduleReference, options?: ScheduleCallOptions) =>
      await one({ method: "GET", path: pathOf(schedule) }, options),
    activate: async (schedule: ScheduleReference, options?: ScheduleCallOptions) =>
      await one({ method: "POST", path: `${pathOf(schedule)}/activate` }, options),
    deactivate: async (schedule: ScheduleReference, options?: ScheduleCallOptions) =>
      await one({ method: "POST", path: `${pathOf(schedule)}/deactivate` }, options),
    delete: async (schedule: ScheduleReference, { signal }: ScheduleCallOptions = {}) => {
      await transport().send({ method: "DELETE", path: pathOf(schedule), scope: { signal } });
    },
  } satisfies SchedulesApi);
}

function pathOf(schedule: ScheduleReference): string {
  return `/schedules/${pathSegment(typeof schedule === "string" ? schedule : schedule?.id, "schedule id")}`;
}

function bodyOf({ task, cron, timezone, externalId, active, options }: ScheduleUpdateInput) {
  return {
    external_id: externalId,
    task: isTask(task) ? task.id : task,
    cron,
    timezone,
    active,
    options:
      options === undefined
        ? undefined
        : {
            queue: options.queue === undefined ? undefined : { name: queueName(options.queue) },
            concurrency_key: options.concurrencyKey,
            priority: options.priority,
            ttl: options.ttl,
            max_duration_seconds: options.maxDurationSeconds,
          },
  };
}

function scheduleOf(value: unknown): Schedule {
  const what = "schedule";
  const schedule = wireObject(value, what);
  const known = <const T extends string>(key: string, values: readonly T[]): T => {
    const found = values.find((each) => each === schedule[key]);
    if (found !== undefined) return found;
    throw new InvalidResponseError(
      `${what}: unknown ${key} ${JSON.stringify(schedule[key])}; is this SDK older than the server?`,
    );
  };
  const optional = <const N extends string>(key: string, name: N): { [K in N]?: string } => {
    const text = textOrNull(schedule, key);
    return text === null ? {} : ({ [name]: text } as { [K in N]?: string });
  };
  return Object.freeze({
    id: wireText(schedule, "id", what),
    type: known("type", ["imperative", "declarative"]),
    projectId: wireText(schedule, "project_id", what),
    environmentId: wireText(schedule, "environment_id", what),
    task: wireText(schedule, "task", what),
    ...optional("deduplication_key", "deduplicationKey"),
    ...optional("external_id", "externalId"),
    cron: wireText(schedule, "cron", what),
    timezone: wireText(schedule, "timezone", what),
    active: schedule.active === true,
    status: known("status", ["active", "inactive", "errored"]),
    ...optional("last_error", "lastError"),
    ...optional("next_fire_at", "nextFireAt"),
    ...optional("last_fire_at", "lastFireAt"),
    createdAt: wireText(schedule, "created_at", what),
    updatedAt: wireText(schedule, "updated_at", what),
  });
}
