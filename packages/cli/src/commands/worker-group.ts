/** `helmr worker-group`: where work is routed, and the tokens with which workers join a group. */
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import type { BootstrapToken, RoutedEnvironment, WorkerGroup } from "../client/wire.ts";
import { connected, declare } from "../command.ts";
import { type ConnectionOptions, withOperator } from "../context.ts";
import { usageError } from "../errors.ts";
import { note, paintStatus, writeFields, writeJson, writeStdout, writeTable } from "../output.ts";
import { durationMs, repeated } from "../values.ts";
import { labelsOf } from "./worker.ts";

interface LabelOptions extends ConnectionOptions {
  readonly label?: readonly string[];
  readonly name?: string;
}

export function register(program: Command): void {
  const group = declare(program, "worker-group", "Manage worker groups and their tokens (for operators)", [
    "helmr worker-group list",
  ]);
  connected(declare(group, "list", "List worker groups", ["helmr worker-group list"])).action(list);
  connected(
    declare(group, "create <name>", "Create a worker group", [
      "helmr worker-group create gpu --label zone=a --label tier=large",
    ]),
  )
    .option("--label <key=value>", "say something about it; give it several times", repeated)
    .action(create);
  connected(
    declare(group, "get <group>", "Show a worker group and the environments that are routed to it", [
      "helmr worker-group get gpu",
    ]),
  ).action(get);
  connected(
    declare(group, "update <group>", "Rename a worker group, or replace its labels", [
      "helmr worker-group update gpu --name gpu-large",
      "helmr worker-group update gpu --label zone=b",
    ]),
  )
    .option("--name <name>", "the new name")
    .option("--label <key=value>", "in place of those it has; give it several times", repeated)
    .action(update);
  connected(
    declare(group, "delete <group>", "Delete a worker group that nothing refers to", [
      "helmr worker-group delete gpu",
    ]),
  ).action(remove);
  connected(
    declare(
      group,
      "route <group> <environment-id>",
      "Let what is deployed next in an environment go to the group; what is deployed already stays",
      ["helmr worker-group route gpu 0190d0d5-0c3e-7000-8000-000000000000"],
    ),
  ).action(route);
  registerTokens(group);
}

function registerTokens(group: Command): void {
  const token = declare(group, "token", "Manage the tokens with which workers join a group", [
    "helmr worker-group token list gpu",
  ]);
  connected(
    declare(token, "create <group>", "Create a token; it is printed this once", [
      "helmr worker-group token create gpu --name rack-7 --expires-in 24h",
      "helmr worker-group token create gpu --name rack-7 --quiet > token.txt",
    ]),
  )
    .requiredOption("--name <name>", "what people know it by")
    .option(
      "--expires-in <duration>",
      "how long workers can register with it (default: until it is revoked)",
      durationMs,
    )
    .option("-q, --quiet", "print the token alone")
    .action(createToken);
  connected(
    declare(token, "list <group>", "List tokens, newest first", ["helmr worker-group token list gpu"]),
  ).action(listTokens);
  connected(
    declare(token, "revoke <group> <token-id>", "Revoke a token; workers that joined with it go on", [
      "helmr worker-group token revoke gpu 0190d0d5-0c3e-7000-8000-000000000000",
    ]),
  ).action(revokeToken);
}

const pathOf = (group: string): string => `/worker-groups/${encodeURIComponent(group)}`;

const list = (options: ConnectionOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const answer = await api.get("/worker-groups", { schema: "workerGroupList" });
    if (options.json) return writeJson(answer);
    await writeTable<WorkerGroup>(
      [
        { header: "GROUP", value: (row) => row.name },
        { header: "ACTIVE", value: (row) => row.workers.active },
        { header: "DRAINING", value: (row) => row.workers.draining },
        { header: "GONE", value: (row) => row.workers.gone },
        { header: "ENVIRONMENTS", value: (row) => row.environments },
        { header: "LABELS", value: (row) => labelsOf(row.labels) ?? "" },
        { header: "ID", value: (row) => row.id },
      ],
      answer.worker_groups,
    );
  });

const create = (name: string, options: LabelOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const body = { name, ...labelsBody(options.label) };
    const group = await api.send("POST", "/worker-groups", { body, schema: "workerGroup" });
    if (options.json) return writeJson(group);
    note(`the worker group ${group.name} is created`);
    note(
      `hint: \`helmr worker-group token create ${group.name} --name <name>\` makes a token for its workers`,
    );
  });

const get = (name: string, options: ConnectionOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const group = await api.get(pathOf(name), { schema: "workerGroup" });
    const { environments } = await routedTo(api, group.id);
    if (options.json) return writeJson({ ...group, routed: environments });
    await writeFields([
      ["group", group.name],
      ["id", group.id],
      ["labels", labelsOf(group.labels)],
      [
        "workers",
        `${group.workers.active} active, ${group.workers.draining} draining, ${group.workers.gone} gone`,
      ],
      ["created", group.created_at],
      ["updated", group.updated_at],
    ]);
    if (environments.length === 0) return;
    await writeTable<RoutedEnvironment>(
      [
        { header: "ORGANIZATION", value: (row) => row.organization },
        { header: "PROJECT", value: (row) => row.project },
        { header: "ENVIRONMENT", value: (row) => row.environment },
        { header: "ID", value: (row) => row.environment_id },
      ],
      environments,
    );
  });

const routedTo = (api: ApiClient, group: string) =>
  api.get(`${pathOf(group)}/environments`, { schema: "routedEnvironmentList" });

const update = (group: string, options: LabelOptions): Promise<void> =>
  withOperator(options, async (api) => {
    if (options.name === undefined && options.label === undefined)
      throw usageError("nothing to change", "use --name or --label");
    const body = {
      ...(options.name === undefined ? {} : { name: options.name }),
      ...labelsBody(options.label),
    };
    const changed = await api.send("PATCH", pathOf(group), { body, schema: "workerGroup" });
    if (options.json) return writeJson(changed);
    note(`the worker group ${changed.name} is changed`);
  });

const remove = (group: string, options: ConnectionOptions): Promise<void> =>
  withOperator(options, async (api) => {
    await api.remove(pathOf(group));
    if (options.json) return writeJson({ group, deleted: true });
    note(`the worker group ${group} is deleted`);
  });

const route = (group: string, environmentId: string, options: ConnectionOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const body = { environment_id: environmentId };
    const routed = await api.send("POST", `${pathOf(group)}/environments`, {
      body,
      schema: "routedEnvironment",
    });
    if (options.json) return writeJson(routed);
    const { organization, project, environment } = routed;
    note(`what is deployed next in ${organization}/${project}/${environment} goes to ${group}`);
  });

interface TokenOptions extends ConnectionOptions {
  readonly name: string;
  readonly expiresIn?: number;
  readonly quiet?: boolean;
}

const createToken = (group: string, options: TokenOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const { name, expiresIn } = options;
    const body = {
      name,
      ...(expiresIn === undefined ? {} : { expires_at: new Date(Date.now() + expiresIn).toISOString() }),
    };
    const made = await api.send("POST", `${pathOf(group)}/tokens`, { body, schema: "bootstrapTokenCreated" });
    if (options.json) return writeJson(made);
    if (!options.quiet) note(`the token ${name} is created; keep it now, it is not shown again`);
    await writeStdout(`${made.secret}\n`);
  });

const listTokens = (group: string, options: ConnectionOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const answer = await api.get(`${pathOf(group)}/tokens`, { schema: "bootstrapTokenList" });
    if (options.json) return writeJson(answer);
    await writeTable<BootstrapToken>(
      [
        { header: "NAME", value: (row) => row.name },
        { header: "TOKEN", value: (row) => (row.prefix === undefined ? "" : `${row.prefix}…`) },
        { header: "STATUS", value: (row) => paintStatus(row.status) },
        { header: "LAST USED", value: (row) => row.last_used_at ?? "never" },
        { header: "EXPIRES", value: (row) => row.expires_at ?? "never" },
        { header: "ID", value: (row) => row.id },
      ],
      answer.tokens,
    );
  });

const revokeToken = (group: string, id: string, options: ConnectionOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const path = `${pathOf(group)}/tokens/${encodeURIComponent(id)}`;
    const token = await api.send("DELETE", path, { schema: "bootstrapToken" });
    if (options.json) return writeJson(token);
    note(`the token ${token.name} is revoked`);
  });

/** `key=value`, as often as given. */
function labelsBody(given: readonly string[] | undefined): { labels?: Record<string, string> } {
  if (given === undefined) return {};
  const labels = given.map((text): [string, string] => {
    const at = text.indexOf("=");
    if (at < 1) throw usageError(`--label ${text} is not key=value`);
    return [text.slice(0, at), text.slice(at + 1)];
  });
  return { labels: Object.fromEntries(labels) };
}
