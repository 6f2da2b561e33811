/** Reading tokens (contract 5). */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { Scope } from "../scope.ts";
import { type TokenRow, type TokenStatus, tokenColumns } from "./lifecycle.ts";

/** Undefined when the scope has no such token. */
export async function getToken(db: Queryable, scope: Scope, id: string): Promise<TokenRow | undefined> {
  const { rows } = await sql<TokenRow>`select ${tokenColumns} from tokens t
    where t.id = ${id} and t.environment_id = ${scope.environmentId}`.execute(db);
  return rows[0];
}

/**
 * The scope of a token whose secret the caller has proved to know: the secret is made from the id, and stands for the scope.
 * Undefined when there is none, or its environment is being deleted.
 */
export async function findTokenScope(db: Queryable, id: string): Promise<Scope | undefined> {
  const { rows } = await sql<Scope>`select e.organization_id as "organizationId", e.project_id as "projectId",
      e.id as "environmentId"
    from tokens t join environments e on e.id = t.environment_id
    where t.id = ${id} and e.deleting_at is null`.execute(db);
  return rows[0];
}

export interface ListTokens {
  readonly status?: TokenStatus | undefined;
  /** The id after which the page begins. */
  readonly cursor?: string | undefined;
  readonly limit: number;
}

/** Oldest first: ids are UUIDv7, so their order is that of creation. */
export async function listTokens(db: Queryable, scope: Scope, options: ListTokens): Promise<TokenRow[]> {
  const stored = options.status === "expired" ? "pending" : options.status;
  const conditions = [
    sql`t.environment_id = ${scope.environmentId}`,
    ...(stored === undefined ? [] : [sql`t.status = ${stored}`]),
    ...(options.status === "expired" ? [sql`t.timeout_at <= now()`] : []),
    ...(options.status === "pending" ? [sql`t.timeout_at > now()`] : []),
    ...(options.cursor === undefined ? [] : [sql`t.id > ${options.cursor}`]),
  ];
  const { rows } = await sql<TokenRow>`select ${tokenColumns} from tokens t
    where ${sql.join(conditions, sql` and `)} order by t.id limit ${options.limit}::integer`.execute(db);
  return rows;
}
