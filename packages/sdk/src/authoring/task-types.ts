/** Types of `task()`: what an author writes, and what flows from a task to the client. */
import type { taskBrand } from "../brand.ts";
import type { PayloadSchema, SchemaOutput } from "../schema.ts";
import type { Queue } from "./queue.ts";
import type { RetryDefinition, RetryPolicy } from "./retry.ts";
import type { Sandbox } from "./sandbox.ts";
import type { SecretDefinition, TaskSecret } from "./secrets.ts";

/** Second argument of `run` (the first, when the task has no payload). */
export interface TaskContext {
  /** Aborts when the run is cancelled or reaches its time limit; the guest is killed a little later. */
  readonly signal: AbortSignal;
  readonly run: {
    readonly id: string;
    readonly attemptId?: string | undefined;
    /** 1 for the first attempt. */
    readonly attemptNumber?: number | undefined;
    readonly runLeaseId?: string | undefined;
    readonly snapshotVersion?: number | undefined;
  };
  readonly task: { readonly id: string };
  /** `path`: where the durable workspace is mounted. `projectPath`: the deployed source, read-only. */
  readonly workspace: { readonly path: string; readonly projectPath: string };
  readonly session: { readonly id: string };
}

export interface TaskConfigBase<Secrets extends readonly TaskSecret[]> {
  /** Up to 128 letters, digits, `.`, `_`, `-`. */
  readonly id: string;
  readonly sandbox: Sandbox;
  /** Whole seconds from 5 to 86400; default 900. */
  readonly maxDuration?: number | undefined;
  /** A queue, or the id of one that is declared elsewhere in the project; default one of the task's own. */
  readonly queue?: Queue | string | undefined;
  /** A run not started within it expires, such as "10m". */
  readonly ttl?: string | undefined;
  /** Default: no retries. */
  readonly retry?: RetryPolicy | undefined;
  readonly secrets?: Secrets | undefined;
}
export interface TaskConfig<Output, Secrets extends readonly TaskSecret[] = readonly TaskSecret[]>
  extends TaskConfigBase<Secrets> {
  readonly payload?: undefined;
  readonly run: (ctx: TaskContext) => Output | Promise<Output>;
}
export interface TaskConfigWithPayload<
  Schema extends PayloadSchema,
  Output,
  Secrets extends readonly TaskSecret[] = readonly TaskSecret[],
> extends TaskConfigBase<Secrets> {
  /** Standard Schema of the payload: checked by the client at the start and again in the guest. */
  readonly payload: Schema;
  readonly run: (payload: SchemaOutput<Schema>, ctx: TaskContext) => Output | Promise<Output>;
}

declare const noPayload: unique symbol;
/** Marks tasks without a payload. */
export interface NoPayload {
  readonly [noPayload]: never;
}

declare const taskTypes: unique symbol;
/**
 * A task. `Payload` is what `run` receives, `Input` what a caller passes to start it (the two differ when the schema
 * transforms), `Output` what `run` returns.
 */
export interface Task<
  Payload = unknown,
  Output = unknown,
  Secrets extends readonly TaskSecret[] = readonly TaskSecret[],
  Input = Payload,
> {
  readonly id: string;
  /** Exists in types only. */
  readonly [taskTypes]?: { payload: Payload; output: Output; secrets: Secrets; input: Input };
  readonly [taskBrand]: TaskState;
}

/** When a task is due: a five-field pattern and an IANA time zone. */
export interface ScheduleDefinition {
  readonly cron: string;
  readonly timezone: string;
}

/** What a task object carries at run time; its shape is part of the brand's version. */
export interface TaskState {
  readonly id: string;
  readonly sandbox: Sandbox;
  readonly maxDurationSeconds: number;
  readonly queue: string;
  readonly ttl: string | undefined;
  readonly retry: RetryDefinition;
  readonly secrets: readonly SecretDefinition[];
  readonly payload: PayloadSchema | undefined;
  /** Of `schedules.task` with a cron. */
  readonly schedule: ScheduleDefinition | undefined;
  readonly run: (...args: unknown[]) => unknown;
}

/** What `run` of the task receives; NoPayload for a task without. */
export type TaskPayload<T extends Task> = NonNullable<T[typeof taskTypes]>["payload"];
/** What `run` of the task returns, awaited. */
export type TaskOutput<T extends Task> = NonNullable<T[typeof taskTypes]>["output"];
/** What a caller passes to start the task; NoPayload for a task without. */
export type SessionStartPayload<T extends Task> = NonNullable<T[typeof taskTypes]>["input"];
