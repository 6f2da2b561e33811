/** `task()`: checks a task's configuration (contract 13.1) and brands it. */
import { branded, taskBrand } from "../brand.ts";
import { isPayloadSchema, type PayloadSchema, type SchemaInput, type SchemaOutput } from "../schema.ts";
import {
  expectInteger,
  expectKeys,
  expectObject,
  expectPattern,
  fail,
  idPattern,
  queueNamePattern,
  show,
} from "./checks.ts";
import { expectDuration } from "./duration.ts";
import { isQueue } from "./queue.ts";
import { expectRetry } from "./retry.ts";
import { isSandbox, type Sandbox } from "./sandbox.ts";
import { expectSecrets, type TaskSecret } from "./secrets.ts";
import type { NoPayload, Task, TaskConfig, TaskConfigWithPayload, TaskState } from "./task-types.ts";

/** Contract 1.7. */
export const defaultMaxDurationSeconds = 900;

/**
 * Declares a task. Export it by name from a file in one of the `dirs` of helmr.config.ts. Throws a TypeError naming
 * the field that breaks a rule; a sandbox without an image is reported when the project is deployed.
 */
export function task<
  Schema extends PayloadSchema,
  Output,
  const Secrets extends readonly TaskSecret[] = readonly [],
>(
  config: TaskConfigWithPayload<Schema, Output, Secrets>,
): Task<SchemaOutput<Schema>, Awaited<Output>, Secrets, SchemaInput<Schema>>;
export function task<Output, const Secrets extends readonly TaskSecret[] = readonly []>(
  config: TaskConfig<Output, Secrets>,
): Task<NoPayload, Awaited<Output>, Secrets>;
export function task(config: unknown): Task {
  const { given, id, where } = openTaskConfig(config, "task");
  refuseForeignKeys(given, where);
  const payload = given.payload === undefined ? undefined : expectSchema(given.payload, `${where}.payload`);
  return buildTask(given, id, where, { payload, schedule: undefined });
}

/** The start of every kind of task: an object with an id. `kind` is the function's name. */
export function openTaskConfig(config: unknown, kind: "task" | "schedules.task") {
  const given = expectObject(config, `${kind}(...)`, '{ id: "hello", sandbox, run }');
  const id = expectPattern(given.id, idPattern, `${kind}(...).id`);
  return { given, id, where: `${kind}(${JSON.stringify(id)})` };
}

/** What all kinds have. The keys were checked. */
export function buildTask(
  given: Record<string, unknown>,
  id: string,
  where: string,
  { payload, schedule }: Pick<TaskState, "payload" | "schedule">,
): Task {
  const state: TaskState = Object.freeze({
    id,
    sandbox: expectSandbox(given.sandbox, `${where}.sandbox`),
    maxDurationSeconds: expectMaxDuration(given.maxDuration, `${where}.maxDuration`),
    queue: expectQueue(given.queue, id, `${where}.queue`),
    ttl: given.ttl === undefined ? undefined : expectDuration(given.ttl, `${where}.ttl`),
    retry:
      given.retry === undefined ? { enabled: false as const } : expectRetry(given.retry, `${where}.retry`),
    secrets: given.secrets === undefined ? [] : expectSecrets(given.secrets, `${where}.secrets`),
    payload,
    schedule,
    run: expectRun(given.run, `${where}.run`),
  });
  return Object.freeze({ id, [taskBrand]: state });
}

/** Contract 13.1: what a task is made of; nothing else is taken, so that a misspelt option cannot be lost. */
export const taskKeys = [
  "id",
  "sandbox",
  "maxDuration",
  "queue",
  "ttl",
  "retry",
  "secrets",
  "payload",
  "run",
] as const;

function refuseForeignKeys(config: Record<string, unknown>, where: string): void {
  if (config.schedule !== undefined) {
    fail(
      `${where}.schedule`,
      "is not an option of task; remove it, and declare the task with schedules.task({ ..., cron })",
    );
  }
  if (config.streams !== undefined) {
    fail(
      `${where}.streams`,
      "is not an option of task; remove it, and declare streams beside the task with streams.input(id) or streams.output(id)",
    );
  }
  expectKeys(config, taskKeys, where);
}

function expectSandbox(value: unknown, where: string): Sandbox {
  if (!isSandbox(value)) fail(where, `is required and must be a sandbox("id") builder, got ${show(value)}`);
  return value;
}

function expectMaxDuration(value: unknown, where: string): number {
  return value === undefined ? defaultMaxDurationSeconds : expectInteger(value, 5, 86400, where, "seconds");
}

function expectQueue(value: unknown, taskId: string, where: string): string {
  if (value === undefined) return `task/${taskId}`;
  if (isQueue(value)) return value.id;
  if (typeof value !== "string") fail(where, `must be a queue({ id }) or the id of one, got ${show(value)}`);
  return expectPattern(value, queueNamePattern, where);
}

function expectSchema(value: unknown, where: string): PayloadSchema {
  if (!isPayloadSchema(value)) {
    fail(where, `must be a Standard Schema v1 object (zod, valibot, arktype, ...), got ${show(value)}`);
  }
  return value;
}

function expectRun(value: unknown, where: string): TaskState["run"] {
  if (typeof value !== "function") fail(where, `is required and must be a function, got ${show(value)}`);
  return value as TaskState["run"];
}

/** Whether `value` is a task made by any copy of the SDK. */
export function isTask(value: unknown): value is Task {
  return branded(value, taskBrand) !== undefined;
}

/** What a task carries. Throws a TypeError when `value` is none. */
export function taskState(value: unknown): TaskState {
  const state = branded<TaskState>(value, taskBrand);
  if (state === undefined) fail("task", `must be made by task({ ... }), got ${show(value)}`);
  return state;
}
