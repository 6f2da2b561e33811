/** `index.start`: runs the indexer in a process of its own and reports the catalog or why there is none. */
import { join } from "node:path";
import type { GuestMessage } from "@helmr/guest-protocol";
import { boundedText } from "../task-error.ts";
import { fromIndexer, readMessages } from "./host-channel.ts";
import { killEverything } from "./kill.ts";
import { OutputRelay } from "./relay.ts";
import { type ProcessExit, startProcess } from "./task-process.ts";
import type { GuestUser } from "./users.ts";

type Result = Extract<GuestMessage, { type: "index.finished" | "index.failed" }>;

/** All modules together. The worker waits a little longer, so that it is this that says which module it was. */
const indexLimitMs = 5 * 60_000;
/** One module: the indexer's own limit (60 s) says more, but a module that never yields does not let it. */
const moduleLimitMs = 70_000;
const outputLimitMs = 2_000;

export interface IndexRun {
  readonly sourceRoot: string;
  readonly helmrFolder: string;
  readonly env: Readonly<Record<string, string>>;
  readonly user: GuestUser | undefined;
  readonly send: (message: GuestMessage) => Promise<void>;
  /** For tests; default 70 s. */
  readonly moduleLimitMs?: number;
}

/** Run the indexer; its result is sent after everything the modules printed. */
export async function runIndexer(run: IndexRun): Promise<void> {
  const indexer = startProcess({
    argv: [process.execPath, join(run.helmrFolder, "indexer.mjs"), run.sourceRoot],
    cwd: run.sourceRoot,
    env: run.env,
    user: run.user,
  });
  const relay = new OutputRelay(indexer.stdout, indexer.stderr, (stream, data) =>
    run.send({ type: "log", stream, data, at_ms: Date.now() }),
  );
  let result: Result | undefined;
  let loading = "helmr.config.ts";
  let overdue: string | undefined;
  const kill = (): void => killEverything(indexer.child.pid ?? 0);
  const limitMs = run.moduleLimitMs ?? moduleLimitMs;
  const moduleTimer = setTimeout(() => {
    overdue ??= `${loading}: loading took longer than ${limitMs / 1000} s; do no work at import.`;
    kill();
  }, limitMs);
  const channelClosed = new Promise<void>((resolve) => indexer.channel.once("close", () => resolve()));
  readMessages(
    indexer.channel,
    fromIndexer,
    (message) => {
      if (message.type !== "loading") result ??= message;
      else {
        loading = message.file;
        moduleTimer.refresh();
      }
    },
    () => {
      result ??= failed(`${loading}: the module wrote to file descriptor 3, which belongs to Helmr.`);
      kill();
    },
  );
  const timer = setTimeout(() => {
    overdue ??= `${loading}: loading the modules took longer than ${indexLimitMs / 60_000} minutes; do no work at import.`;
    kill();
  }, indexLimitMs);
  const exit = await indexer.exited;
  clearTimeout(timer);
  clearTimeout(moduleTimer);
  kill();
  const outputTimer = setTimeout(() => {
    relay.stop();
    indexer.channel.destroy();
  }, outputLimitMs);
  await Promise.all([relay.ended, channelClosed]);
  clearTimeout(outputTimer);
  await run.send(result ?? failed(overdue ?? endedEarly(loading, exit)));
}

function failed(problem: string): Result {
  return { type: "index.failed", failure_kind: "task_parse_failed", problems: [boundedText(problem)] };
}

function endedEarly(file: string, exit: ProcessExit): string {
  const how =
    exit.error !== undefined
      ? `could not be started: ${exit.error.message}`
      : exit.signal !== undefined
        ? `was ended by ${exit.signal}`
        : `exited with code ${exit.code}`;
  return `${file}: while this module was loaded, the process ${how}; a task module must not end the process at import.`;
}
