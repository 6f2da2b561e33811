/** Commands (execs) and terminals (ptys) in workspaces, and their byte streams (contract 7.3-7.6). */
import { z } from "zod";
import { cursor, follow, idempotencyKey, limit, longLimit, uuid } from "./values.ts";

export const execStates = [
  "queued",
  "materializing",
  "running",
  "exited",
  "terminated",
  "lost",
  "failed",
] as const;
export const ptyStates = ["creating", "open", "resizing", "closing", "closed", "lost", "failed"] as const;
export const workspaceStreams = ["stdout", "stderr", "stdin", "output", "input"] as const;

/** Decoded, of one write to stdin or a terminal. */
export const maxInputBytes = 1024 * 1024;
/** Kept of each stream; what is older is gone. */
export const streamRetentionBytes = 64 * 1024 * 1024;

const errorObject = z.looseObject({ message: z.string() });
export const exec = z.strictObject({
  id: z.string(),
  workspace_id: z.string(),
  materialization_id: z.string().optional(),
  command: z.array(z.string()),
  cwd: z.string(),
  env_shape: z.record(z.string(), z.string()).optional(),
  filesystem_mode: z.literal("write"),
  state: z.enum(execStates),
  detached: z.boolean(),
  process_id: z.string().optional(),
  exit_code: z.int().optional(),
  signal: z.string().optional(),
  error: errorObject.optional(),
  stdout_cursor: z.int(),
  stderr_cursor: z.int(),
  stdin_cursor: z.int(),
  stdin_closed_at: z.string().optional(),
  created_at: z.string(),
  started_at: z.string().optional(),
  exited_at: z.string().optional(),
  updated_at: z.string(),
});
export type Exec = z.infer<typeof exec>;
export const execEnvelope = z.strictObject({ exec });
export const createdExec = z.strictObject({ exec, is_cached: z.literal(true).optional() });
export const execList = z.strictObject({ execs: z.array(exec) });

export const pty = z.strictObject({
  id: z.string(),
  workspace_id: z.string(),
  materialization_id: z.string().optional(),
  cwd: z.string(),
  cols: z.int(),
  rows: z.int(),
  filesystem_mode: z.literal("write"),
  state: z.enum(ptyStates),
  process_id: z.string().optional(),
  output_cursor: z.int(),
  input_cursor: z.int(),
  error: errorObject.optional(),
  created_at: z.string(),
  started_at: z.string().optional(),
  closed_at: z.string().optional(),
  updated_at: z.string(),
});
export type Pty = z.infer<typeof pty>;
export const ptyEnvelope = z.strictObject({ pty });
export const createdPty = z.strictObject({ pty, is_cached: z.literal(true).optional() });
export const ptyList = z.strictObject({ ptys: z.array(pty) });

/** Offsets count bytes; `offset_end` is `offset_start` and the length of the data. */
export const workspaceChunk = z.strictObject({
  id: z.string(),
  stream: z.enum(workspaceStreams),
  offset_start: z.int(),
  offset_end: z.int(),
  data: z.base64(),
  observed_at: z.string(),
  created_at: z.string(),
});
export type WorkspaceChunk = z.infer<typeof workspaceChunk>;
export const workspaceChunkList = z.strictObject({ chunks: z.array(workspaceChunk) });

/** What PostgreSQL and exec(2) can both hold. */
const plain = (text: string): boolean => !text.includes("\0") && text.isWellFormed();
const mustBePlain = "must not contain NUL or half a surrogate pair";
const maxCommandBytes = 128 * 1024;
const workingDirectory = z
  .string()
  .max(4096)
  .refine(plain, mustBePlain)
  .refine((path) => path === "" || (path.startsWith("/") && !path.split("/").includes("..")), {
    error: 'must be an absolute path without ".."',
  });
const environmentVariables = z
  .record(
    z
      .string()
      .regex(/^[^=\0]{1,1024}$/, { error: "must be a variable's name, without = and NUL" })
      .refine((name) => name.isWellFormed(), mustBePlain),
    z.string().refine(plain, mustBePlain),
  )
  .refine((env) => JSON.stringify(env).length <= maxCommandBytes, { error: "must be at most 128 KiB" });

export const execCreateRequest = z.strictObject({
  command: z
    .array(
      z
        .string()
        .refine((word) => word.trim() !== "", "must not be blank")
        .refine(plain, mustBePlain),
    )
    .min(1, "must name a program")
    .max(4096)
    .refine((words) => words.join(" ").length <= maxCommandBytes, { error: "must be at most 128 KiB" }),
  cwd: workingDirectory.optional(),
  env: environmentVariables.optional(),
  detached: z.boolean().optional(),
  idempotency_key: idempotencyKey.optional(),
});
const size = (name: string) => z.int().max(500, `${name} must be at most 500`);
/** 0, less or absent: 80 x 24. */
export const ptyCreateRequest = z.strictObject({
  cwd: workingDirectory.optional(),
  cols: size("cols").optional(),
  rows: size("rows").optional(),
  idempotency_key: idempotencyKey.optional(),
});
export const ptyResizeRequest = z.strictObject({
  cols: size("cols").positive("cols must be at least 1"),
  rows: size("rows").positive("rows must be at least 1"),
});
export const workspaceInputRequest = z.strictObject({
  offset: z.int().nonnegative(),
  /** Standard alphabet with padding. At most 1 MiB decoded: longer is 413, not 400, so it is not checked here. */
  data: z.base64().min(1, "must not be empty"),
});
/** Default SIGTERM. To the command's process group. */
export const execKillRequest = z.strictObject({
  signal: z
    .enum(["SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT"])
    .optional(),
});

export const execListQuery = z.object({ state: z.enum(execStates).optional(), limit: limit.optional() });
export const ptyListQuery = z.object({ state: z.enum(ptyStates).optional(), limit: limit.optional() });
export const workspaceStreamQuery = z.object({
  cursor: cursor.optional(),
  limit: longLimit.optional(),
  follow: follow.optional(),
});
export const execParams = z.object({ workspaceID: uuid, execID: uuid });
export const ptyParams = z.object({ workspaceID: uuid, ptyID: uuid });
