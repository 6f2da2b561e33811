/**
 * Deleting an environment, or a project with all of its environments.
 *
 *   open     -> deleting   markForDeletion: one short transaction; from its commit on nothing of it is there for anybody
 *   deleting -> -          purgePage, again and again, by the dispatcher (purge.ts); a crash anywhere resumes there
 *
 * D1 The mark takes the environment's row with a lock that a starting session, a new deployment and every insert that
 *    refers to the environment wait for or are waited for: work is either seen by the mark, or finds the environment closed.
 * D2 Without `force` an environment with live work stays: queued, running or waiting runs, queued or building deployments.
 * D3 API keys and secrets go in the mark's own transaction: no key of the environment outlives it, and a run that is still
 *    claimed gets no secret.
 * D4 A marked slug becomes the row's id, so that the old one is free at once.
 */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { recordAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { isProtected } from "../environments.ts";
import { type ActingOrganization, lockOrganization } from "../projects.ts";
import type { DeletionTarget } from "./preview.ts";

interface Marked {
  readonly id: string;
  readonly slug: string;
}

/**
 * Whether there was something to mark. Throws ApiError 400 for a protected environment and an organization's last project,
 * 409 for live work without `force`.
 */
export async function markForDeletion(
  db: Queryable,
  acting: ActingOrganization,
  target: DeletionTarget,
  { force }: { readonly force: boolean },
): Promise<boolean> {
  return await transaction(db, async (tx) =>
    target.environmentId === undefined
      ? await markProject(tx, acting, target.projectId, force)
      : await markEnvironment(tx, acting, { ...target, environmentId: target.environmentId }, force),
  );
}

async function markEnvironment(
  tx: Tx,
  { organizationId, actor }: ActingOrganization,
  { projectId, environmentId }: Required<DeletionTarget> & { readonly environmentId: string },
  force: boolean,
): Promise<boolean> {
  const { rows } = await sql<Marked>`select id, slug from environments
    where organization_id = ${organizationId} and project_id = ${projectId} and id = ${environmentId}
      and deleting_at is null for update`.execute(tx); // D1
  const [environment] = rows;
  if (environment === undefined) return false;
  if (isProtected(environment.slug)) {
    throw new ApiError(400, `the environment ${environment.slug} cannot be deleted; delete its project`);
  }
  if (!force) await refuseLiveWork(tx, rows);
  await close(tx, rows);
  await recordAudit(tx, actor, {
    action: "environment.delete",
    organizationId,
    projectId,
    environmentId,
    resourceId: environmentId,
    attributes: { slug: environment.slug, force },
  });
  return true;
}

async function markProject(
  tx: Tx,
  { organizationId, actor }: ActingOrganization,
  projectId: string,
  force: boolean,
): Promise<boolean> {
  await lockOrganization(tx, organizationId);
  const { rows: projects } = await sql<
    Marked & { is_default: boolean }
  >`select id, slug, is_default from projects
    where organization_id = ${organizationId} and id = ${projectId} and deleting_at is null for update`.execute(
    tx,
  );
  const [project] = projects;
  if (project === undefined) return false;
  if (project.is_default) await passOnDefault(tx, organizationId, projectId);
  const { rows: environments } = await sql<Marked>`select id, slug from environments
    where project_id = ${projectId} and deleting_at is null order by id for update`.execute(tx); // D1
  if (!force) await refuseLiveWork(tx, environments);
  await close(tx, environments);
  await sql`update projects set deleting_at = now(), slug = id::text, is_default = false
    where id = ${projectId}`.execute(tx); // D4
  await recordAudit(tx, actor, {
    action: "project.delete",
    organizationId,
    projectId,
    resourceId: projectId,
    attributes: { slug: project.slug, force, environments: environments.map(({ slug }) => slug) },
  });
  return true;
}

/** P1 of projects.ts: the oldest of the others. */
async function passOnDefault(tx: Tx, organizationId: string, projectId: string): Promise<void> {
  const { numAffectedRows = 0n } = await sql`update projects set is_default = true, updated_at = now()
    where id = (select id from projects where organization_id = ${organizationId} and id <> ${projectId}
      and deleting_at is null order by created_at, id limit 1)`.execute(tx);
  if (numAffectedRows === 0n) {
    throw new ApiError(
      400,
      "the default project is the organization's last one; create another before you delete it",
    );
  }
}

/** D2, after D1: what was committed until the lock is seen by these new statements. */
async function refuseLiveWork(tx: Tx, environments: readonly Marked[]): Promise<void> {
  const ids = environments.map(({ id }) => id);
  const { rows } = await sql<{ runs: boolean; deployments: boolean }>`select
    exists (select from unnest(${ids}::uuid[]) e (id) cross join lateral (
      select from runs r where r.environment_id = e.id and r.status in ('queued', 'running', 'waiting') limit 1) r) as runs,
    exists (select from deployments d where d.environment_id = any (${ids}::uuid[])
      and d.status in ('queued', 'building')) as deployments`.execute(tx);
  const live = [rows[0]?.runs && "runs", rows[0]?.deployments && "deployments"].filter((each) => each);
  if (live.length === 0) return;
  throw new ApiError(
    409,
    `there are unfinished ${live.join(" and ")}; wait for them or cancel them, or delete with ?force=true`,
  );
}

/** D3, D4 */
async function close(tx: Tx, environments: readonly Marked[]): Promise<void> {
  const ids = environments.map(({ id }) => id);
  await sql`delete from api_keys where environment_id = any (${ids}::uuid[])`.execute(tx);
  await sql`delete from secrets where environment_id = any (${ids}::uuid[])`.execute(tx);
  await sql`update environments set deleting_at = now(), slug = id::text where id = any (${ids}::uuid[])`.execute(
    tx,
  );
}
