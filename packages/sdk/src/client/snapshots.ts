/** Sessions and runs as the client returns them: camelCase, frozen, made from the wire's objects (contract 2). */
import { InvalidResponseError } from "../errors.ts";
import {
  numberOrNull,
  objectOrEmpty,
  textList,
  textOrNull,
  type WireObject,
  wireObject,
  wireText,
} from "./wire.ts";

export type SessionStatus = "open" | "closed" | "cancelled" | "expired";
export type SessionActivity = "idle" | "queued" | "running" | "waiting";

export interface SessionSnapshot {
  readonly id: string;
  readonly projectId: string;
  readonly environmentId: string;
  readonly taskId: string;
  readonly initialDeploymentId: string;
  readonly activeDeploymentId: string;
  readonly externalId?: string;
  readonly status: SessionStatus;
  readonly activity: SessionActivity;
  /** Whether `close` would succeed now. */
  readonly canClose: boolean;
  readonly currentRunId: string | null;
  readonly workspaceId: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tags: readonly string[];
  /** The key exists only when there is a result; a run's own output is in `run.output`. */
  readonly result?: unknown;
  /** The key exists only when the session was cancelled or expired. */
  readonly error?: unknown;
  readonly timedOut: boolean;
  readonly terminalReason?: unknown;
  /** Timestamps are RFC 3339 texts in UTC. */
  readonly expiresAt: string | null;
  readonly expiredAt: string | null;
  readonly createdAt: string;
  readonly updatedAt: string;
}

export const runStatuses = [
  "queued",
  "running",
  "waiting",
  "succeeded",
  "failed",
  "cancelled",
  "expired",
] as const;
export type RunStatus = (typeof runStatuses)[number];

export interface RunSnapshot<Output = unknown> {
  readonly id: string;
  readonly taskId: string;
  readonly version: string | null;
  readonly deploymentVersion: string | null;
  readonly apiVersion: string | null;
  readonly sdkVersion: string | null;
  readonly cliVersion: string | null;
  readonly attemptNumber: number | null;
  readonly status: RunStatus;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly exitCode: number | null;
  readonly createdAt: string | null;
  readonly updatedAt: string | null;
  /** The key exists only when the run returned something. */
  readonly output?: Output;
  readonly isQueued: boolean;
  readonly isRunning: boolean;
  readonly isWaiting: boolean;
  /** Succeeded, failed, cancelled or expired. */
  readonly isTerminal: boolean;
  readonly isSuccess: boolean;
  readonly isFailed: boolean;
  readonly isCancelled: boolean;
}
export type RunSummary<Output = unknown> = RunSnapshot<Output>;

/** A run by its id; `Output` is the type its task returns. */
export interface RunHandle<Output = unknown> {
  readonly id: string;
  readonly taskId: string;
  /** Exists in types only. */
  readonly [runOutput]?: Output;
}
declare const runOutput: unique symbol;

/** One run of a session, in the order of its turns. */
export interface SessionRun {
  readonly id: string;
  readonly runId: string;
  readonly deploymentId: string;
  readonly previousRunId: string | null;
  /** 0 for the first. */
  readonly turnIndex: number;
  readonly status: string;
  readonly executionStatus: string;
  readonly terminalOutcome: string | null;
  readonly createdAt: string;
  readonly endedAt: string | null;
}

export function sessionSnapshot(value: unknown): SessionSnapshot {
  const session = wireObject(value, "session");
  const externalId = textOrNull(session, "external_id");
  return Object.freeze({
    id: wireText(session, "id", "session"),
    projectId: wireText(session, "project_id", "session"),
    environmentId: wireText(session, "environment_id", "session"),
    taskId: wireText(session, "task_id", "session"),
    initialDeploymentId: wireText(session, "initial_deployment_id", "session"),
    activeDeploymentId: wireText(session, "active_deployment_id", "session"),
    ...(externalId === null ? {} : { externalId }),
    status: wireText(session, "status", "session") as SessionStatus,
    activity: wireText(session, "activity", "session") as SessionActivity,
    canClose: session.can_close === true,
    currentRunId: textOrNull(session, "current_run_id"),
    workspaceId: textOrNull(session, "workspace_id"),
    metadata: objectOrEmpty(session, "metadata"),
    tags: textList(session, "tags"),
    ...present(session, "result", "result"),
    ...present(session, "error", "error"),
    timedOut: session.timed_out === true,
    ...present(session, "terminal_reason", "terminalReason"),
    expiresAt: textOrNull(session, "expires_at"),
    expiredAt: textOrNull(session, "expired_at"),
    createdAt: wireText(session, "created_at", "session"),
    updatedAt: wireText(session, "updated_at", "session"),
  });
}

/** Contract 14, 14: a key that is there counts, whatever its value. */
function present<Name extends string>(
  object: WireObject,
  key: string,
  name: Name,
): { [K in Name]?: unknown } {
  return Object.hasOwn(object, key) ? ({ [name]: object[key] } as { [K in Name]?: unknown }) : {};
}

/** Throws InvalidResponseError on a status that is none of the seven. */
export function runSnapshot<Output>(value: unknown): RunSnapshot<Output> {
  const run = wireObject(value, "run");
  const status = runStatuses.find((known) => known === run.status);
  if (status === undefined) {
    throw new InvalidResponseError(
      `run: unknown status ${JSON.stringify(run.status)}; is this SDK older than the server?`,
    );
  }
  const isTerminal = status !== "queued" && status !== "running" && status !== "waiting";
  return Object.freeze({
    id: wireText(run, "id", "run"),
    taskId: wireText(run, "task_id", "run"),
    version: textOrNull(run, "version"),
    deploymentVersion: textOrNull(run, "deployment_version"),
    apiVersion: textOrNull(run, "api_version"),
    sdkVersion: textOrNull(run, "sdk_version"),
    cliVersion: textOrNull(run, "cli_version"),
    attemptNumber: numberOrNull(run, "attempt_number"),
    status,
    metadata: objectOrEmpty(run, "metadata"),
    exitCode: numberOrNull(run, "exit_code"),
    createdAt: textOrNull(run, "created_at"),
    updatedAt: textOrNull(run, "updated_at"),
    ...(Object.hasOwn(run, "output") ? { output: run.output as Output } : {}),
    isQueued: status === "queued",
    isRunning: status === "running",
    isWaiting: status === "waiting",
    isTerminal,
    isSuccess: status === "succeeded",
    isFailed: status === "failed",
    isCancelled: status === "cancelled",
  });
}

/** A start's answer needs no more of the run than its ids. */
export function runHandle<Output>(value: unknown): RunHandle<Output> {
  const run = wireObject(value, "run");
  return Object.freeze({ id: wireText(run, "id", "run"), taskId: wireText(run, "task_id", "run") });
}

export function sessionRun(value: unknown): SessionRun {
  const run = wireObject(value, "session run");
  return Object.freeze({
    id: wireText(run, "id", "session run"),
    runId: wireText(run, "run_id", "session run"),
    deploymentId: wireText(run, "deployment_id", "session run"),
    previousRunId: textOrNull(run, "previous_run_id"),
    turnIndex: numberOrNull(run, "turn_index") ?? 0,
    status: wireText(run, "status", "session run"),
    executionStatus: wireText(run, "execution_status", "session run"),
    terminalOutcome: textOrNull(run, "terminal_outcome"),
    createdAt: wireText(run, "created_at", "session run"),
    endedAt: textOrNull(run, "ended_at"),
  });
}
