/** createRuns: a new run enters the queue, in the transaction of whoever starts it. */
import { parseDurationMs, type RetryPolicy } from "@helmr/api";
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import { eventValue, insertRunEvents } from "../events.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import type { Scope } from "../scope.ts";
import { statement } from "../statement.ts";
import { defaultWorkerGroupId } from "../worker-groups/lifecycle.ts";
import { maxEventPayloadBytes, type RunRow, runColumns, tallyRuns } from "./lifecycle.ts";

export interface CreateRunInput {
  /** Default: a new UUIDv7. */
  readonly id?: string | undefined;
  readonly sessionId: string;
  readonly deploymentId: string;
  readonly deploymentTaskId: string;
  readonly deploymentVersion: string;
  readonly workspaceId: string;
  readonly taskId: string;
  readonly turnIndex?: number | undefined;
  readonly previousRunId?: string | undefined;
  readonly reason?: "initial" | "input" | undefined;
  /** What caused the run, for the event: like `{type: "api"}`. */
  readonly cause?: Readonly<Record<string, unknown>> | undefined;
  /** The schedule that started it. */
  readonly scheduleId?: string | undefined;
  readonly queueName: string;
  readonly concurrencyKey?: string | undefined;
  /** Higher goes first. */
  readonly priority?: number | undefined;
  /** JSON text; kept and handed on as it is. */
  readonly payloadJson: string;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly retryPolicy: RetryPolicy;
  readonly maxDurationSeconds: number;
  /** Duration string (contract 1.7), checked by the caller. */
  readonly ttl?: string | undefined;
  /** Names only, for the event. */
  readonly secretNames?: readonly string[] | undefined;
  /** A traceparent: what becomes of the run belongs to that trace. */
  readonly traceContext?: string | undefined;
  readonly apiVersion: string;
  readonly sdkVersion?: string | undefined;
  readonly cliVersion?: string | undefined;
}

/** Create one queued run. Tell `workTopic` of its group after the commit. */
export async function createRun(tx: Queryable, scope: Scope, input: CreateRunInput): Promise<RunRow> {
  const [run] = await createRuns(tx, scope, [input]);
  if (run === undefined) throw new Error("the insert of a run returned no row");
  return run;
}

/** Create queued runs with their event run.created, in one statement. Where they go and what they need is the deployment's. */
export async function createRuns(
  tx: Queryable,
  scope: Scope,
  inputs: readonly CreateRunInput[],
): Promise<RunRow[]> {
  const { environmentId, projectId } = scope;
  return await insertRuns(tx, { environmentId, projectId, inputs: jsonbText(inputs.map(inputRow)) });
}

const insertRuns = statement<{ environmentId: string; projectId: string; inputs: string }, RunRow>(
  (p) => sql`
    with input as (
      select * from jsonb_to_recordset(${p("inputs")}::jsonb) as x (
        id uuid, session_id uuid, deployment_id uuid, deployment_task_id uuid, deployment_version text,
        workspace_id uuid, schedule_id uuid, task_id text, turn_index integer, previous_run_id uuid, reason text, queue_name text,
        concurrency_key text, priority integer, payload text, metadata jsonb, tags text[], retry_policy jsonb,
        max_duration_seconds integer, ttl text, ttl_ms double precision, api_version text, sdk_version text,
        cli_version text, trace_context text, events jsonb)
    ), created as (
      insert into runs (id, environment_id, project_id, session_id, deployment_id, deployment_task_id,
        deployment_version, workspace_id, schedule_id, task_id, turn_index, previous_run_id, reason, status, execution_status,
        queue_name, concurrency_key, limited, priority, payload, metadata, tags, retry_policy, max_duration_seconds,
        ttl, ttl_expires_at, event_seq, api_version, sdk_version, cli_version, trace_context, worker_group_id, needs_cpu,
        needs_memory_mib, needs_disk_mib, needs_architecture)
      select i.id, ${p("environmentId")}::uuid, ${p("projectId")}::uuid, i.session_id, i.deployment_id, i.deployment_task_id,
        i.deployment_version, i.workspace_id, i.schedule_id, i.task_id, i.turn_index, i.previous_run_id, i.reason, 'queued', 'queued',
        i.queue_name, i.concurrency_key, q.concurrency_limit is not null, i.priority, i.payload::json, i.metadata,
        i.tags, i.retry_policy, i.max_duration_seconds, i.ttl, now() + i.ttl_ms * interval '1 millisecond', 1,
        i.api_version, i.sdk_version, i.cli_version, i.trace_context, coalesce(d.worker_group_id, ${sql.lit(defaultWorkerGroupId)}::uuid),
        coalesce((b.resources->>'cpu')::integer, 0), coalesce((b.resources->>'memory_mib')::bigint, 0),
        coalesce((b.resources->>'disk_mib')::bigint, 0), d.architecture
      from input i
      left join deployments d on d.id = i.deployment_id
      left join lateral (
        select s.definition #> '{definition,resources}' as resources from deployment_tasks t
        join deployment_sandboxes s on s.deployment_id = t.deployment_id and s.sandbox_id = t.sandbox_id
        where t.id = i.deployment_task_id limit 1) b on true
      left join queues q on q.environment_id = ${p("environmentId")}::uuid and q.name = i.queue_name
      returning *
    ), changed as (
      select i.id as run_id, 0 as base_seq, null::uuid as lease_id, null::uuid as attempt_id,
        null::integer as attempt_number, i.events from input i
    ), written as (${insertRunEvents("changed")}),
    changes as (select environment_id, null as from_status, 'queued' as to_status from created),
    tally as (${tallyRuns("changes")})
    select ${runColumns("created")} from created`,
);

function inputRow(input: CreateRunInput): Record<string, unknown> {
  return {
    id: input.id ?? uuidv7(),
    session_id: input.sessionId,
    deployment_id: input.deploymentId,
    deployment_task_id: input.deploymentTaskId,
    deployment_version: input.deploymentVersion,
    workspace_id: input.workspaceId,
    schedule_id: input.scheduleId ?? null,
    task_id: input.taskId,
    turn_index: input.turnIndex ?? 0,
    previous_run_id: input.previousRunId ?? null,
    reason: input.reason ?? "initial",
    queue_name: input.queueName,
    concurrency_key: input.concurrencyKey ?? null,
    priority: input.priority ?? 0,
    payload: input.payloadJson,
    metadata: input.metadata ?? {},
    tags: input.tags ?? [],
    retry_policy: input.retryPolicy,
    max_duration_seconds: input.maxDurationSeconds,
    ttl: input.ttl ?? null,
    ttl_ms: input.ttl === undefined ? null : (parseDurationMs(input.ttl) ?? null),
    api_version: input.apiVersion,
    sdk_version: input.sdkVersion ?? null,
    cli_version: input.cliVersion ?? null,
    trace_context: input.traceContext ?? null,
    events: [eventValue({ kind: "run.created", attributes: createdAttributes(input) })],
  };
}

/** Contract 13.10. */
function createdAttributes(input: CreateRunInput): Record<string, unknown> {
  const payloadBytes = Buffer.byteLength(input.payloadJson);
  return {
    task_id: input.taskId,
    ...(payloadBytes <= maxEventPayloadBytes
      ? { payload: JSON.parse(input.payloadJson) as unknown }
      : { payload_bytes: payloadBytes }),
    max_duration_seconds: input.maxDurationSeconds,
    secret_names: input.secretNames ?? [],
    retry_policy: input.retryPolicy,
    metadata: input.metadata ?? {},
    tags: input.tags ?? [],
    reason: input.reason ?? "initial",
    cause: input.cause ?? { type: "api" },
    ...(input.traceContext === undefined ? {} : { trace_id: input.traceContext.slice(3, 35) }),
  };
}
