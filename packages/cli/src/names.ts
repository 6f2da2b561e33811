/** Finding what a person names: by slug, id or e-mail address, in the lists that the server gives. */
import type { ApiClient } from "./client/api-client.ts";
import type { Environment, Member, OwnOrganization, Project } from "./client/wire.ts";
import { CliError, exitCodes } from "./errors.ts";
import { plain } from "./output.ts";

const same = (left: string | undefined, right: string): boolean =>
  left?.toLowerCase() === right.toLowerCase();

function found<T>(value: T | undefined, what: string, name: string, hint: string): T {
  if (value !== undefined) return value;
  throw new CliError(`there is no ${what} ${plain(name)}`, { exitCode: exitCodes.notFound, hint });
}

/** By slug or id, with its environments. */
export async function findProject(api: ApiClient, name: string): Promise<Project> {
  const { projects } = await api.get("/projects", { schema: "projectList" });
  const project = projects.find(({ id, slug }) => same(slug, name) || same(id, name));
  return found(project, "project", name, "`helmr project list` shows them");
}

/** By slug or id. */
export function findEnvironment(project: Project, name: string): Environment {
  const environment = project.environments?.find(({ id, slug }) => same(slug, name) || same(id, name));
  const hint = `\`helmr env list --project ${project.slug}\` shows them`;
  return found(environment, `environment of ${project.slug} named`, name, hint);
}

/** By id or e-mail address; also one who was removed. */
export async function findMember(api: ApiClient, name: string): Promise<Member> {
  const { members } = await api.get("/members", { schema: "memberList" });
  const member = members.find((one) => same(one.user_id, name) || same(one.email, name));
  return found(member, "member", name, "`helmr member list` shows them");
}

/** By slug or id, among the user's own. */
export async function findOrganization(api: ApiClient, name: string): Promise<OwnOrganization> {
  const { organizations } = await api.get("/organizations", { schema: "ownOrganizationList" });
  const organization = organizations.find(({ id, slug }) => same(slug, name) || same(id, name));
  return found(organization, "organization of yours named", name, "`helmr org list` shows them");
}
