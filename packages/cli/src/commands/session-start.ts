/** `helmr session start`: a task's payload and options in, a run out; optionally watched to its end. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import { responseError } from "../client/api-error.ts";
import { followRunLogs, outcomeCode, waitForRun } from "../client/runs.ts";
import { checked, type SessionStart } from "../client/wire.ts";
import { declare, inEnvironment, timeoutOption } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { usageError } from "../errors.ts";
import { note, writeFields, writeJson, writeJsonLine } from "../output.ts";
import { writeLogFrame, writeOutcome } from "../run-view.ts";
import { integer, jsonObject, jsonValue, repeated, seconds } from "../values.ts";
import { workspaceId } from "../workspace/address.ts";

interface StartOptions extends EnvironmentOptions {
  readonly payload?: string;
  readonly queue?: string;
  readonly priority?: number;
  readonly ttl?: string;
  readonly tag?: string[];
  readonly metadata?: string;
  readonly externalId?: string;
  readonly idempotencyKey?: string;
  readonly idempotencyKeyTtl?: string;
  readonly maxDuration?: number;
  readonly concurrencyKey?: string;
  readonly retry?: string;
  readonly expiresAt?: string;
  readonly workspace?: string;
  readonly workspaceId?: string;
  readonly wait?: boolean;
  readonly follow?: boolean;
  readonly timeout: number;
}

const pendingBudgetMs = 10_000;
const pendingDefaultDelayMs = 250;

export function registerSessionStart(group: Command): void {
  inEnvironment(
    declare(
      group,
      "start <task>",
      "Start a task; with --wait or --follow the exit code is the run's outcome",
      [
        `helmr session start hello --payload '{"name":"Ada"}' --follow`,
        "helmr session start hello --payload @payload.json --wait --json",
        "jq . order.json | helmr session start bill --payload - --external-id order-7",
      ],
    ),
  )
    .option("-p, --payload <json>", "JSON, @file, or - for stdin")
    .option("--queue <name>", "a queue of the deployment other than the task's own")
    .option("--priority <n>", "higher runs first in the environment", integer(-(2 ** 31), 2 ** 31 - 1))
    .option("--ttl <duration>", "expire when not started within this time")
    .option("--tag <tag>", "may be given up to ten times", repeated)
    .option("--metadata <json>", "a JSON object, or @file")
    .option("--external-id <id>", "your own name for the session, unique in the environment")
    .option("--idempotency-key <key>", "the same key and options give the same session")
    .option("--idempotency-key-ttl <duration>", "how long the key is remembered (default: 720h)")
    .option("--max-duration <seconds>", "limit of the run, 5 to 86400 seconds (or 10m, 2h)", seconds)
    .option("--concurrency-key <key>", "queue limits count per key")
    .option("--retry <json>", `a retry policy, such as '{"maxAttempts":3}'`)
    .option("--expires-at <time>", "when the session expires, such as 2027-01-31T12:00:00Z")
    .option("--workspace <workspace>", "work in this workspace, by id or external id, instead of a new one")
    .option("--workspace-id <id>", "the same by id")
    .option("-w, --wait", "wait until the run is over and print its output")
    .option("-f, --follow", "as --wait, with the run's logs as they come")
    .addOption(timeoutOption("with --wait: give up after this long with exit code 124", "24h"))
    .action(start);
}

const start = async (task: string, options: StartOptions): Promise<void> => {
  const given = await startBody(task, options);
  let runId: string | undefined;
  const hint = () =>
    runId && `the run goes on; \`helmr run logs ${runId} --follow\` or \`helmr run cancel ${runId}\``;
  await withApi(
    options,
    async (api) => {
      const workspace = options.workspace && { workspace_id: await workspaceId(api, options.workspace) };
      const started = await startSession(api, { ...given, ...workspace });
      runId = started.run.id;
      if (options.follow) return followStarted(api, started, options);
      if (options.wait) return waitForStarted(api, started, options);
      if (options.json) return writeJson(started);
      await writeFields([
        ["session", started.session.id],
        ["run", started.run.id],
        ["status", started.run.status],
        ["reused", started.is_cached ? "yes" : undefined],
      ]);
    },
    hint,
  );
};

/** The body of contract 3.1; keys without a value are left out by JSON. */
async function startBody(task: string, options: StartOptions): Promise<Record<string, unknown>> {
  if (options.payload === "-" && options.metadata === "-")
    throw usageError("only one of --payload and --metadata can be stdin");
  if (options.idempotencyKeyTtl !== undefined && options.idempotencyKey === undefined) {
    throw usageError("--idempotency-key-ttl needs --idempotency-key");
  }
  if (options.workspace !== undefined && options.workspaceId !== undefined)
    throw usageError("--workspace and --workspace-id are the same: give one of them");
  return {
    task_id: task,
    payload: options.payload === undefined ? undefined : await jsonValue(options.payload, "--payload"),
    queue: options.queue === undefined ? undefined : { name: options.queue },
    priority: options.priority,
    ttl: options.ttl,
    tags: options.tag,
    metadata: options.metadata === undefined ? undefined : await jsonObject(options.metadata, "--metadata"),
    external_id: options.externalId,
    idempotency_key: options.idempotencyKey,
    idempotency_key_ttl: options.idempotencyKeyTtl,
    max_duration_seconds: options.maxDuration,
    concurrency_key: options.concurrencyKey,
    retry: options.retry === undefined ? undefined : await jsonObject(options.retry, "--retry"),
    expires_at: options.expiresAt,
    workspace_id: options.workspaceId,
  };
}

/** POST the start; 202 means that the same key is being started elsewhere: ask again, for at most ten seconds. */
async function startSession(api: ApiClient, body: Record<string, unknown>): Promise<SessionStart> {
  const deadlineMs = performance.now() + pendingBudgetMs;
  for (;;) {
    const signal = AbortSignal.any([api.signal, AbortSignal.timeout(60_000)]);
    const response = await api.raw("POST", "/sessions", { body }, signal);
    if (response.status !== 200 && response.status !== 201) {
      const afterMs =
        Number(response.headers.get("retry-after") ?? Number.NaN) * 1000 || pendingDefaultDelayMs;
      const error = await responseError(response);
      if (response.status !== 202 || performance.now() + afterMs > deadlineMs) throw error;
      await sleep(afterMs, undefined, { signal: api.signal });
      continue;
    }
    return checked("sessionStart", await response.json(), "POST /api/sessions");
  }
}

/** `--wait`: the run's end. JSON: `{session, run}` as the API sends them, with the run as it ended. */
async function waitForStarted(api: ApiClient, started: SessionStart, options: StartOptions): Promise<void> {
  if (!options.json) note(`run ${started.run.id} started`);
  const { run, last } = await waitForRun(api, started.run.id, options.timeout);
  if (!options.json) return writeOutcome(run, last);
  process.exitCode = outcomeCode(run);
  await writeJson({ ...started, run });
}

/** `--follow`: the logs, then the end. JSON lines: the answer to the start, a line per piece of log, the run as it ended. */
async function followStarted(api: ApiClient, started: SessionStart, options: StartOptions): Promise<void> {
  if (options.json) await writeJsonLine(started);
  else note(`run ${started.run.id} started`);
  for await (const frame of followRunLogs(api, started.run.id))
    await (options.json ? writeJsonLine(frame) : writeLogFrame(frame));
  const { run, last } = await waitForRun(api, started.run.id, options.timeout);
  if (!options.json) return writeOutcome(run, last, "stderr");
  process.exitCode = outcomeCode(run);
  await writeJsonLine(run);
}
