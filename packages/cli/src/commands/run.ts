/** `helmr run`: executions of tasks: their records, logs, events and ends. */
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import { getRun, outcomeCode, runPath, waitForRun } from "../client/runs.ts";
import { declare, inEnvironment, timeoutOption } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { note, paintStatus, writeFields, writeJson } from "../output.ts";
import { writeOutcome, writeRun, writeRuns } from "../run-view.ts";
import { integer } from "../values.ts";
import { readEvents, registerRunStreams } from "./run-streams.ts";

export function register(program: Command): void {
  const group = declare(program, "run", "Look at runs, follow them, wait for them, cancel them", [
    "helmr run list --status all",
  ]);
  inEnvironment(
    declare(group, "list", "List runs, newest first", [
      "helmr run list",
      "helmr run list --status failed --limit 20",
    ]),
  )
    .option(
      "--status <status>",
      "live, all, queued, running, waiting, succeeded, failed, cancelled or expired",
      "live",
    )
    .option("--limit <n>", "at most this many", integer(1, 200))
    .option("--session <id>", "only runs of this session")
    .action(list);
  inEnvironment(
    declare(group, "get <run>", "Show one run", [
      "helmr run get 01990000-0000-7000-8000-000000000001 --json",
    ]),
  ).action(get);
  registerRunStreams(group);
  inEnvironment(
    declare(group, "wait <run>", "Wait until a run is over; the exit code is its outcome", [
      "helmr run wait 01990000-0000-7000-8000-000000000001 --timeout 10m",
    ]),
  )
    .addOption(timeoutOption("give up after this long with exit code 124; the run goes on", "24h"))
    .action(wait);
  inEnvironment(
    declare(group, "cancel <run>", "Cancel a run", [
      "helmr run cancel 01990000-0000-7000-8000-000000000001 --reason obsolete",
    ]),
  )
    .option("--reason <text>", "kept with the run")
    .option("--force", "end the process at once instead of asking it first")
    .option("--idempotency-key <key>", "repeat safely")
    .action(cancel);
  inEnvironment(declare(group, "counts", "Count runs by status", ["helmr run counts --json"])).action(counts);
}

const list = (
  options: EnvironmentOptions & { status: string; limit?: number; session?: string },
): Promise<void> =>
  withApi(options, async (api) => {
    const query = { status: options.status, limit: options.limit, session_id: options.session };
    const answer = await api.get("/runs", { query, schema: "runList" });
    if (options.json) return writeJson(answer);
    await writeRuns(answer.runs);
  });

const get = (id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const run = await getRun(api, id);
    if (options.json) return writeJson(run);
    await writeRun(run, run.status === "queued" ? await readReason(api, id) : undefined);
  });

/** Why a queued run waits, if its events say so; what they said before another attempt counts no more. */
async function readReason(api: ApiClient, id: string): Promise<string | undefined> {
  const events = await readEvents(api, `${runPath(id)}/events`);
  const told = events.filter(({ kind }) => waitingKinds.has(kind) || kind === "run_lease.leased").at(-1);
  if (told === undefined || !waitingKinds.has(told.kind)) return undefined;
  return typeof told.attributes?.message === "string" ? told.attributes.message : told.message;
}

const waitingKinds = new Set(["run.waiting_for_capacity", "run.waiting_for_workspace", "run.resume_waiting"]);

const wait = (id: string, options: EnvironmentOptions & { timeout: number }): Promise<void> =>
  withApi(
    options,
    async (api) => {
      const { run, last } = await waitForRun(api, id, options.timeout);
      if (!options.json) return writeOutcome(run, last);
      process.exitCode = outcomeCode(run);
      await writeJson(run);
    },
    () => `the run goes on; wait again with \`helmr run wait ${id}\``,
  );

interface CancelOptions extends EnvironmentOptions {
  readonly reason?: string;
  readonly force?: boolean;
  readonly idempotencyKey?: string;
}

const cancel = (id: string, options: CancelOptions): Promise<void> =>
  withApi(options, async (api) => {
    const body = { reason: options.reason, force: options.force, idempotency_key: options.idempotencyKey };
    const answer = await api.send("POST", `${runPath(id)}/cancel`, { body, schema: "runCancelResponse" });
    if (options.json) return writeJson(answer);
    const { operation, run } = answer;
    if (operation.status === "rejected")
      note(`run ${id} was over already: ${paintStatus(run.status, process.stderr)}`);
    else note(`run ${id} is ${operation.status === "applied" ? "cancelled" : "being cancelled"}`);
  });

const counts = (options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get("/runs/counts", { schema: "runCounts" });
    if (options.json) return writeJson(answer);
    await writeFields(Object.entries(answer));
  });
