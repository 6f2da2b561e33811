/** Everything a start decides on, read in one statement: the key, the external id, the current deployment, the workspace. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import type { SessionStatus } from "../schema.ts";
import type { Scope } from "../scope.ts";
import type { StartSession } from "./start-request.ts";

export interface SandboxResources {
  readonly cpu: number;
  readonly memory_mib: number;
  readonly disk_mib: number;
}

export interface StartFacts {
  /** This transaction holds the idempotency key, or there is none. */
  readonly locked: boolean;
  /** The environment is there and not being deleted; it stays so until this transaction ends. */
  readonly environment_open: boolean;
  readonly key_fingerprint: Buffer | null;
  readonly key_session_id: string | null;
  readonly key_external_id: string | null;
  readonly external_session_id: string | null;
  readonly external_status: SessionStatus | null;
  readonly external_due: boolean;
  readonly external_fingerprint: Buffer | null;
  readonly deployment_id: string | null;
  readonly deployment_version: string | null;
  readonly deployment_task_id: string | null;
  readonly queue_name: string | null;
  readonly max_duration_seconds: number | null;
  readonly ttl: string | null;
  readonly retry_policy: unknown;
  readonly sandbox_id: string | null;
  readonly secret_names: string[];
  readonly missing_secrets: string[];
  readonly queue_declared: boolean;
  readonly deployment_sandbox_id: string | null;
  readonly sandbox_fingerprint: string | null;
  readonly resources: SandboxResources | null;
  readonly workspace_id: string | null;
  readonly workspace_state: string | null;
  readonly workspace_sandbox_id: string | null;
  readonly workspace_resources: SandboxResources | null;
}

/**
 * One row, always. The environment's lock is the one that the rows' references to it take anyway: a deletion waits for
 * it, and a start that comes later finds the environment closed.
 *
 * The lock is taken before the rows are read by another start only as far as statements go: what was
 * committed between this statement's snapshot and its lock is caught by the primary key (S2).
 */
export async function lookUpStart(tx: Tx, scope: Scope, request: StartSession): Promise<StartFacts> {
  const env = scope.environmentId;
  const key = request.idempotencyKey ?? null;
  const lockName = key === null ? null : `${env} session.start:${request.taskId} ${key}`;
  const { rows } = await sql<StartFacts>`
    select
      case when ${lockName}::text is null then true
        else pg_try_advisory_xact_lock(hashtextextended(${lockName}::text, 0)) end as locked,
      here.id is not null as environment_open,
      k.fingerprint as key_fingerprint, k.resource_id as key_session_id, ks.external_id as key_external_id,
      x.id as external_session_id, x.status as external_status, coalesce(x.expires_at <= now(), false) as external_due,
      x.start_fingerprint as external_fingerprint,
      d.id as deployment_id, d.version as deployment_version,
      t.id as deployment_task_id, t.queue_name, t.max_duration_seconds, t.ttl, t.retry_policy, t.sandbox_id,
      names.secret_names, names.missing_secrets,
      ${request.queueName ?? null}::text is null or ${request.queueName ?? null}::text = t.queue_name
        or exists (select from deployment_queues q where q.deployment_id = d.id and q.name = ${request.queueName ?? null}::text)
        as queue_declared,
      b.id as deployment_sandbox_id, b.fingerprint as sandbox_fingerprint, b.definition #> '{definition,resources}' as resources,
      w.id as workspace_id, w.state as workspace_state, w.sandbox_id as workspace_sandbox_id,
      wb.definition #> '{definition,resources}' as workspace_resources
    from (select 1) as always
    left join (select id from environments where id = ${env} and deleting_at is null for key share) here on true
    left join idempotency_keys k on k.environment_id = ${env} and k.scope_name = ${`session.start:${request.taskId}`}
      and k.key = ${key} and k.expires_at > now()
    left join sessions ks on ks.id = k.resource_id
    left join sessions x on x.environment_id = ${env} and x.external_id = ${request.externalId ?? null}
    left join current_deployments c on c.environment_id = ${env}
    left join deployments d on d.id = c.deployment_id
    left join deployment_tasks t on t.deployment_id = d.id and t.task_id = ${request.taskId}
    left join deployment_sandboxes b on b.deployment_id = d.id and b.sandbox_id = t.sandbox_id
    left join workspaces w on w.environment_id = ${env} and w.id = ${request.workspaceId ?? null}
    left join deployment_sandboxes wb on wb.id = w.deployment_sandbox_id
    cross join lateral (
      select coalesce(array_agg(distinct e->>'name'), '{}') as secret_names,
        coalesce(array_agg(distinct e->>'name') filter (where s.name is null), '{}') as missing_secrets
      from jsonb_array_elements(coalesce(t.secrets, '[]')) e
      left join secrets s on s.environment_id = ${env} and s.name = e->>'name'
    ) names`.execute(tx);
  const facts = rows[0];
  if (facts === undefined) throw new Error("the start look-up returned no row");
  return facts;
}
