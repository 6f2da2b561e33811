/** `helmr deployment`: uploaded sources, their builds, and which one is current. */
import type { Command } from "commander";
import type { Deployment } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { deploymentPath, followDeployment, getDeployment } from "../deploy/watch.ts";
import { CliError, exitCodes } from "../errors.ts";
import { note, writeFields, writeJson, writeJsonLine, writeTable } from "../output.ts";
import { writeEvent } from "../run-view.ts";
import { integer } from "../values.ts";
import { readEvents } from "./run-streams.ts";

const exampleDeployment = "01990000-0000-7000-8000-000000000003";

export function register(program: Command): void {
  const group = declare(program, "deployment", "Look at deployments and promote them", [
    "helmr deployment current",
  ]);
  inEnvironment(
    declare(group, "list", "List deployments, newest first", ["helmr deployment list --limit 10"]),
  )
    .option("--limit <n>", "at most this many", integer(1, 200))
    .action(list);
  inEnvironment(
    declare(group, "get <deployment>", "Show one deployment, by id", [
      `helmr deployment get ${exampleDeployment}`,
    ]),
  ).action(get);
  inEnvironment(
    declare(group, "current", "Show the current deployment", ["helmr deployment current --json"]),
  ).action(current);
  inEnvironment(
    declare(group, "promote <deployment>", "Make a deployment the current one, by id or version", [
      "helmr deployment promote 20260606.1",
    ]),
  )
    .option("--reason <text>", "kept with the promotion")
    .action(promote);
  inEnvironment(
    declare(group, "events <deployment>", "Print what happened in a build", [
      `helmr deployment events ${exampleDeployment} --follow`,
    ]),
  )
    .option("-f, --follow", "live until the build is over; with --json a line per event")
    .action(events);
}

const list = (options: EnvironmentOptions & { limit?: number }): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get("/deployments", {
      query: { limit: options.limit },
      schema: "deploymentList",
    });
    if (options.json) return writeJson(answer);
    await writeTable<Deployment>(
      [
        { header: "VERSION", value: (row) => row.version },
        { header: "STATUS", value: (row) => row.status },
        { header: "DEPLOYMENT", value: (row) => row.id },
        { header: "CREATED", value: (row) => row.created_at },
        { header: "ERROR", value: (row) => row.error?.message?.split("\n", 1)[0] },
      ],
      answer.deployments,
    );
  });

const get = (id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const deployment = await getDeployment(api, id);
    await (options.json ? writeJson(deployment) : writeDeployment(deployment));
  });

const current = (options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get("/deployments/current", { schema: "currentDeployment" });
    if (options.json) return writeJson(answer);
    if (answer.deployment === null) {
      throw new CliError("nothing is deployed yet", {
        exitCode: exitCodes.notFound,
        hint: "`helmr deploy` deploys a project",
      });
    }
    await writeDeployment(answer.deployment);
  });

const promote = (name: string, options: EnvironmentOptions & { reason?: string }): Promise<void> =>
  withApi(options, async (api) => {
    const body = { reason: options.reason };
    const deployment = await api.send("POST", `${deploymentPath(name)}/promote`, {
      body,
      schema: "deployment",
    });
    if (options.json) return writeJson(deployment);
    note(`${deployment.version} is current`);
  });

const events = (id: string, options: EnvironmentOptions & { follow?: boolean }): Promise<void> =>
  withApi(options, async (api) => {
    const write = options.json ? writeJsonLine : writeEvent;
    if (options.follow) {
      for await (const event of followDeployment(api, id)) await write(event);
      return;
    }
    const all = await readEvents(api, `${deploymentPath(id)}/events`);
    if (options.json) return writeJson({ events: all });
    for (const event of all) await writeEvent(event);
  });

function writeDeployment(deployment: Deployment): Promise<void> {
  return writeFields([
    ["version", deployment.version],
    ["status", deployment.status],
    ["error", deployment.error?.message],
    ["deployment", deployment.id],
    ["content", deployment.content_hash],
    ["tasks", deployment.tasks?.map((task) => task.task_id).join(", ")],
    ["created", deployment.created_at],
    ["deployed", deployment.deployed_at],
    ["failed", deployment.failed_at],
  ]);
}
