/** `helmr env`: the environments of a project. */
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import type { Environment } from "../client/wire.ts";
import { connected, declare } from "../command.ts";
import { type ConnectionOptions, resolveProject, withLogin } from "../context.ts";
import { type DeletionOptions, deleteWithPreview } from "../deletion.ts";
import { findEnvironment, findProject } from "../names.ts";
import { note, writeFields, writeJson, writeTable } from "../output.ts";

type ProjectOption = ConnectionOptions & { readonly project?: string };
interface ChangeOptions extends ProjectOption {
  readonly workerGroup?: string;
  readonly slug?: string;
  readonly name?: string;
  readonly color?: string;
}

const usualColor = "#64748B";

export function register(program: Command): void {
  const group = declare(program, "env", "Manage the environments of a project", ["helmr env list"]);
  ofProject(declare(group, "list", "List the environments", ["helmr env list --project web"])).action(list);
  ofProject(
    declare(group, "get <environment>", "Show an environment, by slug or id", [
      "helmr env get staging --project web",
    ]),
  ).action(get);
  ofProject(
    declare(group, "create <slug>", "Create an environment", [
      "helmr env create preview --project web --color '#2563EB'",
    ]),
  )
    .option("--name <name>", "shown to people (default: the slug)")
    .option("--color <hex>", "shown beside it", usualColor)
    .action(create);
  ofProject(
    declare(group, "update <environment>", "Change an environment; production and staging keep their slugs", [
      'helmr env update preview --name "Pull requests"',
    ]),
  )
    .option("--slug <slug>", "the new slug")
    .option("--name <name>", "the new name")
    .option("--color <hex>", "the new color, such as #2563EB")
    .option("--worker-group <group>", "what is deployed next goes to this worker group")
    .action(update);
  ofProject(
    declare(group, "delete <environment>", "Delete an environment with everything in it", [
      "helmr env delete preview",
      "helmr env delete preview --yes --force",
    ]),
  )
    .option("-y, --yes", "do not ask")
    .option("--force", "also while work is live: it is cancelled")
    .action(remove);
}

function ofProject(command: Command): Command {
  return connected(command).option(
    "--project <project>",
    "slug or id (default: HELMR_PROJECT, else the saved one)",
  );
}

const pathOf = (environment: Environment): string =>
  `/projects/${encodeURIComponent(environment.project_id)}/environments/${encodeURIComponent(environment.id)}`;

const projectOf = async (api: ApiClient, options: ProjectOption) =>
  findProject(api, await resolveProject(options));

const environmentOf = async (api: ApiClient, name: string, options: ProjectOption) =>
  findEnvironment(await projectOf(api, options), name);

const list = (options: ProjectOption): Promise<void> =>
  withLogin(options, async (api) => {
    const { environments = [] } = await projectOf(api, options);
    if (options.json) return writeJson({ environments });
    await writeTable<Environment>(
      [
        { header: "ENVIRONMENT", value: (row) => row.slug },
        { header: "NAME", value: (row) => row.name },
        { header: "COLOR", value: (row) => row.color_hex },
        { header: "ID", value: (row) => row.id },
      ],
      environments,
    );
  });

const get = (name: string, options: ProjectOption): Promise<void> =>
  withLogin(options, async (api) => {
    const environment = await environmentOf(api, name, options);
    await (options.json ? writeJson(environment) : writeEnvironment(environment));
  });

const create = (slug: string, options: ChangeOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const project = await projectOf(api, options);
    const body = { slug, name: options.name ?? slug, color_hex: options.color };
    const path = `/projects/${encodeURIComponent(project.id)}/environments`;
    const environment = await api.send("POST", path, { body, schema: "environment" });
    if (options.json) return writeJson(environment);
    note(`the environment ${environment.slug} of ${project.slug} is created`);
    await writeEnvironment(environment);
  });

const update = (name: string, options: ChangeOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const before = await environmentOf(api, name, options);
    const body = {
      slug: options.slug ?? before.slug,
      name: options.name ?? before.name,
      color_hex: options.color ?? before.color_hex,
      ...(options.workerGroup === undefined ? {} : { worker_group: options.workerGroup }),
    };
    const environment = await api.send("PATCH", pathOf(before), { body, schema: "environment" });
    if (options.json) return writeJson(environment);
    note(`the environment ${environment.slug} is changed`);
  });

const remove = (name: string, options: ProjectOption & DeletionOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const environment = await environmentOf(api, name, options);
    const what = `the environment ${environment.slug}`;
    const target = { path: pathOf(environment), what, id: environment.id, isEnvironment: true };
    await deleteWithPreview(api, target, options);
  });

function writeEnvironment(environment: Environment): Promise<void> {
  return writeFields([
    ["environment", environment.slug],
    ["name", environment.name],
    ["color", environment.color_hex],
    ["worker group", environment.worker_group],
    ["id", environment.id],
    ["project", environment.project_id],
    ["created", environment.created_at],
    ["updated", environment.updated_at],
  ]);
}
