/** Reading deployments and what they declare. */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { DeploymentStatus } from "../schema.ts";
import type { Scope } from "../scope.ts";

export interface DeploymentRow {
  readonly id: string;
  readonly environment_id: string;
  readonly project_id: string;
  readonly version: string;
  readonly status: DeploymentStatus;
  readonly content_hash: string;
  readonly source_digest: string;
  readonly source_size_bytes: number;
  readonly api_version: string;
  readonly sdk_version: string | null;
  readonly cli_version: string | null;
  readonly bundle_format_version: number;
  readonly worker_protocol_version: string;
  readonly worker_group_id: string;
  readonly build_manifest_digest: string | null;
  readonly deployment_manifest_digest: string | null;
  readonly error: Record<string, unknown> | null;
  readonly created_at: Date;
  readonly building_at: Date | null;
  readonly built_at: Date | null;
  readonly deployed_at: Date | null;
  readonly failed_at: Date | null;
}

/** All but the catalog, which can be large and nobody lists. */
export const deploymentColumns: RawBuilder<unknown> = sql`d.id, d.environment_id, d.project_id, d.version, d.status,
  d.content_hash, d.source_digest, d.source_size_bytes, d.api_version, d.sdk_version, d.cli_version,
  d.bundle_format_version, d.worker_protocol_version, d.worker_group_id, d.build_manifest_digest, d.deployment_manifest_digest, d.error,
  d.created_at, d.building_at, d.built_at, d.deployed_at, d.failed_at`;

export async function getDeployment(
  db: Queryable,
  scope: Scope,
  id: string,
): Promise<DeploymentRow | undefined> {
  const { rows } = await sql<DeploymentRow>`select ${deploymentColumns} from deployments d
    where d.environment_id = ${scope.environmentId} and d.id = ${id}`.execute(db);
  return rows[0];
}

/** Newest first. */
export async function listDeployments(db: Queryable, scope: Scope, limit: number): Promise<DeploymentRow[]> {
  const { rows } = await sql<DeploymentRow>`select ${deploymentColumns} from deployments d
    where d.environment_id = ${scope.environmentId} order by d.created_at desc, d.id desc limit ${limit}`.execute(
    db,
  );
  return rows;
}

export async function getCurrentDeployment(db: Queryable, scope: Scope): Promise<DeploymentRow | undefined> {
  const { rows } = await sql<DeploymentRow>`select ${deploymentColumns}
    from current_deployments c join deployments d on d.id = c.deployment_id
    where c.environment_id = ${scope.environmentId}`.execute(db);
  return rows[0];
}

export interface DeploymentEventRow {
  readonly seq: number;
  readonly category: string;
  readonly severity: string;
  readonly source: string;
  readonly kind: string;
  readonly message: string;
  readonly attributes: Record<string, unknown>;
  readonly occurred_at: Date;
  readonly at: Date;
}

/** Events after `cursor` in order; the caller has read the deployment in its scope, as this function does again. */
export async function listDeploymentEvents(
  db: Queryable,
  scope: Scope,
  deploymentId: string,
  page: { readonly cursor: number; readonly limit: number },
): Promise<DeploymentEventRow[]> {
  const { rows } = await sql<DeploymentEventRow>`
    select e.seq, e.category, e.severity, e.source, e.kind, e.message, e.attributes, e.occurred_at, e.at
    from deployments d join deployment_events e on e.deployment_id = d.id
    where d.environment_id = ${scope.environmentId} and d.id = ${deploymentId} and e.seq > ${page.cursor}
    order by e.seq limit ${page.limit}`.execute(db);
  return rows;
}

export interface TaskRow {
  readonly id: string;
  readonly task_id: string;
  readonly file_path: string;
  readonly export_name: string;
  readonly queue_name: string;
  readonly concurrency_limit: number | null;
  readonly ttl: string | null;
  readonly created_at: Date;
}

const selectTasks = sql`select t.id, t.task_id, t.file_path, t.export_name, t.queue_name, q.concurrency_limit, t.ttl, t.created_at
  from deployment_tasks t left join deployment_queues q on q.deployment_id = t.deployment_id and q.name = t.queue_name`;

export async function listDeploymentTasks(
  db: Queryable,
  scope: Scope,
  deploymentId: string,
): Promise<TaskRow[]> {
  const { rows } = await sql<TaskRow>`${selectTasks}
    where t.environment_id = ${scope.environmentId} and t.deployment_id = ${deploymentId} order by t.task_id`.execute(
    db,
  );
  return rows;
}

/** Tasks of the current deployment; with `taskId` that one only. */
export async function listCurrentTasks(db: Queryable, scope: Scope, taskId?: string): Promise<TaskRow[]> {
  const { rows } = await sql<TaskRow>`${selectTasks}
    join current_deployments c on c.deployment_id = t.deployment_id
    where c.environment_id = ${scope.environmentId} and (${taskId ?? null}::text is null or t.task_id = ${taskId ?? null})
    order by t.task_id`.execute(db);
  return rows;
}

export interface SandboxRow {
  readonly id: string;
  readonly deployment_id: string;
  readonly sandbox_id: string;
  readonly fingerprint: string;
  readonly image_digest: string;
  /** BuiltSandbox of @helmr/api without the image's steps. */
  readonly definition: Record<string, unknown>;
  readonly created_at: Date;
}

/** Sandboxes of the current deployment; with `sandboxId` that one only. */
export async function listCurrentSandboxes(
  db: Queryable,
  scope: Scope,
  sandboxId?: string,
): Promise<SandboxRow[]> {
  const { rows } = await sql<SandboxRow>`
    select b.id, b.deployment_id, b.sandbox_id, b.fingerprint, b.image_digest,
      b.definition #- '{definition,image}' as definition, b.created_at
    from current_deployments c join deployment_sandboxes b on b.deployment_id = c.deployment_id
    where c.environment_id = ${scope.environmentId}
      and (${sandboxId ?? null}::text is null or b.sandbox_id = ${sandboxId ?? null})
    order by b.sandbox_id`.execute(db);
  return rows;
}
