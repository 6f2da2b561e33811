/** `helmr queue`: where runs line up, and holding them. */
import type { Command } from "commander";
import type { Queue } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { note, writeJson, writeTable } from "../output.ts";

export function register(program: Command): void {
  const group = declare(program, "queue", "See where runs line up, and hold them", [
    "helmr queue pause task/report",
  ]);
  inEnvironment(
    declare(group, "list", "List queues: limit, pause, and how many runs are in each", ["helmr queue list"]),
  ).action(list);
  inEnvironment(
    declare(group, "pause <queue>", "Start no more runs of a queue; what has started goes on", [
      "helmr queue pause task/report",
    ]),
  ).action((name: string, options: EnvironmentOptions) => change(name, "pause", options));
  inEnvironment(
    declare(group, "resume <queue>", "Start runs of a paused queue again", [
      "helmr queue resume task/report",
    ]),
  ).action((name: string, options: EnvironmentOptions) => change(name, "resume", options));
}

const list = (options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get("/queues", { schema: "queueList" });
    if (options.json) return writeJson(answer);
    await writeTable<Queue>(
      [
        { header: "QUEUE", value: (row) => row.name },
        { header: "STATE", value: stateOf },
        { header: "LIMIT", value: (row) => row.concurrency_limit?.toString() ?? "none" },
        { header: "QUEUED", value: (row) => row.queued.toString() },
        { header: "RUNNING", value: (row) => row.running.toString() },
        { header: "WAITING", value: (row) => row.waiting.toString() },
        { header: "OLDEST QUEUED", value: (row) => row.oldest_queued_at },
      ],
      answer.queues,
    );
  });

function stateOf(queue: Queue): string {
  const states = [...(queue.paused ? ["paused"] : []), ...(queue.declared ? [] : ["not deployed"])];
  return states.length === 0 ? "open" : states.join(", ");
}

const change = (name: string, verb: "pause" | "resume", options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const queue = await api.send("POST", `/queues/${encodeURIComponent(name)}/${verb}`, { schema: "queue" });
    if (options.json) return writeJson(queue);
    const held = `queue ${name} is paused: ${queue.queued} queued, ${queue.running} running, ${queue.waiting} waiting; it starts no more runs`;
    note(queue.paused ? held : `queue ${name} is open`);
  });
