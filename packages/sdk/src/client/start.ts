/** Starting a session: the request's body, and the answer that says "ask again" (contract 3.1, 13.1). */
import { expectDuration } from "../authoring/duration.ts";
import { expectRetry } from "../authoring/retry.ts";
import { isTask, taskState } from "../authoring/task.ts";
import type { TaskState } from "../authoring/task-types.ts";
import { HelmrApiError, PayloadSchemaValidationError } from "../errors.ts";
import { validatePayload } from "../schema.ts";
import { sleep } from "./abort.ts";
import { idempotencyValue } from "./idempotency.ts";
import type { SessionStartAndWaitOptions } from "./start-types.ts";
import { traceHeaders } from "./trace-parent.ts";
import { type ApiRequest, type ApiResponse, describe, parseJson, type Transport } from "./transport.ts";

/** Contract 3.1: for all attempts of one start together. */
const pendingBudgetMs = 10_000;
const defaultPendingDelayMs = 250;
/** Keeps `Retry-After: 0` from becoming a busy loop. */
const minPendingDelayMs = 50;

export interface StartCall {
  readonly taskId: string;
  readonly task: TaskState | undefined;
  readonly payload: unknown;
  readonly options: SessionStartAndWaitOptions;
}

/** Sorts the arguments of `start` and `startAndWait`: a task without payload takes none. */
export function startCall(target: unknown, args: readonly unknown[]): StartCall {
  if (typeof target === "string") {
    return { taskId: target, task: undefined, payload: args[0], options: optionsOf(args[1]) };
  }
  if (!isTask(target))
    throw new TypeError("sessions.start(task): pass a task made by task({ ... }) or a task's id");
  const task = taskState(target);
  if (task.payload !== undefined)
    return { taskId: task.id, task, payload: args[0], options: optionsOf(args[1]) };
  if (args.length > 1 && args[0] !== undefined) {
    throw new TypeError(`task ${JSON.stringify(task.id)} has no payload; call start(task, options)`);
  }
  return {
    taskId: task.id,
    task,
    payload: undefined,
    options: optionsOf(args.length > 1 ? args[1] : args[0]),
  };
}

function optionsOf(value: unknown): SessionStartAndWaitOptions {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null)
    throw new TypeError("sessions.start: options must be an object");
  return value;
}

/** Checks the payload against the task's schema; what is sent is the payload as given, not as parsed. */
export async function checkPayload({ task, payload }: StartCall): Promise<void> {
  if (task?.payload === undefined) return;
  if (payload === undefined) {
    throw new PayloadSchemaValidationError(task.id, [{ message: "a payload is required", path: [] }]);
  }
  await validatePayload(task.payload, payload, task.id);
}

/** Undefined values are left out when the body becomes JSON. */
export async function startBody(call: StartCall): Promise<Record<string, unknown>> {
  const { taskId, task, payload, options } = call;
  const { expiresAt, queue, retry, ttl, idempotencyKey, idempotencyKeyTTL } = options;
  if (idempotencyKeyTTL !== undefined && idempotencyKey === undefined) {
    throw new TypeError("idempotencyKeyTTL needs an idempotencyKey");
  }
  return {
    task_id: taskId,
    payload,
    external_id: options.externalId,
    queue: queue === undefined ? undefined : { name: queueName(queue) },
    concurrency_key: options.concurrencyKey,
    priority: options.priority,
    ttl: ttl === undefined ? undefined : expectDuration(ttl, "ttl"),
    max_duration_seconds: options.maxDurationSeconds ?? task?.maxDurationSeconds,
    retry: retry === undefined ? undefined : expectRetry(retry, "retry"),
    metadata: options.metadata,
    tags: options.tags,
    idempotency_key: idempotencyKey === undefined ? undefined : await idempotencyValue(idempotencyKey),
    idempotency_key_ttl:
      idempotencyKeyTTL === undefined ? undefined : expectDuration(idempotencyKeyTTL, "idempotencyKeyTTL"),
    expires_at: expiresAt instanceof Date ? expiresAt.toISOString() : expiresAt,
    workspace_id: options.workspaceId,
  };
}

export function queueName(queue: NonNullable<SessionStartAndWaitOptions["queue"]>): string {
  if (typeof queue === "string") return queue;
  return "name" in queue ? queue.name : queue.id;
}

/**
 * Sends a start, again after each "in flight" answer (202 with code `idempotency_pending`) until the budget is spent.
 * Throws HelmrApiError with status 202 then, and on any other 202.
 */
export async function sendStart(transport: Transport, request: ApiRequest): Promise<unknown> {
  const startedAt = Date.now();
  const traced = { ...request, headers: { ...traceHeaders(), ...request.headers } };
  for (;;) {
    const response = await transport.send(traced);
    if (response.status !== 202) return parseJson(response.text, describe(request));
    const delayMs = pendingDelayMs(response);
    const isOverBudget = Date.now() - startedAt + delayMs > pendingBudgetMs;
    if (!isPending(response) || isOverBudget) throw new HelmrApiError(202, response.text, describe(request));
    await sleep(delayMs, request.scope.signal);
  }
}

function isPending(response: ApiResponse): boolean {
  try {
    const body: unknown = JSON.parse(response.text);
    return typeof body === "object" && body !== null && "code" in body && body.code === "idempotency_pending";
  } catch {
    // Not JSON, so not the answer that asks for a retry.
    return false;
  }
}

/** `Retry-After` in seconds or as an HTTP date. */
function pendingDelayMs(response: ApiResponse): number {
  const header = response.headers.get("retry-after")?.trim() ?? "";
  const delayMs = /^\d+(\.\d+)?$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(delayMs) ? defaultPendingDelayMs : Math.max(delayMs, minPendingDelayMs);
}
