/** Runs of the tasks in fixtures/behaviours. */
import { join } from "node:path";
import type { RunEvent, RunSnapshot } from "@helmr/sdk";
import { helmr, repositoryRoot } from "./cli.ts";
import { stackClient, stackEnv } from "./client.ts";

/** Deploy the fixture; the second time it is a matter of seconds, since every step is cached. */
export async function deployBehaviours(): Promise<void> {
  const result = await helmr(["deploy", join(repositoryRoot, "tests/fixtures/behaviours")], {
    env: stackEnv(),
    timeoutMs: 300_000,
  });
  if (result.exitCode !== 0) throw new Error(`deploy failed:\n${result.stdout}\n${result.stderr}`);
}

export interface FinishedRun {
  readonly run: RunSnapshot;
  readonly sessionId: string;
  readonly workspaceId: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly events: readonly RunEvent[];
}

type StartOptions = NonNullable<Parameters<ReturnType<typeof stackClient>["sessions"]["start"]>[2]>;

/** Start the task and wait for its end (3 minutes at most). */
export async function runTask(
  taskId: string,
  payload: unknown = {},
  options: StartOptions = {},
): Promise<FinishedRun> {
  const client = stackClient();
  const started = await client.sessions.start(taskId, payload, options);
  return finished(started.run.id, started.session.id);
}

/** Wait for the run's end and collect what is recorded about it. */
export async function finished(runId: string, sessionId: string): Promise<FinishedRun> {
  const client = stackClient();
  const run = await client.runs.wait(runId, { timeoutMs: 180_000 });
  const [logs, events, session] = await Promise.all([
    client.runs.logs.retrieve(runId),
    client.runs.events.list(runId),
    client.sessions.retrieve(sessionId),
  ]);
  return {
    run,
    sessionId,
    workspaceId: session.workspaceId ?? null,
    stdout: logs.stdout,
    stderr: logs.stderr,
    events,
  };
}

/** `failure_kind` and `detail` of the run's `run_failed` event. */
export function failureOf(result: FinishedRun): { kind: string; text: string } {
  const event = result.events.find((candidate) => candidate.type === "run_failed");
  if (event === undefined || event.type !== "run_failed")
    throw new Error(`run is ${result.run.status}, not failed`);
  return { kind: event.failure_kind, text: JSON.stringify(event.detail) };
}

/** What a command run inside a guest printed, and how it ended. */
export interface ProbeOutput {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** Run a command inside a fresh guest through one of the probe tasks. */
export async function probe(
  task: "probe-open" | "probe-offline" | "probe-denied",
  ...argv: string[]
): Promise<ProbeOutput> {
  const result = await runTask(task, { argv });
  if (result.run.status !== "succeeded")
    throw new Error(`probe ${argv.join(" ")}: ${JSON.stringify(result.events)}`);
  return result.run.output as ProbeOutput;
}

/** Run JavaScript in a node of its own inside a fresh guest. */
export function probeScript(task: Parameters<typeof probe>[0], script: string): Promise<ProbeOutput> {
  return probe(task, "node", "--input-type=module", "-e", script);
}
