/** `helmr project`: the projects of the organization. */
import type { Command } from "commander";
import type { Project } from "../client/wire.ts";
import { connected, declare } from "../command.ts";
import { type ConnectionOptions, withLogin } from "../context.ts";
import { type DeletionOptions, deleteWithPreview } from "../deletion.ts";
import { findProject } from "../names.ts";
import { note, writeFields, writeJson, writeTable } from "../output.ts";

interface NameOptions extends ConnectionOptions {
  readonly name?: string;
  readonly slug?: string;
}

export function register(program: Command): void {
  const group = declare(program, "project", "Manage projects", ["helmr project list"]);
  connected(declare(group, "list", "List the projects", ["helmr project list"])).action(list);
  connected(
    declare(group, "get <project>", "Show a project, by slug or id", ["helmr project get web"]),
  ).action(get);
  connected(
    declare(group, "create <slug>", "Create a project with the environments production and staging", [
      'helmr project create web --name "Web site"',
    ]),
  )
    .option("--name <name>", "shown to people (default: the slug)")
    .action(create);
  connected(
    declare(group, "update <project>", "Change a project's slug or name", [
      'helmr project update web --name "The web site"',
    ]),
  )
    .option("--slug <slug>", "the new slug")
    .option("--name <name>", "the new name")
    .action(update);
  connected(
    declare(group, "delete <project>", "Delete a project with everything in its environments", [
      "helmr project delete web",
      "helmr project delete web --yes --force",
    ]),
  )
    .option("-y, --yes", "do not ask")
    .option("--force", "also while work is live: it is cancelled")
    .action(remove);
}

const pathOf = (project: Project): string => `/projects/${encodeURIComponent(project.id)}`;

const list = (options: ConnectionOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const answer = await api.get("/projects", { schema: "projectList" });
    if (options.json) return writeJson(answer);
    await writeTable<Project>(
      [
        { header: "PROJECT", value: (row) => row.slug },
        { header: "NAME", value: (row) => row.name },
        { header: "ENVIRONMENTS", value: environments },
        { header: "ID", value: (row) => row.id },
      ],
      answer.projects,
    );
  });

const get = (name: string, options: ConnectionOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const project = await api.get(pathOf(await findProject(api, name)), { schema: "project" });
    await (options.json ? writeJson(project) : writeProject(project));
  });

const create = (slug: string, options: NameOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const body = { slug, name: options.name };
    const project = await api.send("POST", "/projects", { body, schema: "project" });
    if (options.json) return writeJson(project);
    note(`the project ${project.slug} is created`);
    await writeProject(project);
  });

const update = (name: string, options: NameOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const before = await findProject(api, name);
    const body = { slug: options.slug ?? before.slug, name: options.name ?? before.name };
    const project = await api.send("PATCH", pathOf(before), { body, schema: "project" });
    if (options.json) return writeJson(project);
    note(`the project ${project.slug} is changed`);
  });

const remove = (name: string, options: DeletionOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const project = await findProject(api, name);
    const what = `the project ${project.slug}`;
    const target = { path: pathOf(project), what, id: project.id, isEnvironment: false };
    await deleteWithPreview(api, target, options);
  });

const environments = (project: Project): string =>
  (project.environments ?? []).map(({ slug }) => slug).join(", ");

function writeProject(project: Project): Promise<void> {
  return writeFields([
    ["project", project.slug],
    ["name", project.name],
    ["id", project.id],
    ["environments", environments(project)],
    ["created", project.created_at],
    ["updated", project.updated_at],
  ]);
}
