/** Runs (contract 2.2, 6): the run, its operations, its logs. Events are in events.ts. */
import { z } from "zod";
import { idempotencyKey, limit, reason, uuid } from "./values.ts";

export const runStatuses = [
  "queued",
  "running",
  "waiting",
  "succeeded",
  "failed",
  "cancelled",
  "expired",
] as const;
export const liveRunStatuses = ["queued", "running", "waiting"] as const;

/** What a run waits for: an input stream's record, a token, a time. */
export const pendingWait = z.strictObject({
  id: z.string(),
  kind: z.enum(["stream", "token", "timer"]),
  created_at: z.string(),
  timeout_at: z.string().optional(),
  params: z.record(z.string(), z.unknown()),
  metadata: z.record(z.string(), z.unknown()).optional(),
  tags: z.array(z.string()).optional(),
});
export type PendingWait = z.infer<typeof pendingWait>;

export const run = z.strictObject({
  id: z.string(),
  project_id: z.string(),
  environment_id: z.string(),
  deployment_id: z.string(),
  deployment_task_id: z.string(),
  session_id: z.string(),
  version: z.string(),
  deployment_version: z.string(),
  api_version: z.string(),
  sdk_version: z.string().optional(),
  cli_version: z.string().optional(),
  task_id: z.string(),
  status: z.enum(runStatuses),
  metadata: z.record(z.string(), z.unknown()).optional(),
  attempt_number: z.int().optional(),
  exit_code: z.int().nullable(),
  /** Absent unless the run produced output; null is an output. */
  output: z.unknown().optional(),
  created_at: z.string(),
  updated_at: z.string(),
  pending_wait: pendingWait.optional(),
});
export type Run = z.infer<typeof run>;

export const runList = z.strictObject({ runs: z.array(run) });
export const runListQuery = z.object({
  status: z.enum([...runStatuses, "live", "all"]).optional(),
  limit: limit.optional(),
  session_id: uuid.optional(),
  /** Only what this schedule has started. */
  schedule_id: uuid.optional(),
});
export const runParams = z.object({ runID: uuid });

export const runCounts = z.strictObject({
  queued: z.int(),
  running: z.int(),
  waiting: z.int(),
  succeeded: z.int(),
  failed: z.int(),
  cancelled: z.int(),
  expired: z.int(),
});
export type RunCounts = z.infer<typeof runCounts>;

export const runCancelRequest = z.strictObject({
  reason: reason.optional(),
  force: z.boolean().optional(),
  idempotency_key: idempotencyKey.optional(),
});
export const runOperation = z.strictObject({
  id: z.string(),
  run_id: z.string(),
  kind: z.literal("cancel"),
  status: z.enum(["pending", "applied", "rejected"]),
  reason: z.string().optional(),
  created_at: z.string(),
  applied_at: z.string().optional(),
});
export type RunOperation = z.infer<typeof runOperation>;
export const runCancelResponse = z.strictObject({ run, operation: runOperation });

/** Both streams whole, each up to 1 MiB; `cursor` is a decimal string here, a number in event pages. */
export const runLogs = z.strictObject({
  stdout_base64: z.base64(),
  stderr_base64: z.base64(),
  cursor: z.string(),
  stdout_bytes: z.int(),
  stderr_bytes: z.int(),
  truncated: z.boolean(),
});
export type RunLogs = z.infer<typeof runLogs>;

/** Data of one `run_log` frame. */
export const runLogFrame = z.strictObject({
  id: z.string(),
  run_id: z.string(),
  run_lease_id: z.string(),
  attempt_number: z.int(),
  stream: z.enum(["stdout", "stderr"]),
  content_base64: z.base64(),
  bytes: z.int(),
  observed_seq: z.int(),
  at: z.string(),
});
export type RunLogFrame = z.infer<typeof runLogFrame>;
