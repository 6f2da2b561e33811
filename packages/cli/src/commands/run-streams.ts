/** `helmr run logs` and `helmr run events`: what a run wrote and what happened to it, so far or live. */
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import { followRunEvents, followRunLogs, runPath } from "../client/runs.ts";
import type { Event } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { note, writeJson, writeJsonLine, writeStderr, writeStdout } from "../output.ts";
import { writeEvent, writeLogFrame } from "../run-view.ts";

type StreamOptions = EnvironmentOptions & { readonly follow?: boolean };

const exampleRun = "01990000-0000-7000-8000-000000000001";

export function registerRunStreams(group: Command): void {
  inEnvironment(
    declare(
      group,
      "logs <run>",
      "Print a run's logs, byte for byte: its stdout to stdout, its stderr to stderr",
      [`helmr run logs ${exampleRun}`, `helmr run logs ${exampleRun} --follow`],
    ),
  )
    .option(
      "-f, --follow",
      "from the first byte on, live until the run is over; with --json a line per piece",
    )
    .action(logs);
  inEnvironment(
    declare(group, "events <run>", "Print what happened to a run", [
      `helmr run events ${exampleRun} --follow --json`,
    ]),
  )
    .option("-f, --follow", "live until the run is over; with --json a line per event")
    .action(events);
}

const logs = (id: string, options: StreamOptions): Promise<void> =>
  withApi(options, async (api) => {
    if (options.follow) {
      for await (const frame of followRunLogs(api, id))
        await (options.json ? writeJsonLine(frame) : writeLogFrame(frame));
      return;
    }
    const answer = await api.get(`${runPath(id)}/logs`, { schema: "runLogs" });
    if (options.json) return writeJson(answer);
    await writeStdout(Buffer.from(answer.stdout_base64, "base64"));
    await writeStderr(Buffer.from(answer.stderr_base64, "base64"));
    if (answer.truncated)
      note(`hint: this is not all of it; \`helmr run logs ${id} --follow\` prints from the first byte`);
  });

const events = (id: string, options: StreamOptions): Promise<void> =>
  withApi(options, async (api) => {
    const write = options.json ? writeJsonLine : writeEvent;
    if (options.follow) {
      for await (const event of followRunEvents(api, id)) await write(event);
      return;
    }
    const all = await readEvents(api, `${runPath(id)}/events`);
    if (options.json) return writeJson({ events: all });
    for (const event of all) await writeEvent(event);
  });

/** Every event there is now, page by page. */
export async function readEvents(api: ApiClient, path: string): Promise<Event[]> {
  const all: Event[] = [];
  let cursor: number | undefined;
  do {
    const page = await api.get(path, { query: { cursor, limit: 200 }, schema: "eventPage" });
    all.push(...page.events);
    cursor = page.next_cursor;
  } while (cursor !== undefined);
  return all;
}
