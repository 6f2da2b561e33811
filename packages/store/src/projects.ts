/**
 * Projects of an organization.
 *
 *   -        -> open       createProject, with the environments production and staging
 *   open     -> open       updateProject
 *   open     -> deleting   deletion/mark.ts: gone for everybody at once
 *   deleting -> -          deletion/purge.ts
 *
 * P1 An organization's first project is its default; it always has one while it has projects.
 * P2 A slug is unique in its organization, and no slug looks like a UUID (the wire's schema).
 *
 * Who creates or deletes projects holds the organization's row (no key update: rows that refer to it go on).
 */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { type Actor, recordAudit } from "./audit.ts";
import { type Queryable, type Tx, transaction, violatedConstraint } from "./database.ts";
import { type EnvironmentRow, environmentColumns, insertEnvironment } from "./environments.ts";
import { uuidv7 } from "./ids.ts";

/** In which organization somebody acts. */
export interface ActingOrganization {
  readonly organizationId: string;
  readonly actor: Actor;
}

export interface ProjectRow {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly is_default: boolean;
  readonly created_at: Date;
  readonly updated_at: Date;
}

export interface ProjectWithEnvironments extends ProjectRow {
  readonly environments: readonly EnvironmentRow[];
}

export interface ProjectNames {
  readonly slug: string;
  /** Empty: as the slug. */
  readonly name: string;
}

const columns = sql<ProjectRow>`p.id, p.slug, p.name, p.is_default, p.created_at, p.updated_at`;

/** Contract 11: every project has these two; they keep their slugs and stay as long as the project. */
export const protectedEnvironments = { production: "#16A34A", staging: "#D97706" } as const;

/** Throws ApiError 400 when the slug is taken. */
export async function createProject(
  db: Queryable,
  acting: ActingOrganization,
  { slug, name }: ProjectNames,
): Promise<ProjectWithEnvironments> {
  const { organizationId, actor } = acting;
  return await refuseTakenSlug(slug, () =>
    transaction(db, async (tx) => {
      await lockOrganization(tx, organizationId);
      const id = uuidv7();
      const { rows } = await sql<ProjectRow>`
        insert into projects as p (id, organization_id, slug, name, is_default)
        values (${id}, ${organizationId}, ${slug}, ${name || slug}, not exists (
          select from projects where organization_id = ${organizationId} and deleting_at is null))
        returning ${columns}`.execute(tx);
      const [row] = rows;
      if (row === undefined) throw new Error("the insert of a project returned no row");
      const environments: EnvironmentRow[] = [];
      for (const [each, color] of Object.entries(protectedEnvironments)) {
        const names = { slug: each, name: each, colorHex: color, isDefault: each === "production" };
        environments.push(await insertEnvironment(tx, { organizationId, projectId: id }, names));
      }
      const record = { organizationId, projectId: id, resourceId: id, attributes: { slug } };
      await recordAudit(tx, actor, { ...record, action: "project.create" });
      return { ...row, environments };
    }),
  );
}

/** All of the organization, oldest first. */
export async function listProjects(
  db: Queryable,
  organizationId: string,
): Promise<ProjectWithEnvironments[]> {
  return await readProjects(db, organizationId, undefined);
}

export async function getProject(
  db: Queryable,
  organizationId: string,
  id: string,
): Promise<ProjectWithEnvironments | undefined> {
  const [project] = await readProjects(db, organizationId, id);
  return project;
}

async function readProjects(
  db: Queryable,
  organizationId: string,
  id: string | undefined,
): Promise<ProjectWithEnvironments[]> {
  const one = id === undefined ? sql`true` : sql`p.id = ${id}`;
  const { rows: projects } = await sql<ProjectRow>`select ${columns} from projects p
    where p.organization_id = ${organizationId} and p.deleting_at is null and ${one}
    order by p.created_at, p.id`.execute(db);
  const { rows: environments } = await sql<EnvironmentRow>`select ${environmentColumns} from environments e
    where e.project_id = any (${projects.map((project) => project.id)}::uuid[]) and e.deleting_at is null
    order by e.created_at, e.id`.execute(db);
  return projects.map((project) => ({
    ...project,
    environments: environments.filter((environment) => environment.project_id === project.id),
  }));
}

/** Undefined when the organization has none; throws ApiError 400 when the slug is taken. */
export async function updateProject(
  db: Queryable,
  { organizationId, actor }: ActingOrganization,
  id: string,
  { slug, name }: ProjectNames,
): Promise<ProjectRow | undefined> {
  return await refuseTakenSlug(slug, () =>
    transaction(db, async (tx) => {
      const { rows } = await sql<ProjectRow>`
        update projects p set slug = ${slug}, name = ${name || slug}, updated_at = now()
        where p.organization_id = ${organizationId} and p.id = ${id} and p.deleting_at is null
        returning ${columns}`.execute(tx);
      if (rows[0] === undefined) return undefined;
      const record = { organizationId, projectId: id, resourceId: id, attributes: { slug } };
      await recordAudit(tx, actor, { ...record, action: "project.update" });
      return rows[0];
    }),
  );
}

/** P1. Throws ApiError 404 when the organization is gone. */
export async function lockOrganization(tx: Tx, organizationId: string): Promise<void> {
  const { rows } =
    await sql`select from organizations where id = ${organizationId} for no key update`.execute(tx);
  if (rows.length === 0) throw new ApiError(404, "organization not found");
}

const slugConstraints = new Set([
  "organizations_slug_key",
  "projects_organization_id_slug_key",
  "environments_project_id_slug_key",
]);

/** P2: the unique index decides; the loser is told. */
export async function refuseTakenSlug<T>(slug: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!slugConstraints.has(violatedConstraint(error) ?? "")) throw error;
    throw new ApiError(400, `slug: ${slug} is taken; choose another`);
  }
}
