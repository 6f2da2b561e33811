/**
 * `@helmr/sdk/internal`: what the guest's indexer and task host read from authored objects. Not for task authors.
 *
 * Every function takes `unknown` and recognises objects of any copy of the SDK by their brand. Shapes in snake_case
 * are those of the deployment catalog and can be put into it as they are.
 */
import type { QueueDefinition } from "./authoring/queue.ts";
import type { RetryDefinition } from "./authoring/retry.ts";
import { type SandboxDefinition, sandboxDefinition } from "./authoring/sandbox.ts";
import type { SecretDefinition } from "./authoring/secrets.ts";
import { taskState } from "./authoring/task.ts";
import type { ScheduleDefinition, TaskContext } from "./authoring/task-types.ts";
import { validatePayload } from "./schema.ts";

export { type ConfigDefinition, configDefinition, isConfig } from "./authoring/config.ts";
export type { ImageDefinition, ImageStep } from "./authoring/image.ts";
export { isQueue, queueDefinitions } from "./authoring/queue.ts";
export { isSandbox, sandboxDefinition } from "./authoring/sandbox.ts";
export { type StreamDefinition, streamDefinitions } from "./authoring/streams-registry.ts";
export { isTask } from "./authoring/task.ts";
export { PayloadSchemaValidationError } from "./errors.ts";
export { type BridgeMethod, type RuntimeBridge, runtimeKey } from "./runtime-bridge.ts";
export type {
  QueueDefinition,
  RetryDefinition,
  SandboxDefinition,
  ScheduleDefinition,
  SecretDefinition,
  TaskContext,
};

/** Plain data of a task. */
export interface TaskDefinition {
  id: string;
  sandbox: SandboxDefinition;
  maxDurationSeconds: number;
  queue: string;
  ttl: string | undefined;
  retry: RetryDefinition;
  secrets: SecretDefinition[];
  hasPayload: boolean;
  schedule: ScheduleDefinition | undefined;
}

/** Throws a TypeError when `value` is no task, or when its sandbox has no image or cannot be built. */
export function taskDefinition(value: unknown): TaskDefinition {
  const state = taskState(value);
  let sandbox: SandboxDefinition;
  try {
    sandbox = sandboxDefinition(state.sandbox);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new TypeError(`task(${JSON.stringify(state.id)}).sandbox: ${reason}`, { cause: error });
  }
  return {
    id: state.id,
    sandbox,
    maxDurationSeconds: state.maxDurationSeconds,
    queue: state.queue,
    ttl: state.ttl,
    retry: structuredClone(state.retry),
    secrets: structuredClone([...state.secrets]),
    hasPayload: state.payload !== undefined,
    // A task of an SDK that knew of no schedules has none.
    schedule: state.schedule === undefined ? undefined : { ...state.schedule },
  };
}

/** The catalog's entry of a task found as `exportName` in `filePath` (POSIX, relative to the source root). */
export interface CatalogTaskEntry {
  id: string;
  file_path: string;
  export_name: string;
  sandbox_id: string;
  max_duration_seconds: number;
  queue: string;
  ttl?: string | undefined;
  retry: RetryDefinition;
  secrets: SecretDefinition[];
  has_payload: boolean;
  schedule?: ScheduleDefinition | undefined;
}

/** Throws as `taskDefinition`. */
export function catalogTaskEntry(value: unknown, filePath: string, exportName: string): CatalogTaskEntry {
  const definition = taskDefinition(value);
  return {
    id: definition.id,
    file_path: filePath,
    export_name: exportName,
    sandbox_id: definition.sandbox.id,
    max_duration_seconds: definition.maxDurationSeconds,
    queue: definition.queue,
    ...(definition.ttl === undefined ? {} : { ttl: definition.ttl }),
    retry: definition.retry,
    secrets: definition.secrets,
    has_payload: definition.hasPayload,
    ...(definition.schedule === undefined ? {} : { schedule: definition.schedule }),
  };
}

export type TaskRunner = (payload: unknown, ctx: TaskContext) => Promise<unknown>;

/**
 * The function that executes a task: checks the payload with the task's schema (PayloadSchemaValidationError before
 * any code of the author ran) and calls `run` with (payload, ctx), or with (ctx) when the task has no payload, which
 * is then ignored. Throws a TypeError when `value` is no task.
 */
export function taskRunner(value: unknown): TaskRunner {
  const { id, payload: schema, run } = taskState(value);
  if (schema === undefined) return async (_payload, ctx) => run(ctx);
  return async (payload, ctx) => run(await validatePayload(schema, payload, id), ctx);
}
