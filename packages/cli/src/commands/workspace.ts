/** `helmr workspace`: durable filesystems with commands, terminals, files and versions. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import type { Shape } from "../client/wire.ts";
import { declare, inEnvironment, timeoutOption } from "../command.ts";
import { confirm } from "../confirm.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { CliError, exitCodes } from "../errors.ts";
import { note, writeFields, writeJson } from "../output.ts";
import { integer, jsonObject, repeated } from "../values.ts";
import { exampleWorkspace, ofWorkspace, workspacePath } from "../workspace/address.ts";
import { writeWorkspace, writeWorkspaces } from "../workspace/view.ts";
import { registerWorkspaceExec } from "./workspace-exec.ts";
import { registerWorkspaceFiles } from "./workspace-files.ts";
import { registerWorkspacePty } from "./workspace-pty.ts";
import { registerWorkspaceVersions } from "./workspace-versions.ts";

const exampleVersion = "01990000-0000-7000-8000-000000000006";
const pollMs = 250;

export function register(program: Command): void {
  const group = declare(program, "workspace", "Durable filesystems: run commands in them, read their files", [
    `helmr workspace create node --external-id ${exampleWorkspace}`,
    `helmr workspace shell ${exampleWorkspace}`,
  ]);
  // `exec` has options and subcommands: what follows a subcommand's name is the subcommand's.
  group.enablePositionalOptions();
  group.addHelpText("after", "\n<workspace> is a workspace's id or external id.");
  labels(
    inEnvironment(
      declare(group, "create <sandbox>", "Create a workspace of a deployed sandbox", [
        `helmr workspace create node --external-id ${exampleWorkspace} --tag team-a`,
      ]),
    ),
  )
    .option("--external-id <id>", "your own name for it, unique in the environment")
    .option("--deployment <id>", "the deployment that has the sandbox (default: the current one)")
    .option("--idempotency-key <key>", "the same key and options give the same workspace")
    .option("--idempotency-key-ttl <duration>", "how long the key is remembered (default: 24h)")
    .action(create);
  inEnvironment(
    declare(group, "list", "List workspaces, newest first", [
      "helmr workspace list --tag team-a",
      "helmr workspace list --state archived --json",
    ]),
  )
    .option("--state <state>", "active, deleting, recovery_required, archived or deleted")
    .option("--external-id <id>", "only the one with this external id")
    .option("--tag <tag>", "only those with this tag")
    .option("--limit <n>", "at most this many", integer(1, 200))
    .action(list);
  ofWorkspace(group, "get", "Show one workspace", [`helmr workspace get ${exampleWorkspace}`]).action(get);
  labels(
    ofWorkspace(group, "update", "Replace a workspace's tags or metadata", [
      `helmr workspace update ${exampleWorkspace} --metadata '{"owner":"ada"}'`,
    ]),
  ).action(update);
  ofWorkspace(group, "delete", "Archive a workspace; its files are removed after 30 days", [
    `helmr workspace delete ${exampleWorkspace} --yes`,
  ])
    .option("--yes", "do not ask")
    .action(remove);
  waiting(
    ofWorkspace(group, "materialize", "Bring a workspace up on a worker before it is used", [
      `helmr workspace materialize ${exampleWorkspace} --wait`,
    ]),
    "until it is up",
  ).action(materialize);
  waiting(
    ofWorkspace(group, "stop", "Save a workspace and end its live copy", [
      `helmr workspace stop ${exampleWorkspace} --wait`,
    ]),
    "until it is saved and gone",
  )
    .option("--idempotency-key <key>", "repeat safely")
    .action(stop);
  labels(
    ofWorkspace(group, "fork", "A new workspace with the files of a version", [
      `helmr workspace fork ${exampleWorkspace} --external-id notebook-8 --version ${exampleVersion}`,
    ]),
  )
    .option("--version <version>", "default: the current one")
    .option("--external-id <id>", "of the new workspace")
    .action(fork);
  registerWorkspaceExec(group);
  registerWorkspacePty(group);
  registerWorkspaceFiles(group);
  registerWorkspaceVersions(group);
}

function labels(command: Command): Command {
  return command
    .option("--tag <tag>", "may be given up to ten times", repeated)
    .option("--metadata <json>", "a JSON object, or @file");
}

function waiting(command: Command, until: string): Command {
  return command
    .option("-w, --wait", `wait ${until}`)
    .addOption(timeoutOption("with --wait: give up after this long with exit code 124", "10m"));
}

interface Labels extends EnvironmentOptions {
  readonly tag?: string[];
  readonly metadata?: string;
}
const labelsOf = async ({ tag, metadata }: Labels) => ({
  tags: tag,
  metadata: metadata === undefined ? undefined : await jsonObject(metadata, "--metadata"),
});

interface CreateOptions extends Labels {
  readonly externalId?: string;
  readonly deployment?: string;
  readonly idempotencyKey?: string;
  readonly idempotencyKeyTtl?: string;
}

const create = (sandbox: string, options: CreateOptions): Promise<void> =>
  withApi(options, async (api) => {
    const body = {
      sandbox_id: sandbox,
      deployment_id: options.deployment,
      external_id: options.externalId,
      ...(await labelsOf(options)),
      idempotency_key: options.idempotencyKey,
      idempotency_key_ttl: options.idempotencyKeyTtl,
    };
    const answer = await api.send("POST", "/workspaces", { body, schema: "createdWorkspace" });
    if (options.json) return writeJson(answer);
    await writeWorkspace(answer.workspace);
  });

const list = (
  options: EnvironmentOptions & { state?: string; externalId?: string; tag?: string; limit?: number },
): Promise<void> =>
  withApi(options, async (api) => {
    const { state, externalId: external_id, tag, limit } = options;
    const query = { state, external_id, tag, limit };
    const answer = await api.get("/workspaces", { query, schema: "workspaceList" });
    if (options.json) return writeJson(answer);
    await writeWorkspaces(answer.workspaces);
  });

const get = (name: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get(await workspacePath(api, name), { schema: "workspaceEnvelope" });
    if (options.json) return writeJson(answer);
    await writeWorkspace(answer.workspace);
  });

const update = (name: string, options: Labels): Promise<void> =>
  withApi(options, async (api) => {
    const body = await labelsOf(options);
    const path = await workspacePath(api, name);
    const answer = await api.send("PATCH", path, { body, schema: "workspaceEnvelope" });
    if (options.json) return writeJson(answer);
    await writeWorkspace(answer.workspace);
  });

const remove = (name: string, options: EnvironmentOptions & { yes?: boolean }): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    await confirm(`Archive the workspace ${name}? Its files are removed later.`, options.yes);
    const answer = await api.send("DELETE", path, { schema: "workspaceEnvelope" });
    if (options.json) return writeJson(answer);
    const until = answer.workspace.auto_delete_at;
    note(
      `workspace ${name} is ${answer.workspace.state}${until === undefined ? "" : `; its files stay until ${until}`}`,
    );
  });

type Materialization = Shape<"materialization">;
type WaitOptions = EnvironmentOptions & { readonly wait?: boolean; readonly timeout: number };

const materialize = (name: string, options: WaitOptions): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const ask = () => api.send("POST", `${path}/materialize`, { body: {}, schema: "materialization" });
    const first = await ask();
    const isUp = ({ state }: Materialization): boolean => state === "running";
    const copy = options.wait ? await waitFor(api, first, ask, isUp, options.timeout) : first;
    if (options.json) return writeJson(copy);
    await writeCopy(copy);
  });

const stop = (name: string, options: WaitOptions & { idempotencyKey?: string }): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const ask = (idempotency_key: string | undefined) =>
      api.send("POST", `${path}/stop`, { body: { idempotency_key }, schema: "workspaceStop" });
    const first = await ask(options.idempotencyKey);
    const isDown = ({ state }: Shape<"workspaceStop">): boolean =>
      ["no_active_materialization", "stopped", "failed", "lost"].includes(state);
    const answer = options.wait
      ? await waitFor(api, first, () => ask(randomUUID()), isDown, options.timeout)
      : first;
    if (options.json) return writeJson(answer);
    note(
      `workspace ${name}: ${answer.state === "no_active_materialization" ? "there is no live copy" : answer.state}`,
    );
  });

/** Asks until it is as wanted, or has failed. */
async function waitFor<T extends { readonly state: string }>(
  api: ApiClient,
  first: T,
  ask: () => Promise<T>,
  isDone: (value: T) => boolean,
  timeoutMs: number,
): Promise<T> {
  const untilMs = performance.now() + timeoutMs;
  for (let value = first; ; value = await ask()) {
    if (isDone(value)) return value;
    if (value.state === "failed" || value.state === "lost")
      throw new CliError(`the live copy is ${value.state}`, { hint: "`helmr workspace get` says more" });
    if (performance.now() > untilMs) {
      throw new CliError(`the live copy is still ${value.state} after ${timeoutMs / 1000} s; it goes on`, {
        exitCode: exitCodes.timedOut,
      });
    }
    await sleep(pollMs, undefined, { signal: api.signal });
  }
}

function writeCopy(copy: Materialization): Promise<void> {
  return writeFields([
    ["live copy", copy.id],
    ["workspace", copy.workspace_id],
    ["state", copy.state],
    ["from version", copy.base_version_id],
    ["worker", copy.worker_instance_id],
    ["attempt", copy.claim_attempt],
    ["created", copy.created_at],
  ]);
}

const fork = (name: string, options: Labels & { version?: string; externalId?: string }): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const body = {
      version_id: options.version,
      external_id: options.externalId,
      ...(await labelsOf(options)),
    };
    const answer = await api.send("POST", `${path}/fork`, { body, schema: "workspaceEnvelope" });
    if (options.json) return writeJson(answer);
    await writeWorkspace(answer.workspace);
  });
