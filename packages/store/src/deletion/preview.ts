/** What a deletion would take along: counted when somebody asks, by indexes of the environments meant. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";

export interface DeletionCounts {
  readonly environments: number;
  readonly sessions: number;
  readonly runs: number;
  /** Queued, running or waiting. */
  readonly live_runs: number;
  readonly workspaces: number;
  readonly deployments: number;
  /** Queued or building. */
  readonly live_deployments: number;
  readonly secrets: number;
  readonly api_keys: number;
}

/** What a deletion is of: a project, or one environment of it. */
export interface DeletionTarget {
  readonly projectId: string;
  readonly environmentId?: string | undefined;
}

/** Undefined when the organization has no such project or environment. */
export async function previewDeletion(
  db: Queryable,
  organizationId: string,
  target: DeletionTarget,
): Promise<DeletionCounts | undefined> {
  const { projectId, environmentId } = target;
  const { rows: found } = await sql`select from projects p where p.organization_id = ${organizationId}
    and p.id = ${projectId} and p.deleting_at is null`.execute(db);
  if (found.length === 0) return undefined;
  const { rows: environments } = await sql<{ id: string }>`select id from environments
    where organization_id = ${organizationId} and project_id = ${projectId} and deleting_at is null
      and (${environmentId ?? null}::uuid is null or id = ${environmentId ?? null}::uuid)`.execute(db);
  if (environmentId !== undefined && environments.length === 0) return undefined;
  return await count(
    db,
    environments.map(({ id }) => id),
  );
}

async function count(db: Queryable, ids: readonly string[]): Promise<DeletionCounts> {
  const mine = sql`environment_id = any (${ids}::uuid[])`;
  const { rows } = await sql<DeletionCounts>`select
    ${ids.length}::integer as environments,
    (select count(*) from sessions where ${mine}) as sessions,
    coalesce(sum(queued + running + waiting + succeeded + failed + cancelled + expired), 0)::bigint as runs,
    coalesce(sum(queued + running + waiting), 0)::bigint as live_runs,
    (select count(*) from workspaces where ${mine}) as workspaces,
    (select count(*) from deployments where ${mine}) as deployments,
    (select count(*) from deployments where ${mine} and status in ('queued', 'building')) as live_deployments,
    (select count(*) from secrets where ${mine}) as secrets,
    (select count(*) from api_keys where ${mine}) as api_keys
    from run_counts where ${mine}`.execute(db);
  if (rows[0] === undefined) throw new Error("the counts returned no row");
  return rows[0];
}
