/** Commands, terminals and pieces of their streams as the client returns them (contract 7.1). */
import { InvalidResponseError } from "../../errors.ts";
import { bytesOfBase64 } from "../bytes.ts";
import { textList, type WireObject, wireObject, wireText } from "../wire.ts";
import { optionalNumber, optionalText, wireCount } from "./target.ts";

export type WorkspaceExecState =
  | "queued"
  | "materializing"
  | "running"
  | "exited"
  | "terminated"
  | "lost"
  | "failed";
export type WorkspacePtyState = "creating" | "open" | "resizing" | "closing" | "closed" | "lost" | "failed";
export type WorkspaceStreamName = "stdout" | "stderr" | "stdin" | "output" | "input";

/** A command as it was when the server answered. */
export interface WorkspaceExecSnapshot {
  readonly id: string;
  readonly workspaceId: string;
  readonly materializationId?: string;
  readonly command: readonly string[];
  /** Empty: the workspace's root. */
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly filesystemMode: "write";
  readonly state: WorkspaceExecState;
  readonly detached: boolean;
  readonly processId?: string;
  readonly exitCode?: number;
  readonly signal?: string;
  readonly error?: unknown;
  /** Bytes of each stream so far. */
  readonly stdoutCursor: number;
  readonly stderrCursor: number;
  readonly stdinCursor: number;
  readonly stdinClosedAt?: string;
  readonly createdAt: string;
  readonly startedAt?: string;
  readonly exitedAt?: string;
  readonly updatedAt: string;
}

/** A terminal as it was when the server answered. */
export interface WorkspacePtySnapshot {
  readonly id: string;
  readonly workspaceId: string;
  readonly materializationId?: string;
  readonly cwd: string;
  readonly cols: number;
  readonly rows: number;
  readonly filesystemMode: "write";
  readonly state: WorkspacePtyState;
  readonly processId?: string;
  readonly outputCursor: number;
  readonly inputCursor: number;
  readonly error?: unknown;
  readonly createdAt: string;
  readonly startedAt?: string;
  readonly closedAt?: string;
  readonly updatedAt: string;
}

/** A piece of a byte stream. `offsetEnd` is `offsetStart` and the length of the data: pass it as cursor to continue. */
export interface WorkspaceStreamChunk {
  readonly id: string;
  readonly stream: WorkspaceStreamName;
  readonly offsetStart: number;
  readonly offsetEnd: number;
  readonly data: Uint8Array;
  readonly observedAt: string;
  readonly createdAt: string;
}

const endedExec: ReadonlySet<string> = new Set(["exited", "terminated", "lost", "failed"]);
export function isEnded(exec: WorkspaceExecSnapshot): boolean {
  return endedExec.has(exec.state);
}

export function execOf(value: unknown): WorkspaceExecSnapshot {
  const exec = wireObject(value, "exec");
  const env = exec.env_shape;
  return {
    ...common(exec, "exec"),
    command: textList(exec, "command"),
    ...(typeof env === "object" && env !== null ? { env: env as Readonly<Record<string, string>> } : {}),
    state: wireText(exec, "state", "exec") as WorkspaceExecState,
    detached: exec.detached === true,
    ...optionalNumber(exec, "exit_code", "exitCode"),
    ...optionalText(exec, "signal", "signal"),
    stdoutCursor: wireCount(exec, "stdout_cursor", "exec"),
    stderrCursor: wireCount(exec, "stderr_cursor", "exec"),
    stdinCursor: wireCount(exec, "stdin_cursor", "exec"),
    ...optionalText(exec, "stdin_closed_at", "stdinClosedAt"),
    ...optionalText(exec, "exited_at", "exitedAt"),
  };
}

export function ptyOf(value: unknown): WorkspacePtySnapshot {
  const pty = wireObject(value, "pty");
  return {
    ...common(pty, "pty"),
    cols: wireCount(pty, "cols", "pty"),
    rows: wireCount(pty, "rows", "pty"),
    state: wireText(pty, "state", "pty") as WorkspacePtyState,
    outputCursor: wireCount(pty, "output_cursor", "pty"),
    inputCursor: wireCount(pty, "input_cursor", "pty"),
    ...optionalText(pty, "closed_at", "closedAt"),
  };
}

/** Contract 14, 2: throws InvalidResponseError when what is promised is another way to use the files. */
function common(object: WireObject, what: "exec" | "pty") {
  if (object.filesystem_mode !== "write") {
    throw new InvalidResponseError(
      `${what}: filesystem_mode ${JSON.stringify(object.filesystem_mode)} is none that this SDK knows`,
    );
  }
  return {
    id: wireText(object, "id", what),
    workspaceId: wireText(object, "workspace_id", what),
    ...optionalText(object, "materialization_id", "materializationId"),
    cwd: wireText(object, "cwd", what),
    filesystemMode: "write" as const,
    ...optionalText(object, "process_id", "processId"),
    ...(Object.hasOwn(object, "error") ? { error: object.error } : {}),
    createdAt: wireText(object, "created_at", what),
    ...optionalText(object, "started_at", "startedAt"),
    updatedAt: wireText(object, "updated_at", what),
  };
}

/** Throws InvalidResponseError when offsets and data do not fit together. */
export function chunkOf(value: unknown): WorkspaceStreamChunk {
  const chunk = wireObject(value, "chunk");
  const offsetStart = wireCount(chunk, "offset_start", "chunk");
  const offsetEnd = wireCount(chunk, "offset_end", "chunk");
  const data = bytesOfBase64(wireText(chunk, "data", "chunk"), "chunk");
  if (offsetEnd - offsetStart !== data.length) {
    throw new InvalidResponseError(
      `chunk: ${data.length} bytes do not fit from ${offsetStart} to ${offsetEnd}`,
    );
  }
  return Object.freeze({
    id: wireText(chunk, "id", "chunk"),
    stream: wireText(chunk, "stream", "chunk") as WorkspaceStreamName,
    offsetStart,
    offsetEnd,
    data,
    observedAt: wireText(chunk, "observed_at", "chunk"),
    createdAt: wireText(chunk, "created_at", "chunk"),
  });
}
