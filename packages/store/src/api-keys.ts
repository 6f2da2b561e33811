/**
 * API keys: `hlmr_sk_` + base64url of 32 random bytes, bound to one environment. Only the sha256 is stored.
 *
 *   active   -> expired   when expires_at has passed (no write)
 *   active   -> revoked   revokeApiKey; for good
 *
 * A key that a member made carries that member's role of today, and is refused once the membership is over.
 */
import { createHash, randomBytes } from "node:crypto";
import type { MemberRole } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "./audit.ts";
import { type Queryable, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import type { ActingScope, Scope } from "./scope.ts";

export const apiKeyPattern = /^hlmr_sk_[A-Za-z0-9_-]{43}$/;
const prefixLength = 16;

export interface NewApiKey {
  readonly name: string;
  readonly scopes: readonly string[];
  /** Default: it does not expire. */
  readonly expiresAt?: Date | undefined;
}

/** What a request may do that presents the key. */
export interface ApiKeyGrant {
  readonly id: string;
  readonly name: string;
  readonly scope: Scope;
  /** What its creator may do now; a key of the installation itself has `owner`. */
  readonly role: MemberRole;
  readonly scopes: ReadonlySet<string>;
  readonly expiresAt: Date | undefined;
}

/** `rawKey` is shown this once; nothing in the database gives it back. */
export async function createApiKey(
  db: Queryable,
  scope: ActingScope,
  key: NewApiKey,
): Promise<ApiKeyRow & { readonly rawKey: string }> {
  const rawKey = `hlmr_sk_${randomBytes(32).toString("base64url")}`;
  const id = uuidv7();
  const row = await transaction(db, async (tx) => {
    const creator = scope.actor.kind === "user" ? (scope.actor.id ?? null) : null;
    const { rows } = await sql<ApiKeyRow>`
      insert into api_keys (id, environment_id, name, key_hash, key_prefix, scopes, created_by_user_id, expires_at)
      values (${id}, ${scope.environmentId}, ${key.name}, ${hashApiKey(rawKey)}, ${rawKey.slice(0, prefixLength)},
        ${[...key.scopes]}::text[], ${creator}, ${key.expiresAt ?? null})
      returning ${rowColumns}`.execute(tx);
    const [inserted] = rows;
    if (inserted === undefined) throw new Error("the insert of a key returned no row");
    await recordScopeAudit(tx, scope, {
      action: "api_key.create",
      resourceId: id,
      attributes: { name: key.name, scopes: [...key.scopes] },
    });
    return inserted;
  });
  return { ...row, rawKey };
}

/** The key's grant, or undefined for a key that is unknown, expired or revoked. */
export async function findApiKey(db: Queryable, rawKey: string): Promise<ApiKeyGrant | undefined> {
  if (!apiKeyPattern.test(rawKey)) return undefined;
  const row = await db
    .selectFrom("api_keys as k")
    .innerJoin("environments as e", "e.id", "k.environment_id")
    .leftJoin("organization_members as m", (join) =>
      join
        .onRef("m.organization_id", "=", "e.organization_id")
        .onRef("m.user_id", "=", "k.created_by_user_id")
        .on("m.status", "=", "active"),
    )
    .select([
      "k.id",
      "k.name",
      "k.created_by_user_id",
      "m.role",
      "k.scopes",
      "k.expires_at",
      "e.id as environment_id",
      "e.project_id",
      "e.organization_id",
    ])
    .where("k.key_hash", "=", hashApiKey(rawKey))
    .where("k.revoked_at", "is", null)
    .where("e.deleting_at", "is", null)
    .where((where) =>
      where.or([where("k.expires_at", "is", null), where("k.expires_at", ">", sql<Date>`now()`)]),
    )
    .executeTakeFirst();
  if (row === undefined) return undefined;
  const role = row.created_by_user_id === null ? "owner" : row.role;
  if (role === null) return undefined;
  return {
    id: row.id,
    name: row.name,
    role,
    scope: {
      organizationId: row.organization_id,
      projectId: row.project_id,
      environmentId: row.environment_id,
    },
    scopes: new Set(row.scopes),
    expiresAt: row.expires_at ?? undefined,
  };
}

/** Note that these keys were used; the time is as exact as the caller's batches. */
export async function touchApiKeys(db: Queryable, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  await sql`update api_keys set last_used_at = now() where id = any(${ids}::uuid[])`.execute(db);
}

/** Whether the environment has the key; one that is revoked already stays as it is. */
export async function revokeApiKey(db: Queryable, scope: ActingScope, id: string): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<{ revoked_at: Date | null }>`select revoked_at from api_keys
      where environment_id = ${scope.environmentId} and id = ${id} for update`.execute(tx);
    if (rows[0] === undefined) return false;
    if (rows[0].revoked_at !== null) return true;
    await sql`update api_keys set revoked_at = now() where id = ${id}`.execute(tx);
    await recordScopeAudit(tx, scope, { action: "api_key.revoke", resourceId: id });
    return true;
  });
}

export interface ApiKeyRow {
  readonly id: string;
  readonly name: string;
  readonly key_prefix: string;
  readonly scopes: readonly string[];
  readonly status: "active" | "expired" | "revoked";
  readonly created_at: Date;
  readonly last_used_at: Date | null;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
}

const rowColumns = sql<ApiKeyRow>`id, name, key_prefix, scopes, created_at, last_used_at, expires_at, revoked_at,
  case when revoked_at is not null then 'revoked' when expires_at <= now() then 'expired' else 'active' end as status`;

/** Up to `limit` keys of the environment, newest first; with a status only those. */
export async function listApiKeys(
  db: Queryable,
  scope: Scope,
  { status, limit }: { readonly status: ApiKeyRow["status"] | undefined; readonly limit: number },
): Promise<ApiKeyRow[]> {
  const { rows } = await sql<ApiKeyRow>`
    select * from (select ${rowColumns} from api_keys where environment_id = ${scope.environmentId}) k
    where ${status ?? null}::text is null or k.status = ${status ?? null}::text
    order by created_at desc, id desc limit ${limit}`.execute(db);
  return rows;
}

function hashApiKey(rawKey: string): Buffer {
  return createHash("sha256").update(rawKey).digest();
}
