/** A start as the store takes it: its fingerprint, and the settings that request and task together give the run. */
import { createHash } from "node:crypto";
import { ApiError, canonicalJson, codedError, type RetryPolicy } from "@helmr/api";
import type { CreateRunInput } from "../runs/create.ts";
import type { StartFacts } from "./start-facts.ts";

export interface StartSession {
  readonly taskId: string;
  /** Any JSON value; `{}` when the caller gave none. */
  readonly payload: unknown;
  readonly externalId?: string | undefined;
  readonly queueName?: string | undefined;
  readonly concurrencyKey?: string | undefined;
  readonly priority?: number | undefined;
  /** Duration string. */
  readonly ttl?: string | undefined;
  readonly maxDurationSeconds?: number | undefined;
  readonly retry?: RetryPolicy | undefined;
  readonly metadata: Record<string, unknown>;
  readonly tags: readonly string[];
  readonly idempotencyKey?: string | undefined;
  readonly idempotencyKeyTtlMs: number;
  readonly expiresAt?: Date | undefined;
  readonly workspaceId?: string | undefined;
  /** When a schedule starts it: what the run's first event and the run itself say of that. */
  readonly schedule?: { readonly id: string; readonly timestamp: string } | undefined;
  /** A traceparent; not part of the fingerprint. */
  readonly traceContext?: string | undefined;
  readonly apiVersion: string;
  readonly sdkVersion?: string | undefined;
  readonly cliVersion?: string | undefined;
}

/** Contract 3.1's list; metadata, tags, key and versions are not part of it. */
export function fingerprintOf(request: StartSession): Buffer {
  const parts = {
    task: request.taskId,
    payload: request.payload,
    retry: request.retry,
    external_id: request.externalId,
    expires_at: request.expiresAt?.toISOString(),
    queue: request.queueName,
    concurrency_key: request.concurrencyKey,
    priority: request.priority,
    ttl: request.ttl,
    max_duration_seconds: request.maxDurationSeconds,
    workspace_id: request.workspaceId,
  };
  return createHash("sha256").update(canonicalJson(parts)).digest();
}

export interface RunSettings {
  readonly deploymentId: string;
  readonly sandbox: { readonly rowId: string; readonly sandboxId: string; readonly fingerprint: string };
  readonly run: Omit<CreateRunInput, "id" | "sessionId" | "workspaceId">;
}

/** The request's settings over the task's. Throws task_not_deployed, sandbox_not_deployed. */
export function chooseSettings(facts: StartFacts, request: StartSession): RunSettings {
  const {
    deployment_id,
    deployment_version,
    deployment_task_id,
    queue_name,
    sandbox_id,
    max_duration_seconds,
  } = facts;
  if (
    deployment_id === null ||
    deployment_version === null ||
    deployment_task_id === null ||
    queue_name === null ||
    sandbox_id === null ||
    max_duration_seconds === null
  ) {
    throw codedError("task_not_deployed");
  }
  if (facts.deployment_sandbox_id === null || facts.sandbox_fingerprint === null)
    throw codedError("sandbox_not_deployed");
  const ttl = request.ttl ?? facts.ttl ?? undefined;
  return {
    deploymentId: deployment_id,
    sandbox: {
      rowId: facts.deployment_sandbox_id,
      sandboxId: sandbox_id,
      fingerprint: facts.sandbox_fingerprint,
    },
    run: {
      deploymentId: deployment_id,
      deploymentTaskId: deployment_task_id,
      deploymentVersion: deployment_version,
      taskId: request.taskId,
      queueName: request.queueName ?? queue_name,
      ...(request.concurrencyKey === undefined ? {} : { concurrencyKey: request.concurrencyKey }),
      priority: request.priority ?? 0,
      payloadJson: JSON.stringify(request.payload),
      metadata: request.metadata,
      tags: request.tags,
      retryPolicy: request.retry ?? (facts.retry_policy as RetryPolicy),
      maxDurationSeconds: request.maxDurationSeconds ?? max_duration_seconds,
      ...(ttl === undefined ? {} : { ttl }),
      secretNames: facts.secret_names,
      ...(request.schedule === undefined
        ? {}
        : {
            scheduleId: request.schedule.id,
            cause: {
              type: "schedule",
              schedule_id: request.schedule.id,
              timestamp: request.schedule.timestamp,
            },
          }),
      apiVersion: request.apiVersion,
      ...(request.sdkVersion === undefined ? {} : { sdkVersion: request.sdkVersion }),
      traceContext: request.traceContext,
      ...(request.cliVersion === undefined ? {} : { cliVersion: request.cliVersion }),
    },
  };
}

/** What would make the run fail before it starts. Throws ApiError 400 or the workspace's coded errors. */
export function refuseUnready(facts: StartFacts, request: StartSession, settings: RunSettings): void {
  if (!facts.queue_declared) {
    throw new ApiError(
      400,
      `queue.name: queue "${request.queueName}" is not declared in the current deployment`,
    );
  }
  if (request.expiresAt !== undefined && request.expiresAt.getTime() <= Date.now()) {
    throw new ApiError(400, "expires_at: must be in the future");
  }
  if (facts.missing_secrets.length > 0) {
    throw new ApiError(
      400,
      `the task declares secrets that have no value: ${facts.missing_secrets.join(", ")}; set each with \`helmr secret set\``,
    );
  }
  if (request.workspaceId !== undefined) refuseWorkspace(facts, settings);
}

function refuseWorkspace(facts: StartFacts, settings: RunSettings): void {
  if (facts.workspace_id === null) throw new ApiError(404, "workspace not found");
  if (facts.workspace_state !== "active") throw codedError("workspace_not_active");
  if (facts.workspace_sandbox_id !== settings.sandbox.sandboxId)
    throw codedError("workspace_sandbox_incompatible");
  const floor = facts.workspace_resources;
  const offered = facts.resources;
  if (floor === null || offered === null) return;
  if (offered.cpu < floor.cpu || offered.memory_mib < floor.memory_mib || offered.disk_mib < floor.disk_mib) {
    throw codedError("workspace_resource_floor_unsatisfied");
  }
}
