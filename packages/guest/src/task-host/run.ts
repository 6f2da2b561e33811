/**
 * One run inside the task process, from its start message to its outcome.
 *
 * | step    | failure                                                                     |
 * |---------|-----------------------------------------------------------------------------|
 * | enter   | workspace missing or not accessible: task_failed                            |
 * | load    | no file, no such export: task_not_found; throws or no syntax: task_parse_failed |
 * | execute | payload_invalid before the author's code; else task_failed, cancelled        |
 * | output  | output_not_serializable, output_too_large                                   |
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { RunOutcome } from "@helmr/guest-protocol";
import type { RuntimeBridge, TaskContext, TaskRunner } from "@helmr/sdk/internal";
import type { RunStart } from "../host-protocol.ts";
import { locateSyntaxError } from "../load-error.ts";
import { describeThrown } from "../task-error.ts";
import { outcomeOf } from "./output.ts";

type Failure = Extract<RunOutcome, { status: "failed" }>;

/** What the host uses of `@helmr/sdk/internal`, from the mounted copy. */
export interface SdkInternal {
  readonly runtimeKey: symbol;
  isTask(value: unknown): value is { readonly id: string };
  taskRunner(task: unknown): TaskRunner;
}

export interface RunSeams {
  readonly sdk: SdkInternal;
  readonly bridge: RuntimeBridge;
  readonly signal: AbortSignal;
  /** The task's function is about to be entered. */
  readonly onStarted: () => void;
}

/** Load and execute the task. Resolves with an outcome for everything that can go wrong; never rejects. */
export async function executeRun(start: Omit<RunStart, "secrets">, seams: RunSeams): Promise<RunOutcome> {
  const file = join(start.source_root, start.task.file_path);
  try {
    enter(start, file);
  } catch (error) {
    return failed("task_failed", error);
  }
  const loaded = await load(start, file, seams.sdk);
  if (seams.signal.aborted) return cancelled(seams.signal);
  if (loaded.status === "failed") return loaded;
  Object.defineProperty(globalThis, seams.sdk.runtimeKey, { value: seams.bridge, configurable: true });
  return execute(start, loaded.run, seams);
}

/** The process looks as if it had been started for this task alone. */
function enter(start: Omit<RunStart, "secrets">, file: string): void {
  for (const name of Object.keys(process.env)) if (!Object.hasOwn(start.env, name)) delete process.env[name];
  Object.assign(process.env, start.env);
  process.argv.splice(1, process.argv.length, file);
  process.execArgv.length = 0;
  process.title = "node";
  process.chdir(start.workspace_path);
}

async function load(
  start: Omit<RunStart, "secrets">,
  file: string,
  sdk: SdkInternal,
): Promise<Failure | { readonly status: "loaded"; readonly run: TaskRunner }> {
  const { id, file_path: path, export_name: name } = start.task;
  if (!existsSync(file)) return notFound(`The deployment has no file ${path}; deploy the project again.`);
  let module: Record<string, unknown>;
  try {
    module = (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  } catch (error) {
    locateSyntaxError(error);
    return failed("task_parse_failed", error);
  }
  const task = module[name];
  if (!sdk.isTask(task))
    return notFound(`${path} has no task under the export "${name}"; deploy the project again.`);
  if (task.id !== id)
    return notFound(`The export "${name}" of ${path} is the task "${task.id}", not "${id}".`);
  return { status: "loaded", run: sdk.taskRunner(task) };
}

async function execute(
  start: Omit<RunStart, "secrets">,
  run: TaskRunner,
  seams: RunSeams,
): Promise<RunOutcome> {
  const ctx: TaskContext = {
    signal: seams.signal,
    run: {
      id: start.run.id,
      attemptId: start.run.attempt_id,
      attemptNumber: start.run.attempt_number,
      runLeaseId: start.run.run_lease_id,
      ...(start.run.snapshot_version === undefined ? {} : { snapshotVersion: start.run.snapshot_version }),
    },
    task: { id: start.task.id },
    workspace: { path: start.workspace_path, projectPath: start.source_root },
    session: { id: start.session_id },
  };
  try {
    seams.onStarted();
    const value = await run(JSON.parse(start.payload_json), ctx);
    return seams.signal.aborted ? cancelled(seams.signal) : outcomeOf(value);
  } catch (error) {
    if (seams.signal.aborted) return cancelled(seams.signal);
    return failed(isInvalidPayload(error, start.task.id) ? "payload_invalid" : "task_failed", error);
  }
}

/** By name and task, not by class: the task may have an SDK of its own in the tree. */
function isInvalidPayload(error: unknown, taskId: string): boolean {
  if (!(error instanceof Error)) return false;
  return error.name === "PayloadSchemaValidationError" && (error as { taskId?: unknown }).taskId === taskId;
}

function failed(kind: Failure["failure_kind"], error: unknown): Failure {
  return { status: "failed", failure_kind: kind, error: describeThrown(error) };
}

function notFound(message: string): Failure {
  return { status: "failed", failure_kind: "task_not_found", error: { name: "TaskNotFoundError", message } };
}

/** After the abort, however the task ended. */
export function cancelled(signal: AbortSignal): RunOutcome {
  const { message } = describeThrown(signal.reason);
  return { status: "cancelled", reason: message };
}
