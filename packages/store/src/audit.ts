/**
 * The audit log: who did what to which record, from where.
 *
 * A1 A record is written in the transaction (or statement) of the change it tells of: both are there, or neither.
 * A2 attributes hold names, roles, ids and counts; never a credential, a secret's value, a payload or an output.
 */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import type { ActorKind } from "./schema-identity.ts";
import type { ActingScope, Scope } from "./scope.ts";

/** Who makes a request. */
export interface Actor {
  readonly kind: ActorKind;
  /** Of the user or the API key. */
  readonly id?: string;
  /** What people know it by: an e-mail address or name, the name of a key, the part of the system. */
  readonly label: string;
  readonly address?: string;
  readonly userAgent?: string;
  readonly requestId?: string;
}

/** A part of Helmr itself, like `dispatcher`. */
export function systemActor(label: string): Actor {
  return { kind: "system", label };
}

export interface AuditRecord {
  /** `<resource kind>.<verb>`, like `session.start`. */
  readonly action: AuditAction;
  readonly resourceId?: string;
  readonly organizationId?: string;
  readonly projectId?: string;
  readonly environmentId?: string;
  readonly attributes?: Readonly<Record<string, unknown>>;
}

/** The one list of what is recorded; the part before the dot is the kind of the resource. */
export const auditActions = [
  "session.start",
  "session.update",
  "session.close",
  "session.cancel",
  "run.cancel",
  "queue.pause",
  "queue.resume",
  "stream.append",
  "token.create",
  "token.complete",
  "token.cancel",
  "public_access_token.create",
  "schedule.create",
  "schedule.update",
  "schedule.activate",
  "schedule.deactivate",
  "schedule.delete",
  "workspace.create",
  "workspace.update",
  "workspace.archive",
  "workspace.fork",
  "workspace.restore",
  "workspace.upload",
  "deployment.create",
  "deployment.promote",
  "secret.set",
  "secret.delete",
  "secret.reencrypt",
  "api_key.create",
  "api_key.revoke",
  "project.create",
  "project.update",
  "project.delete",
  "environment.create",
  "environment.update",
  "environment.delete",
  "environment.route",
  "worker_group.create",
  "worker_group.update",
  "worker_group.delete",
  "worker_bootstrap_token.create",
  "worker_bootstrap_token.revoke",
  "worker.drain",
  "worker.undrain",
  "worker.revoke_credential",
  "worker.remove",
  "organization.create",
  "organization.select",
  "member.update",
  "member.remove",
  "invitation.create",
  "invitation.revoke",
  "invitation.accept",
  "user.create",
  "user.sign_in",
  "user.sign_out",
  "user.sign_out_everywhere",
  "workspace.materialize",
  "workspace.stop",
  "workspace.capture",
  "workspace.exec.create",
  "workspace.exec.kill",
  "workspace.pty.create",
  "workspace.pty.close",
  "device.approve",
  "device.deny",
] as const;
export type AuditAction = (typeof auditActions)[number];

/** A1: `tx` is the transaction of the change. */
export async function recordAudit(tx: Queryable, actor: Actor, record: AuditRecord): Promise<void> {
  await auditInsert(actor, record).execute(tx);
}

/** `recordAudit` for a record of an environment. A1. */
export async function recordScopeAudit(
  tx: Queryable,
  scope: ActingScope,
  record: Pick<AuditRecord, "action" | "resourceId" | "attributes">,
): Promise<void> {
  await recordAudit(tx, scope.actor, { ...scopeIds(scope), ...record });
}

/** The ids of a scope, without who acts in it. */
export function scopeIds({ organizationId, projectId, environmentId }: Scope): Scope {
  return { organizationId, projectId, environmentId };
}

/**
 * The insert as a fragment, for a change that is one statement: `with audit as (${auditInsert(...)}) update ...`.
 * `when` is a condition on what that statement has done, like `exists (select from changed)`.
 */
export function auditInsert(
  actor: Actor,
  record: AuditRecord,
  when: RawBuilder<unknown> = sql`true`,
): RawBuilder<unknown> {
  const resourceKind = record.action.slice(0, record.action.indexOf("."));
  return sql`insert into audit_log (id, organization_id, project_id, environment_id, actor_kind, actor_id, actor_label,
      action, resource_kind, resource_id, address, user_agent, request_id, attributes)
    select ${uuidv7()}::uuid, ${record.organizationId ?? null}::uuid, ${record.projectId ?? null}::uuid,
      ${record.environmentId ?? null}::uuid, ${actor.kind}::text, ${actor.id ?? null}::uuid, ${actor.label}::text,
      ${record.action}::text, ${resourceKind}::text, ${record.resourceId ?? null}::text, ${actor.address ?? null}::text,
      ${actor.userAgent ?? null}::text, ${actor.requestId ?? null}::text,
      ${JSON.stringify(record.attributes ?? {})}::jsonb
    where ${when}`;
}
