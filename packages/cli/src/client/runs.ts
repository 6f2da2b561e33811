/** Runs as they are watched: to their end, or log by log. */
import { setTimeout as sleep } from "node:timers/promises";
import { noteReconnect } from "../context.ts";
import { CliError, type ExitCode, exitCodes } from "../errors.ts";
import type { ApiClient } from "./api-client.ts";
import { follow } from "./follow.ts";
import type { Event, Run, RunLogFrame } from "./wire.ts";

const terminalStatuses = new Set<string>(["succeeded", "failed", "cancelled", "expired"]);
const terminalKinds = new Set(["run.completed", "run.failed", "run.cancelled", "run.expired"]);

export const isTerminal = (run: Run): boolean => terminalStatuses.has(run.status);
export const runPath = (id: string): string => `/runs/${encodeURIComponent(id)}`;
export const getRun = (api: ApiClient, id: string): Promise<Run> => api.get(runPath(id), { schema: "run" });

/** The exit code that stands for how a run ended. */
export function outcomeCode(run: Run): ExitCode {
  if (run.status === "succeeded") return exitCodes.ok;
  if (run.status === "cancelled") return exitCodes.cancelled;
  if (run.status === "expired") return exitCodes.expired;
  return exitCodes.failed;
}

/** Every event of a run from its first, live until the run's last. */
export function followRunEvents(api: ApiClient, id: string, signal?: AbortSignal): AsyncGenerator<Event> {
  return follow({
    api,
    path: `${runPath(id)}/events`,
    schema: "event",
    isOver: async () => isTerminal(await getRun(api, id)),
    isLast: (event) => terminalKinds.has(event.kind),
    onReconnect: noteReconnect,
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Every piece of a run's logs from the first, live until the run is over and all of it was sent. */
export function followRunLogs(api: ApiClient, id: string): AsyncGenerator<RunLogFrame> {
  return follow({
    api,
    path: `${runPath(id)}/logs`,
    schema: "runLogFrame",
    isOver: async () => isTerminal(await getRun(api, id)),
    onReconnect: noteReconnect,
  });
}

/** The run once it is over, and its `run.failed` event if that was seen. Throws exit code 124 after `timeoutMs`. */
export async function waitForRun(
  api: ApiClient,
  id: string,
  timeoutMs: number,
): Promise<{ run: Run; last?: Event }> {
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    const signal = AbortSignal.any([api.signal, timeout]);
    let last: Event | undefined;
    for await (const event of followRunEvents(api, id, signal)) last = event;
    // The event and the record are written together, but a reader of a replica may see the record a little later.
    for (let delayMs = 100; ; delayMs = Math.min(1000, delayMs * 2)) {
      const run = await getRun(api, id);
      if (isTerminal(run)) return last === undefined ? { run } : { run, last };
      await sleep(delayMs, undefined, { signal });
    }
  } catch (error) {
    if (!timeout.aborted || api.signal.aborted) throw error;
    throw new CliError(`run ${id} is not over after ${timeoutMs / 1000} s; it goes on`, {
      exitCode: exitCodes.timedOut,
      hint: `wait longer with \`helmr run wait ${id} --timeout 1h\`, or end it with \`helmr run cancel ${id}\``,
    });
  }
}
