/** Sessions (contract 2.1, 3): what a start asks for, what a session looks like. */
import { z } from "zod";
import { retryPolicy } from "../catalog.ts";
import { isWritableJson } from "../json.ts";
import { run } from "./runs.ts";
import {
  concurrencyKey,
  duration,
  externalId,
  idempotencyKey,
  limit,
  maxDurationSeconds,
  metadata,
  queueName,
  reason,
  tags,
  taskId,
  timestamp,
  uuid,
} from "./values.ts";

export const sessionStatuses = ["open", "closed", "cancelled", "expired"] as const;
export const sessionActivities = ["idle", "queued", "running", "waiting"] as const;

/** Keys that are absent mean "none": `result`, `error` and `terminal_reason` are never null for that. */
export const session = z.strictObject({
  id: z.string(),
  project_id: z.string(),
  environment_id: z.string(),
  task_id: z.string(),
  initial_deployment_id: z.string(),
  active_deployment_id: z.string(),
  external_id: z.string().optional(),
  status: z.enum(sessionStatuses),
  activity: z.enum(sessionActivities),
  can_close: z.boolean(),
  current_run_id: z.string().optional(),
  workspace_id: z.string().optional(),
  metadata: z.record(z.string(), z.unknown()).optional(),
  tags: z.array(z.string()).optional(),
  result: z.unknown().optional(),
  error: z.record(z.string(), z.unknown()).optional(),
  timed_out: z.boolean().optional(),
  terminal_reason: z.unknown().optional(),
  expires_at: z.string().optional(),
  expired_at: z.string().optional(),
  created_at: z.string(),
  updated_at: z.string(),
});
export type Session = z.infer<typeof session>;

export const sessionList = z.strictObject({ sessions: z.array(session) });

/** One run of a session, in turn order. */
export const sessionRun = z.strictObject({
  id: z.string(),
  run_id: z.string(),
  deployment_id: z.string(),
  previous_run_id: z.string().optional(),
  turn_index: z.int(),
  status: z.string(),
  execution_status: z.string(),
  terminal_outcome: z.string().optional(),
  created_at: z.string(),
  ended_at: z.string().optional(),
});
export type SessionRun = z.infer<typeof sessionRun>;
export const sessionRunList = z.strictObject({ runs: z.array(sessionRun) });

export const sessionStart = z.strictObject({
  session,
  run,
  is_cached: z.boolean().optional(),
  timed_out: z.boolean().optional(),
});
export type SessionStart = z.infer<typeof sessionStart>;

/** What a guest is handed in one frame beside its secrets; refused at the start, since the run could only fail. */
const maxPayloadBytes = 4 * 1024 * 1024;

/** A key that a start refuses by name. Every other unknown key is ignored. */
const refused = (hint: string) => z.never({ error: `is not accepted here: ${hint}` }).optional();

const startFields = {
  task_id: taskId,
  payload: z
    .unknown()
    .refine((value) => value === undefined || isWritableJson(value), {
      error: "must not be nested deeper than 200 levels, or hold numbers beyond the range of a double",
      abort: true,
    })
    .refine(
      (value) =>
        value === undefined || new TextEncoder().encode(JSON.stringify(value)).length <= maxPayloadBytes,
      {
        error: `must be at most ${maxPayloadBytes} bytes as JSON; pass where a large input lies instead of the input`,
      },
    )
    .optional(),
  external_id: externalId.optional(),
  queue: z.object({ name: queueName }).optional(),
  concurrency_key: concurrencyKey.optional(),
  priority: z.int32().optional(),
  ttl: duration.optional(),
  max_duration_seconds: maxDurationSeconds.optional(),
  retry: retryPolicy.optional(),
  metadata: metadata.optional(),
  tags: tags.optional(),
  idempotency_key: idempotencyKey.optional(),
  idempotency_key_ttl: duration.optional(),
  expires_at: timestamp.optional(),
  workspace_id: uuid.optional(),
  options: refused("send the options as fields of the body"),
  bundle: refused("deploy the source first"),
  source: refused("deploy the source first"),
  deployment_id: refused("a start runs on the current deployment"),
  version: refused("a start runs on the current deployment"),
  project_id: refused("the credential names the project"),
  environment_id: refused("the credential names the environment"),
};

const ttlHasKey = (body: {
  idempotency_key?: string | undefined;
  idempotency_key_ttl?: string | undefined;
}) => body.idempotency_key_ttl === undefined || body.idempotency_key !== undefined;
const ttlNeedsKey = { error: "is only valid together with idempotency_key", path: ["idempotency_key_ttl"] };

export const sessionStartRequest = z.object(startFields).refine(ttlHasKey, ttlNeedsKey);
export type SessionStartRequest = z.output<typeof sessionStartRequest>;
export const sessionStartAndWaitRequest = z
  .object({ ...startFields, timeout_seconds: z.int().optional() })
  .refine(ttlHasKey, ttlNeedsKey);
export type SessionStartAndWaitRequest = z.output<typeof sessionStartAndWaitRequest>;

export const sessionListQuery = z.object({
  status: z.enum([...sessionStatuses, "all"]).optional(),
  task_id: taskId.optional(),
  external_id: externalId.optional(),
  limit: limit.optional(),
});
export const sessionPatchRequest = z.strictObject({
  metadata: metadata.optional(),
  tags: tags.optional(),
  expires_at: timestamp.optional(),
});
export const sessionEndRequest = z.strictObject({ reason: reason.optional() });
/** How `{S}` names a session. */
export const sessionParams = z.object({ sessionID: uuid });
export const sessionExternalQuery = z.object({
  external_id: externalId.refine((text) => text !== "", { error: "must not be empty" }),
});
