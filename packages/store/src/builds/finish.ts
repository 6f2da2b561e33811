/** finishBuild: a build ends deployed, failed, or queued again. */
import { createHash } from "node:crypto";
import type { BuiltSandbox, Catalog } from "@helmr/api";
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { appendDeploymentEvents } from "../events.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import type { LeaseRef } from "../runs/index.ts";
import { type BuildRef, type LockedBuild, lockBuild, maxBuildAttempts } from "./lifecycle.ts";

export interface BuiltSandboxInput {
  readonly sandboxId: string;
  readonly fingerprint: string;
  readonly built: BuiltSandbox;
}

export interface BuildFailure {
  readonly status: "failed";
  readonly failureKind: string;
  readonly message: string;
  readonly step?: string | undefined;
  readonly outputTail?: string | undefined;
  readonly retryable: boolean;
}

export type BuildOutcome =
  | { readonly status: "built"; readonly catalog: Catalog; readonly sandboxes: readonly BuiltSandboxInput[] }
  | BuildFailure;

/** Undefined when the lease is lost. `requeued`: it will be built again. */
export async function finishBuild(
  db: Queryable,
  lease: LeaseRef,
  outcome: BuildOutcome,
): Promise<(BuildRef & { readonly requeued: boolean }) | undefined> {
  return await transaction(db, async (tx) => {
    const build = await lockBuild(tx, lease);
    if (build === undefined) return undefined;
    const ref = { deploymentId: build.id, environmentId: build.environment_id };
    if (outcome.status === "built") {
      const problem = missingSandbox(outcome.catalog, outcome.sandboxes);
      if (problem === undefined) await deploy(tx, build, outcome.catalog, outcome.sandboxes);
      else
        await fail(tx, build, {
          status: "failed",
          failureKind: "catalog_invalid",
          message: problem,
          retryable: false,
        });
      return { ...ref, requeued: false };
    }
    return { ...ref, requeued: await failOrRequeue(tx, build, outcome) };
  });
}

/** Queue the build again while it may be tried again, else fail it; says whether it was queued. */
export async function failOrRequeue(tx: Tx, build: LockedBuild, failure: BuildFailure): Promise<boolean> {
  // B4
  if (!failure.retryable || build.build_attempt >= maxBuildAttempts) {
    await fail(tx, build, failure);
    return false;
  }
  await sql`update deployments set status = 'queued', lease_id = null, lease_expires_at = null
    where id = ${build.id}`.execute(tx);
  const attributes = { status: "queued", failure_kind: failure.failureKind, attempt: build.build_attempt };
  const message = `Waiting to be built again: ${failure.message}`;
  await appendDeploymentEvents(tx, build.id, [
    { kind: "deployment.requeued", severity: "warn", message, attributes },
  ]);
  return true;
}

async function fail(tx: Tx, build: LockedBuild, failure: BuildFailure): Promise<void> {
  const { message, failureKind: failure_kind, step, outputTail: output_tail } = failure;
  const error = { message, failure_kind, step, output_tail };
  await sql`update deployments set status = 'failed', failed_at = now(), lease_id = null, lease_expires_at = null,
    error = ${jsonbText(error)}::jsonb where id = ${build.id}`.execute(tx);
  await appendDeploymentEvents(tx, build.id, [
    {
      kind: "deployment.failed",
      severity: "error",
      message: step === undefined || message.includes(step) ? message : `${step}: ${message}`,
      attributes: { status: "failed", ...error },
    },
  ]);
}

/** A task without its sandbox could be deployed and never run. */
function missingSandbox(catalog: Catalog, sandboxes: readonly BuiltSandboxInput[]): string | undefined {
  const built = new Set(sandboxes.map((sandbox) => sandbox.sandboxId));
  const task = catalog.tasks.find((each) => !built.has(each.sandbox_id));
  return task && `task ${task.id} names the sandbox ${task.sandbox_id}, which was not built`;
}

/** B2 */
async function deploy(
  tx: Tx,
  build: LockedBuild,
  catalog: Catalog,
  sandboxes: readonly BuiltSandboxInput[],
): Promise<void> {
  const ids = { deployment_id: build.id, environment_id: build.environment_id };
  if (sandboxes.length > 0) {
    const rows = sandboxes.map(({ sandboxId, fingerprint, built }) => ({
      ...ids,
      id: uuidv7(),
      sandbox_id: sandboxId,
      fingerprint,
      image_digest: built.image.digest,
      definition: jsonbText(built),
    }));
    await tx.insertInto("deployment_sandboxes").values(rows).execute();
  }
  for (const page of pages(catalog.tasks, 500)) {
    const rows = page.map((task) => ({
      ...ids,
      id: uuidv7(),
      task_id: task.id,
      file_path: task.file_path,
      export_name: task.export_name,
      sandbox_id: task.sandbox_id,
      queue_name: task.queue,
      max_duration_seconds: task.max_duration_seconds,
      ttl: task.ttl ?? null,
      retry_policy: jsonbText(task.retry),
      secrets: jsonbText(task.secrets),
      has_payload: task.has_payload,
      schedule: task.schedule === undefined ? null : jsonbText(task.schedule),
    }));
    await tx.insertInto("deployment_tasks").values(rows).execute();
  }
  for (const page of pages(queuesOf(catalog), 5000)) {
    const rows = page.map(([name, concurrency_limit]) => ({
      deployment_id: build.id,
      name,
      concurrency_limit,
    }));
    await tx.insertInto("deployment_queues").values(rows).execute();
  }
  for (const page of pages(catalog.streams, 5000)) {
    const rows = page.map(({ name, direction, schema_vendor }) => ({
      deployment_id: build.id,
      name,
      direction,
      schema_vendor: schema_vendor ?? null,
    }));
    await tx
      .insertInto("deployment_streams")
      .values(rows)
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
  await sql`update deployments set status = 'deployed', built_at = now(), deployed_at = now(), lease_id = null,
    lease_expires_at = null, error = null, catalog = ${jsonbText(catalog)}::jsonb,
    build_manifest_digest = ${digest(sandboxes)}, deployment_manifest_digest = ${digest(catalog)},
    architecture = (select i.capabilities->>'architecture' from worker_instances i where i.id = worker_instance_id)
    where id = ${build.id}`.execute(tx);
  await appendDeploymentEvents(tx, build.id, [
    ...(await foreignProject(tx, build.environment_id, catalog.project)),
    {
      kind: "deployment.deployed",
      message: "Built",
      attributes: { status: "deployed", tasks: catalog.tasks.length, sandboxes: sandboxes.length },
    },
  ]);
}

/**
 * The key or the path of the upload decides the project (contract 9.1); helmr.config.ts names it for the CLI (13.8). That
 * they differ is allowed, for sources that are deployed to several projects, and said, because it is often a mistake.
 */
async function foreignProject(tx: Tx, environmentId: string, named: string) {
  const { rows } = await sql<{ id: string; slug: string }>`select p.id, p.slug
    from environments e join projects p on p.id = e.project_id where e.id = ${environmentId}`.execute(tx);
  const project = rows[0];
  if (project === undefined || named === project.id || named === project.slug) return [];
  return [
    {
      kind: "deployment.build.warning",
      severity: "warn" as const,
      message: `helmr.config.ts names the project ${JSON.stringify(named)}; this is deployed to ${JSON.stringify(project.slug)}, as the API key or --project says`,
      attributes: { configured_project: named, project: project.slug },
    },
  ];
}

/** The declared queues, and the one of each task without a queue of its own. */
function queuesOf(catalog: Catalog): [string, number | null][] {
  const limits = new Map<string, number | null>(catalog.tasks.map((task) => [task.queue, null]));
  for (const queue of catalog.queues) limits.set(queue.id, queue.concurrency_limit);
  return [...limits];
}

function digest(value: unknown): string {
  return `sha256:${createHash("sha256").update(JSON.stringify(value)).digest("hex")}`;
}

function* pages<T>(rows: readonly T[], size: number): Generator<readonly T[]> {
  for (let start = 0; start < rows.length; start += size) yield rows.slice(start, start + size);
}
