/**
 * Messages between worker and guest agent, in frames of msgpack over one byte stream.
 *
 * The guest is hostile: the worker validates every message against these schemas and bounds (`limits`).
 * Both sides number their messages and resend what was not acknowledged when the stream is cut and opened again
 * (see link.ts), so that a restore loses and repeats nothing.
 */
import * as z from "zod";

import { guestCommandMessages, workerCommandMessages } from "./command-messages.ts";
import { limits } from "./constants.ts";

export { guestPaths, limits, protocolVersion } from "./constants.ts";

/** Buffers, too: those are Uint8Arrays over any kind of ArrayBuffer. */
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, "not bytes");
const text = z.string();

/** What the author sees of a thrown value; `cause` at most 5 levels deep. */
export interface TaskError {
  name: string;
  message: string;
  stack?: string | undefined;
  cause?: TaskError | undefined;
}
const errorText = z.string().max(limits.errorTextBytes + 64);
export const taskError: z.ZodType<TaskError> = z.lazy(() =>
  z.object({ name: errorText, message: errorText, stack: errorText.optional(), cause: taskError.optional() }),
);

export const secretPlacement = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("env"), name: text, env: text, value: text }),
  z.object({
    kind: z.literal("file"),
    name: text,
    path: text,
    mode: z.number().int(),
    owner: text.optional(),
    value: text,
  }),
  /** `dir`: the file `<path>/<name>` holds the value. */
  z.object({
    kind: z.literal("dir"),
    name: text,
    path: text,
    mode: z.number().int(),
    owner: text.optional(),
    value: text,
  }),
]);
export type SecretPlacement = z.infer<typeof secretPlacement>;

/** What a task asks Helmr for; the parameters' shapes are those of the worker's wire (worker-waits-api.ts). */
export const callMethod = z.enum(["wait", "stream.append", "stream.read", "token.create"]);
export type CallMethod = z.infer<typeof callMethod>;
export const callResult = z.discriminatedUnion("ok", [
  z.object({ ok: z.literal(true), value_json: text.max(limits.callResultBytes) }),
  z.object({ ok: z.literal(false), code: text.max(64).optional(), message: text.max(limits.errorTextBytes) }),
]);
export type CallResult = z.infer<typeof callResult>;

/** Worker to guest. */
export const workerMessage = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("run.start"),
    run: z.object({
      id: text,
      attempt_id: text,
      attempt_number: z.number().int(),
      run_lease_id: text,
      snapshot_version: z.number().int().optional(),
    }),
    session_id: text,
    task: z.object({ id: text, file_path: text, export_name: text }),
    /** JSON text, so that what the task sees is what the database holds. */
    payload_json: text,
    metadata_json: text,
    env: z.record(text, text),
    secrets: z.array(secretPlacement),
    workspace_path: text,
    /** Folder of the task source inside the guest. */
    source_root: text,
  }),
  /** `ctx.signal` aborts with this reason; the worker kills the guest when the grace is over. */
  z.object({ type: z.literal("run.cancel"), reason: text, grace_ms: z.number().int() }),
  /** The answer of a call; that of a wait may come to a guest that was saved and restored meanwhile. */
  z.object({ type: z.literal("call.result"), call_id: z.number().int(), result: callResult }),
  /**
   * First message after a restore: the task host draws fresh randomness, and answers `run.restored`, before it handles
   * anything the worker sends later. Without a run there is no answer.
   */
  z.object({ type: z.literal("run.restored") }),
  /** Load helmr.config.ts and the task modules below `source_root`, answer with the catalog. */
  z.object({ type: z.literal("index.start"), source_root: text }),
  ...workerCommandMessages,
]);
export type WorkerMessage = z.infer<typeof workerMessage>;

export const runOutcome = z.discriminatedUnion("status", [
  /** `output_json` absent: the task returned undefined. */
  z.object({ status: z.literal("succeeded"), output_json: text.max(limits.outputBytes).optional() }),
  z.object({
    status: z.literal("failed"),
    /** Contract 13.10. */
    failure_kind: z.enum([
      "task_failed",
      "task_not_found",
      "duplicate_task_id",
      "missing_config",
      "task_parse_failed",
      "payload_invalid",
      "output_too_large",
      "output_not_serializable",
    ]),
    error: taskError,
    /** Set when the task process ended by itself (`process.exit(3)`). */
    exit_code: z.number().int().optional(),
    signal: text.optional(),
  }),
  z.object({ status: z.literal("cancelled"), reason: text }),
]);
export type RunOutcome = z.infer<typeof runOutcome>;

export const metadataOperation = z.discriminatedUnion("op", [
  z.object({ op: z.literal("set"), key: text.max(1024), value_json: text.max(limits.metadataBytes) }),
  z.object({ op: z.literal("patch"), value_json: text.max(limits.metadataBytes) }),
  z.object({ op: z.literal("increment"), key: text.max(1024), amount: z.number() }),
]);
export type MetadataOperation = z.infer<typeof metadataOperation>;

/** Guest to worker. */
export const guestMessage = z.discriminatedUnion("type", [
  /** First message: the agent is up and its task host loaded. `node_version` like "24.9.0". */
  z.object({
    type: z.literal("ready"),
    protocol: z.number().int(),
    node_version: text.max(64),
    pid: z.number().int(),
  }),
  /** The task's function was entered. `at_ms`: guest clock, Unix milliseconds. */
  z.object({ type: z.literal("run.started"), at_ms: z.number() }),
  z.object({
    type: z.literal("log"),
    stream: z.enum(["stdout", "stderr"]),
    data: bytes.refine((b) => b.length <= limits.logChunkBytes, "log chunk too large"),
    at_ms: z.number(),
  }),
  z.object({ type: z.literal("metadata"), operation: metadataOperation }),
  /** `call_id`: counted by the task from 1. */
  z.object({
    type: z.literal("call"),
    call_id: z.number().int().positive(),
    method: callMethod,
    params_json: text.max(limits.callBytes),
  }),
  z.object({ type: z.literal("run.finished"), outcome: runOutcome }),
  /** The restored task host runs. `randomness_problem`: why its random generators repeat those of other restores. */
  z.object({ type: z.literal("run.restored"), randomness_problem: errorText.optional() }),
  z.object({ type: z.literal("index.finished"), catalog_json: text.max(limits.catalogBytes) }),
  /** `problems`: one text per problem, naming file, export and field. */
  z.object({
    type: z.literal("index.failed"),
    failure_kind: text.max(64),
    problems: z.array(errorText).max(100),
  }),
  ...guestCommandMessages,
]);
export type GuestMessage = z.infer<typeof guestMessage>;
