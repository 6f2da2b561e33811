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
  readonly expiresAt?: Date;
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
): Promise<{ readonly id: string; readonly rawKey: string }> {
  const rawKey = `hlmr_sk_${randomBytes(32).toString("base64url")}`;
  const id = uuidv7();
  await transaction(db, async (tx) => {
    await tx
      .insertInto("api_keys")
      .values({
        id,
        environment_id: scope.environmentId,
        name: key.name,
        key_hash: hashApiKey(rawKey),
        key_prefix: rawKey.slice(0, prefixLength),
        scopes: [...key.scopes],
        created_by_user_id: scope.actor.kind === "user" ? scope.actor.id : null,
        ...(key.expiresAt === undefined ? {} : { expires_at: key.expiresAt }),
      })
      .execute();
    await recordScopeAudit(tx, scope, {
      action: "api_key.create",
      resourceId: id,
      attributes: { name: key.name, scopes: [...key.scopes] },
    });
  });
  return { id, rawKey };
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

/** Whether an active key was there. */
export async function revokeApiKey(db: Queryable, scope: ActingScope, id: string): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const { numUpdatedRows } = await tx
      .updateTable("api_keys")
      .set({ revoked_at: sql`now()` })
      .where("environment_id", "=", scope.environmentId)
      .where("id", "=", id)
      .where("revoked_at", "is", null)
      .executeTakeFirst();
    if (numUpdatedRows > 0n) await recordScopeAudit(tx, scope, { action: "api_key.revoke", resourceId: id });
    return numUpdatedRows > 0n;
  });
}

function hashApiKey(rawKey: string): Buffer {
  return createHash("sha256").update(rawKey).digest();
}
