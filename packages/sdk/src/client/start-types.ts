/** Types of starting a session: the payload argument exists exactly when the task has a payload. */
import type { Queue } from "../authoring/queue.ts";
import type { RetryPolicy } from "../authoring/retry.ts";
import type { TaskSecret } from "../authoring/secrets.ts";
import type { NoPayload, SessionStartPayload, Task, TaskOutput } from "../authoring/task-types.ts";
import type { IdempotencyKey } from "./idempotency.ts";
import type { RunHandle, RunSnapshot, SessionSnapshot } from "./snapshots.ts";
import type { ScopeOptions } from "./transport.ts";

export type AnyTask = Task<unknown, unknown, readonly TaskSecret[], unknown>;

export interface SessionStartOptions extends ScopeOptions {
  /** Own name of the session, unique in its environment for ever; at most 512 bytes. */
  readonly externalId?: string | undefined;
  /** An existing workspace; default a new one from the task's sandbox. */
  readonly workspaceId?: string | undefined;
  /** RFC 3339 text or a Date. */
  readonly expiresAt?: string | Date | undefined;
  /** A queue that the current deployment declares. */
  readonly queue?: Queue | string | { readonly name: string } | undefined;
  readonly concurrencyKey?: string | undefined;
  /** Whole number; higher runs first. */
  readonly priority?: number | undefined;
  /** A run not started within it expires, such as "10m". */
  readonly ttl?: string | undefined;
  /** 5 to 86400; default the task's. */
  readonly maxDurationSeconds?: number | undefined;
  readonly retry?: RetryPolicy | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /** At most 10. */
  readonly tags?: readonly string[] | undefined;
  /** Text or parts are hashed as `idempotencyKeys.create` does. */
  readonly idempotencyKey?: string | readonly string[] | IdempotencyKey | undefined;
  /** Such as "24h"; default 30 days. */
  readonly idempotencyKeyTTL?: string | undefined;
}
export interface SessionStartAndWaitOptions extends SessionStartOptions {
  /** How long the server waits for the run: default 30, at most 300. */
  readonly timeoutSeconds?: number | undefined;
}

export interface SessionStart<Output = unknown> {
  readonly session: SessionSnapshot;
  readonly run: RunHandle<Output>;
  /** An earlier start with the same idempotency key or external id was returned. */
  readonly isCached: boolean;
}
export interface SessionStartAndWait<Output = unknown> {
  readonly session: SessionSnapshot;
  readonly run: RunSnapshot<Output>;
  readonly isCached: boolean;
  /** The run was not over within `timeoutSeconds`; it goes on. */
  readonly timedOut: boolean;
}

/** Arguments after a task object. */
export type StartArguments<T extends AnyTask, Options> = [SessionStartPayload<T>] extends [NoPayload]
  ? [options?: Options]
  : [payload: SessionStartPayload<T>, options?: Options];

/** Arguments after a task's id; `start<typeof audit>("audit", ...)` types them. */
export type StartByIdArguments<T extends AnyTask, Options> = [SessionStartPayload<T>] extends [NoPayload]
  ? [payload?: undefined, options?: Options]
  : [payload: SessionStartPayload<T>, options?: Options];

/** The last form, for any task by its id, is also what `Parameters<...>` sees. */
export interface StartFunction {
  <T extends AnyTask>(
    task: T,
    ...args: StartArguments<T, SessionStartOptions>
  ): Promise<SessionStart<TaskOutput<T>>>;
  <T extends AnyTask>(
    taskId: string,
    ...args: StartByIdArguments<T, SessionStartOptions>
  ): Promise<SessionStart<TaskOutput<T>>>;
  (taskId: string, payload?: unknown, options?: SessionStartOptions): Promise<SessionStart>;
}
export interface StartAndWaitFunction {
  <T extends AnyTask>(
    task: T,
    ...args: StartArguments<T, SessionStartAndWaitOptions>
  ): Promise<SessionStartAndWait<TaskOutput<T>>>;
  <T extends AnyTask>(
    taskId: string,
    ...args: StartByIdArguments<T, SessionStartAndWaitOptions>
  ): Promise<SessionStartAndWait<TaskOutput<T>>>;
  (taskId: string, payload?: unknown, options?: SessionStartAndWaitOptions): Promise<SessionStartAndWait>;
}
