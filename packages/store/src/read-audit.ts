/** Reading the audit log of an organization, newest first: each filter has an index that ends with the record's id. */
import { sql } from "kysely";
import type { Queryable } from "./database.ts";
import type { ActorKind } from "./schema-identity.ts";

export interface AuditRow {
  readonly id: string;
  readonly project_id: string | null;
  readonly environment_id: string | null;
  readonly actor_kind: ActorKind;
  readonly actor_id: string | null;
  readonly actor_label: string;
  readonly action: string;
  readonly resource_kind: string;
  readonly resource_id: string | null;
  readonly address: string | null;
  readonly user_agent: string | null;
  readonly request_id: string | null;
  readonly attributes: Record<string, unknown>;
  readonly at: Date;
}

export interface AuditFilter {
  /** The id of the last record that was read. */
  readonly before?: string | undefined;
  readonly action?: string | undefined;
  readonly actorId?: string | undefined;
  readonly resourceId?: string | undefined;
  readonly limit: number;
}

/** Records of this organization only; those of none (a user who is no member anywhere) are nobody's to read. */
export async function listAuditRecords(
  db: Queryable,
  organizationId: string,
  { before, action, actorId, resourceId, limit }: AuditFilter,
): Promise<AuditRow[]> {
  // Texts of their own, not `$1 is null or`: a prepared statement's plan must be able to use the filter's index.
  const conditions = [
    sql`organization_id = ${organizationId}`,
    ...(before === undefined ? [] : [sql`id < ${before}`]),
    ...(action === undefined ? [] : [sql`action = ${action}`]),
    ...(actorId === undefined ? [] : [sql`actor_id = ${actorId}`]),
    ...(resourceId === undefined ? [] : [sql`resource_id = ${resourceId}`]),
  ];
  const { rows } =
    await sql<AuditRow>`select id, project_id, environment_id, actor_kind, actor_id, actor_label, action,
      resource_kind, resource_id, address, user_agent, request_id, attributes, at
    from audit_log where ${sql.join(conditions, sql` and `)} order by id desc limit ${limit}`.execute(db);
  return rows;
}
