/**
 * Environments of a project; everything that is deployed or runs belongs to one.
 *
 *   -        -> open       createEnvironment, createProject
 *   open     -> open       updateEnvironment
 *   open     -> deleting   deletion/mark.ts: gone for everybody at once
 *   deleting -> -          deletion/purge.ts
 *
 * E1 `production` and `staging` keep their slugs and are deleted with their project only.
 * E2 Nothing is added to a project that is being deleted: its row is locked while an environment is added.
 */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { recordAudit } from "./audit.ts";
import { type Queryable, type Tx, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import { type ActingOrganization, protectedEnvironments, refuseTakenSlug } from "./projects.ts";
import { changeWorkerGroup } from "./worker-groups/route.ts";

export interface EnvironmentRow {
  readonly id: string;
  readonly project_id: string;
  readonly slug: string;
  readonly name: string;
  readonly color_hex: string;
  readonly is_default: boolean;
  /** Name of the group that is deployed to from now on. */
  readonly worker_group: string;
  readonly created_at: Date;
  readonly updated_at: Date;
}

export interface EnvironmentNames {
  readonly slug: string;
  /** Empty: as the slug. */
  readonly name: string;
  readonly colorHex: string;
}

/** An environment as CRUD routes name it: by both ids. */
export interface EnvironmentKey {
  readonly projectId: string;
  readonly environmentId: string;
}

/** `e` is the table. */
export const environmentColumns = sql<EnvironmentRow>`e.id, e.project_id, e.slug, e.name, e.color_hex, e.is_default,
  (select g.name from worker_groups g where g.id = e.worker_group_id) as worker_group, e.created_at, e.updated_at`;

/** E1 */
export function isProtected(slug: string): boolean {
  return Object.hasOwn(protectedEnvironments, slug);
}

/** Undefined when the organization has no such project; throws ApiError 400 when the slug is taken. */
export async function createEnvironment(
  db: Queryable,
  { organizationId, actor }: ActingOrganization,
  projectId: string,
  names: EnvironmentNames,
): Promise<EnvironmentRow | undefined> {
  return await refuseTakenSlug(names.slug, () =>
    transaction(db, async (tx) => {
      // E2
      const { rows } =
        await sql`select from projects where organization_id = ${organizationId} and id = ${projectId}
        and deleting_at is null for key share`.execute(tx);
      if (rows.length === 0) return undefined;
      const row = await insertEnvironment(tx, { organizationId, projectId }, { ...names, isDefault: false });
      await recordAudit(tx, actor, {
        action: "environment.create",
        organizationId,
        projectId,
        environmentId: row.id,
        resourceId: row.id,
        attributes: { slug: names.slug },
      });
      return row;
    }),
  );
}

export async function insertEnvironment(
  tx: Tx,
  { organizationId, projectId }: { readonly organizationId: string; readonly projectId: string },
  { slug, name, colorHex, isDefault }: EnvironmentNames & { readonly isDefault: boolean },
): Promise<EnvironmentRow> {
  const { rows } = await sql<EnvironmentRow>`
    insert into environments as e (id, organization_id, project_id, slug, name, color_hex, is_default)
    values (${uuidv7()}, ${organizationId}, ${projectId}, ${slug}, ${name || slug}, ${colorHex}, ${isDefault})
    returning ${environmentColumns}`.execute(tx);
  if (rows[0] === undefined) throw new Error("the insert of an environment returned no row");
  return rows[0];
}

export async function getEnvironment(
  db: Queryable,
  organizationId: string,
  { projectId, environmentId }: EnvironmentKey,
): Promise<EnvironmentRow | undefined> {
  const { rows } = await sql<EnvironmentRow>`select ${environmentColumns} from environments e
    where e.organization_id = ${organizationId} and e.project_id = ${projectId} and e.id = ${environmentId}
      and e.deleting_at is null`.execute(db);
  return rows[0];
}

/** Undefined when there is none; throws ApiError 400 for a taken slug, for another slug of a protected one (E1), and for a group that is not there. */
export async function updateEnvironment(
  db: Queryable,
  { organizationId, actor }: ActingOrganization,
  { projectId, environmentId }: EnvironmentKey,
  { slug, name, colorHex, workerGroup }: EnvironmentNames & { readonly workerGroup?: string | undefined },
): Promise<EnvironmentRow | undefined> {
  return await refuseTakenSlug(slug, () =>
    transaction(db, async (tx) => {
      const { rows: before } = await sql<{ slug: string }>`select slug from environments
        where organization_id = ${organizationId} and project_id = ${projectId} and id = ${environmentId}
          and deleting_at is null for update`.execute(tx);
      const [current] = before;
      if (current === undefined) return undefined;
      if (isProtected(current.slug) && slug !== current.slug) {
        throw new ApiError(
          400,
          `slug: the environment ${current.slug} keeps its slug; its name and color can change`,
        );
      }
      const routed = workerGroup && (await changeWorkerGroup(tx, environmentId, workerGroup));
      const { rows } = await sql<EnvironmentRow>`
        update environments e set slug = ${slug}, name = ${name || slug}, color_hex = ${colorHex}, updated_at = now()
        where e.id = ${environmentId} returning ${environmentColumns}`.execute(tx);
      await recordAudit(tx, actor, {
        action: "environment.update",
        organizationId,
        projectId,
        environmentId,
        resourceId: environmentId,
        attributes: { slug, ...(routed && { worker_group: routed }) },
      });
      return rows[0];
    }),
  );
}
