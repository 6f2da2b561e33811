/** Rows that tests of the lifecycle start from: a tenant, a deployed task, sessions with a workspace each. */
import { createHash, randomBytes } from "node:crypto";
import type { MemberRole } from "@helmr/api";
import { systemActor } from "../src/audit.ts";
import type { Queryable } from "../src/database.ts";
import { uuidv7 } from "../src/ids.ts";
import type { MemberStatus } from "../src/schema-identity.ts";
import type { ActingScope, Scope } from "../src/scope.ts";
import { startSession } from "../src/sessions/index.ts";
import { createUserSession } from "../src/user-sessions.ts";

export interface SeededEnvironment {
  readonly scope: ActingScope;
  readonly workerGroupId: string;
}

/** An organization, project and environment of their own, and the worker group `default`. */
export async function seedEnvironment(db: Queryable): Promise<SeededEnvironment> {
  const scope = {
    organizationId: uuidv7(),
    projectId: uuidv7(),
    environmentId: uuidv7(),
    actor: systemActor("test"),
  };
  const organization = { id: scope.organizationId, slug: `org-${scope.organizationId}`, name: "Test" };
  await db.insertInto("organizations").values(organization).execute();
  const project = { id: scope.projectId, organization_id: scope.organizationId, slug: "test", name: "Test" };
  await db.insertInto("projects").values(project).execute();
  await db
    .insertInto("environments")
    .values({
      id: scope.environmentId,
      organization_id: scope.organizationId,
      project_id: scope.projectId,
      slug: "production",
      name: "Production",
      color_hex: "#00AA88",
    })
    .execute();
  await db
    .insertInto("worker_groups")
    .values({ id: uuidv7(), name: "default" })
    .onConflict((conflict) => conflict.column("name").doNothing())
    .execute();
  const group = await db
    .selectFrom("worker_groups")
    .select("id")
    .where("name", "=", "default")
    .executeTakeFirstOrThrow();
  return { scope, workerGroupId: group.id };
}

export interface SeededMember {
  readonly userId: string;
  readonly email: string;
  /** Of a session that acts in the organization. */
  readonly token: string;
}

/** A user with a role in the scope's organization, signed in. `role: undefined`: no member of anything. */
export async function seedMember(
  db: Queryable,
  organizationId: string,
  role: MemberRole | undefined,
  options: { readonly status?: MemberStatus; readonly email?: string } = {},
): Promise<SeededMember> {
  const userId = uuidv7();
  const email = options.email ?? `${userId}@example.com`;
  const status = options.status ?? "active";
  await db.insertInto("users").values({ id: userId, email, display_name: "Test" }).execute();
  if (role !== undefined) {
    await db
      .insertInto("organization_members")
      .values({
        organization_id: organizationId,
        user_id: userId,
        role,
        status,
        disabled_at: status === "disabled" ? new Date() : null,
      })
      .execute();
  }
  const session = { userId, organizationId: role && organizationId, kind: "cli" } as const;
  const { token } = await db
    .transaction()
    .execute((tx) => createUserSession(tx, systemActor("test"), session));
  return { userId, email, token };
}

/** A worker as registration leaves it. */
export async function seedWorker(
  db: Queryable,
  workerGroupId: string,
  capabilities: Record<string, unknown> = {},
): Promise<string> {
  const id = uuidv7();
  await db
    .insertInto("worker_instances")
    .values({
      id,
      worker_group_id: workerGroupId,
      name: "test",
      credential_hash: createHash("sha256").update(randomBytes(32)).digest(),
      state: "active",
      version: "0.0.0",
      capacity: "{}",
      capabilities: JSON.stringify(capabilities),
    })
    .execute();
  return id;
}

export interface SeededTask {
  readonly deploymentId: string;
  readonly deploymentTaskId: string;
  readonly deploymentSandboxId: string;
  readonly taskId: string;
  readonly queueName: string;
}

export interface SeedTaskOptions {
  readonly taskId?: string;
  readonly queueName?: string;
  /** Written to `queues`: in force at once. */
  readonly concurrencyLimit?: number;
  readonly secrets?: readonly unknown[];
  /** As `schedules.task` declares it; it counts from the promotion on, which this is none. */
  readonly schedule?: { readonly cron: string; readonly timezone: string };
}

/** The smallest sandbox definition that the wire accepts. */
export const seededSandbox = {
  definition: {
    id: "box",
    image: { id: "image", steps: [{ op: "from", ref: "node:24-bookworm-slim" }] },
    workspace_mount_path: "/workspace",
    resources: { cpu: 1, memory_mib: 512, disk_mib: 1024 },
    network: { internet: false, allow: [], deny: [] },
  },
  image: { digest: "sha256:00", layers: [], env: {}, user: "root", workdir: "/" },
} as const;

/** A current deployment with one sandbox and one task. */
export async function seedTask(
  db: Queryable,
  scope: Scope,
  options: SeedTaskOptions = {},
): Promise<SeededTask> {
  const taskId = options.taskId ?? "hello";
  const queueName = options.queueName ?? `task/${taskId}`;
  const [deploymentId, deploymentSandboxId, deploymentTaskId] = [uuidv7(), uuidv7(), uuidv7()];
  const environment = { environment_id: scope.environmentId };
  await db
    .insertInto("deployments")
    .values({
      ...environment,
      id: deploymentId,
      project_id: scope.projectId,
      version: `20260606.${deploymentId}`,
      status: "deployed",
      content_hash: `sha256:${deploymentId}`,
      source_digest: "sha256:11",
      source_size_bytes: 1,
      api_version: "2026-06-06",
      bundle_format_version: 2,
      worker_protocol_version: "helmr.worker.v1",
    })
    .execute();
  await db
    .insertInto("deployment_sandboxes")
    .values({
      ...environment,
      id: deploymentSandboxId,
      deployment_id: deploymentId,
      sandbox_id: "box",
      fingerprint: "f",
      image_digest: "sha256:00",
      definition: JSON.stringify(seededSandbox),
    })
    .execute();
  await db
    .insertInto("deployment_tasks")
    .values({
      ...environment,
      id: deploymentTaskId,
      deployment_id: deploymentId,
      task_id: taskId,
      file_path: "tasks/hello.ts",
      export_name: "hello",
      sandbox_id: "box",
      queue_name: queueName,
      max_duration_seconds: 900,
      retry_policy: JSON.stringify({ enabled: false }),
      secrets: JSON.stringify(options.secrets ?? []),
      has_payload: false,
      schedule: options.schedule === undefined ? null : JSON.stringify(options.schedule),
    })
    .execute();
  await db
    .insertInto("queues")
    .values({ ...environment, name: queueName, concurrency_limit: options.concurrencyLimit ?? null })
    .onConflict((conflict) =>
      conflict
        .columns(["environment_id", "name"])
        .doUpdateSet({ concurrency_limit: options.concurrencyLimit ?? null }),
    )
    .execute();
  await db
    .insertInto("current_deployments")
    .values({ ...environment, deployment_id: deploymentId })
    .onConflict((conflict) => conflict.column("environment_id").doUpdateSet({ deployment_id: deploymentId }))
    .execute();
  return { deploymentId, deploymentTaskId, deploymentSandboxId, taskId, queueName };
}

/** A stream that the task's deployment declares. */
export async function seedStream(
  db: Queryable,
  task: SeededTask,
  name: string,
  direction: "input" | "output",
): Promise<void> {
  await db
    .insertInto("deployment_streams")
    .values({ deployment_id: task.deploymentId, name, direction })
    .execute();
}

/** A session with its queued first run, as a start over the API leaves it. */
export async function seedStartedSession(
  db: Queryable,
  scope: ActingScope,
  task: SeededTask,
): Promise<{ sessionId: string; runId: string }> {
  const started = await startSession(db, scope, {
    taskId: task.taskId,
    payload: {},
    metadata: {},
    tags: [],
    idempotencyKeyTtlMs: 1000,
    apiVersion: "2026-06-06",
  });
  return { sessionId: started.session.id, runId: started.run.id };
}

/** An open session with a workspace of its own, or the one given. */
export async function seedSession(
  db: Queryable,
  scope: Scope,
  task: SeededTask,
  workspaceId?: string,
): Promise<{ sessionId: string; workspaceId: string }> {
  const sessionId = uuidv7();
  const workspace = workspaceId ?? (await seedWorkspace(db, scope, task));
  await db
    .insertInto("sessions")
    .values({
      id: sessionId,
      environment_id: scope.environmentId,
      project_id: scope.projectId,
      task_id: task.taskId,
      initial_deployment_id: task.deploymentId,
      active_deployment_id: task.deploymentId,
      start_fingerprint: Buffer.alloc(32),
      status: "open",
      workspace_id: workspace,
    })
    .execute();
  return { sessionId, workspaceId: workspace };
}

async function seedWorkspace(db: Queryable, scope: Scope, task: SeededTask): Promise<string> {
  const id = uuidv7();
  await db
    .insertInto("workspaces")
    .values({
      id,
      environment_id: scope.environmentId,
      project_id: scope.projectId,
      deployment_sandbox_id: task.deploymentSandboxId,
      sandbox_id: "box",
      sandbox_fingerprint: "f",
      state: "active",
      desired_state: "active",
      dirty_state: "clean",
    })
    .execute();
  return id;
}
