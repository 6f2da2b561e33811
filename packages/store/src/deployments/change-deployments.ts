/**
 * Creating and promoting deployments. What happens between (the build) is in ../builds.
 *
 *   from      to         verb                 writes
 *   -         queued     createDeployment     version, deployment.queued
 *   queued    building   ../builds
 *   building  deployed   ../builds            tasks, sandboxes, queues of the deployment
 *   building  failed     ../builds
 *   deployed  current    promoteDeployment    current_deployments, `queues` and declarative
 *                                             schedules of the environment, together
 *
 * D1 Of one content hash and environment at most one deployment is queued or building: creations of an environment are
 *    serialised by a lock on the environment (no key update: rows that only refer to it go on).
 * D2 Versions are `YYYYMMDD.N` in UTC, N from 1 without gaps.
 * D3 `queues` is always exactly what the current deployment declares.
 */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { lockArtifact } from "../deletion/index.ts";
import { appendDeploymentEvents } from "../events.ts";
import { uuidv7 } from "../ids.ts";
import { applyDeploymentQueues } from "../runs/index.ts";
import type { ScheduleTiming } from "../schedules/index.ts";
import { applyDeploymentSchedules } from "../schedules/reconcile.ts";
import type { ActingScope, Scope } from "../scope.ts";
import { type DeploymentRow, deploymentColumns, getDeployment } from "./read-deployments.ts";

export interface NewDeployment {
  readonly contentHash: string;
  readonly sourceDigest: string;
  readonly sourceSizeBytes: number;
  readonly apiVersion: string;
  readonly sdkVersion?: string | undefined;
  readonly cliVersion?: string | undefined;
  readonly bundleFormatVersion: number;
  readonly workerProtocolVersion: string;
}

/**
 * The new deployment, or the unfinished one of the same content. `isStored`: asked under the source's lock (S1 of
 * ../deletion/artifacts.ts), whether it is still in the artifact store. Throws ApiError 404 when the environment is being
 * deleted, 503 when the source was removed since it was stored.
 */
export async function createDeployment(
  db: Queryable,
  scope: ActingScope,
  deployment: NewDeployment,
  isStored: () => Promise<boolean>,
): Promise<{ readonly deployment: DeploymentRow; readonly created: boolean }> {
  return await transaction(db, async (tx) => {
    const { rows: open } = await sql`select from environments where id = ${scope.environmentId}
      and deleting_at is null for no key update`.execute(tx); // D1
    if (open.length === 0) throw new ApiError(404, "environment not found");
    const inFlight = await findInFlight(tx, scope, deployment.contentHash);
    if (inFlight !== undefined) return { deployment: inFlight, created: false };
    await lockArtifact(tx, deployment.sourceDigest);
    if (!(await isStored())) throw new ApiError(503, "the source was removed meanwhile; upload it again");
    const id = uuidv7();
    await tx
      .insertInto("deployments")
      .values({
        id,
        environment_id: scope.environmentId,
        project_id: scope.projectId,
        version: await nextVersion(tx, scope),
        status: "queued",
        content_hash: deployment.contentHash,
        source_digest: deployment.sourceDigest,
        source_size_bytes: deployment.sourceSizeBytes,
        api_version: deployment.apiVersion,
        sdk_version: deployment.sdkVersion ?? null,
        cli_version: deployment.cliVersion ?? null,
        bundle_format_version: deployment.bundleFormatVersion,
        worker_protocol_version: deployment.workerProtocolVersion,
        // G2 of ../worker-groups/lifecycle.ts
        worker_group_id: sql<string>`(select worker_group_id from environments where id = ${scope.environmentId})`,
      })
      .execute();
    await recordScopeAudit(tx, scope, {
      action: "deployment.create",
      resourceId: id,
      attributes: { content_hash: deployment.contentHash },
    });
    await appendDeploymentEvents(tx, id, [
      {
        kind: "deployment.queued",
        message: "Waiting for a worker to build it",
        attributes: { status: "queued" },
      },
    ]);
    const row = await getDeployment(tx, scope, id);
    if (row === undefined) throw new Error("the created deployment is not there");
    return { deployment: row, created: true };
  });
}

/** D2. */
async function nextVersion(tx: Tx, scope: Scope): Promise<string> {
  const { rows } = await sql<{ day: string; last_number: number }>`
    insert into deployment_versions (environment_id, day, last_number)
    values (${scope.environmentId}, to_char(now() at time zone 'utc', 'YYYYMMDD'), 1)
    on conflict (environment_id, day) do update set last_number = deployment_versions.last_number + 1
    returning day, last_number`.execute(tx);
  const row = rows[0];
  if (row === undefined) throw new Error("the version counter returned no row");
  return `${row.day}.${row.last_number}`;
}

async function findInFlight(tx: Tx, scope: Scope, contentHash: string): Promise<DeploymentRow | undefined> {
  const { rows } = await sql<DeploymentRow>`select ${deploymentColumns} from deployments d
    where d.environment_id = ${scope.environmentId} and d.content_hash = ${contentHash}
      and d.status in ('queued', 'building')
    order by d.created_at limit 1`.execute(tx);
  return rows[0];
}

/**
 * Make a deployment (by id or version) current, its queues and schedules included, atomically. Undefined when there is none; throws
 * ApiError 400 when it is not built.
 */
export async function promoteDeployment(
  db: Queryable,
  scope: ActingScope,
  key: { readonly id: string } | { readonly version: string },
  reason: string | undefined,
  timing: ScheduleTiming,
): Promise<DeploymentRow | undefined> {
  return await transaction(db, async (tx) => {
    const matches = "id" in key ? sql`d.id = ${key.id}` : sql`d.version = ${key.version}`;
    const { rows } = await sql<DeploymentRow>`select ${deploymentColumns} from deployments d
      where d.environment_id = ${scope.environmentId} and ${matches}`.execute(tx);
    const deployment = rows[0];
    if (deployment === undefined) return undefined;
    if (deployment.status !== "deployed") throw new ApiError(400, "deployment is not deployable");
    await makeCurrent(tx, scope, deployment.id, reason);
    const schedules = await applyDeploymentSchedules(tx, scope, deployment.id, timing);
    await recordScopeAudit(tx, scope, {
      action: "deployment.promote",
      resourceId: deployment.id,
      attributes: { version: deployment.version, schedules },
    });
    return deployment;
  });
}

/** D3. The upsert locks the environment's row first, so that two promotions follow each other. */
async function makeCurrent(
  tx: Tx,
  scope: Scope,
  deploymentId: string,
  reason: string | undefined,
): Promise<void> {
  await sql`insert into current_deployments (environment_id, deployment_id, reason)
    values (${scope.environmentId}, ${deploymentId}, ${reason ?? null})
    on conflict (environment_id) do update set deployment_id = excluded.deployment_id, promoted_at = now(),
      reason = excluded.reason`.execute(tx);
  await applyDeploymentQueues(tx, scope, deploymentId);
}
