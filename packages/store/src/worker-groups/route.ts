/** Which group an environment's deployments go to (G2 of lifecycle.ts). */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { recordAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { isNamed, type Operator } from "./groups.ts";

export interface RoutedEnvironmentRow {
  readonly environment_id: string;
  readonly project_id: string;
  readonly organization: string;
  readonly project: string;
  readonly environment: string;
}

/** An environment list has an end: what one group's page shows. */
const maxListed = 1000;

/** Up to 1,000, by organization, project and environment; undefined when there is no such group. */
export async function listRoutedEnvironments(
  db: Queryable,
  group: string,
): Promise<RoutedEnvironmentRow[] | undefined> {
  const { rows: groups } = await sql<{
    id: string;
  }>`select g.id from worker_groups g where ${isNamed(group)}`.execute(db);
  if (groups[0] === undefined) return undefined;
  const { rows } = await sql<RoutedEnvironmentRow>`
    select e.id as environment_id, e.project_id, o.slug as organization, p.slug as project, e.slug as environment
    from environments e join projects p on p.id = e.project_id join organizations o on o.id = e.organization_id
    where e.worker_group_id = ${groups[0].id} and e.deleting_at is null
    order by o.slug, p.slug, e.slug limit ${sql.lit(maxListed)}`.execute(db);
  return rows;
}

/** Route an environment by its id. Undefined when the group or the environment is not there. */
export async function routeEnvironment(
  db: Queryable,
  { actor }: Operator,
  group: string,
  environmentId: string,
): Promise<RoutedEnvironmentRow | undefined> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<RoutedEnvironmentRow & { organization_id: string }>`
      select e.id as environment_id, e.project_id, e.organization_id, o.slug as organization, p.slug as project,
        e.slug as environment
      from environments e join projects p on p.id = e.project_id join organizations o on o.id = e.organization_id
      where e.id = ${environmentId} and e.deleting_at is null for update of e`.execute(tx);
    const environment = rows[0];
    if (environment === undefined) return undefined;
    const name = await setWorkerGroup(tx, environmentId, group);
    if (name === undefined) return undefined;
    const { organization_id: organizationId, ...routed } = environment;
    await recordAudit(tx, actor, {
      action: "environment.route",
      organizationId,
      projectId: environment.project_id,
      environmentId,
      resourceId: environmentId,
      attributes: { worker_group: name },
    });
    return routed;
  });
}

/** For a change of the environment, which is locked. Throws ApiError 400 when there is no such group. */
export async function changeWorkerGroup(tx: Tx, environmentId: string, group: string): Promise<string> {
  const name = await setWorkerGroup(tx, environmentId, group);
  if (name === undefined)
    throw new ApiError(400, `worker_group: there is no worker group ${JSON.stringify(group)}`);
  return name;
}

/** The name of the group; undefined when there is none. The reference keeps the group from being deleted meanwhile. */
async function setWorkerGroup(tx: Tx, environmentId: string, group: string): Promise<string | undefined> {
  const { rows } = await sql<{ name: string }>`
    update environments e set worker_group_id = g.id, updated_at = now()
    from (select g.id, g.name from worker_groups g where ${isNamed(group)} order by g.id limit 1 for key share) g
    where e.id = ${environmentId} returning g.name`.execute(tx);
  return rows[0]?.name;
}
