/** Idempotency keys of what is done in workspaces. The workspace is locked, so that two requests with one key take turns. */
import { createHash } from "node:crypto";
import { canonicalJson, codedError } from "@helmr/api";
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import type { Scope } from "../scope.ts";

export interface IdempotencyKey {
  /** What is made, and in which workspace. */
  readonly scopeName: string;
  /** Without one nothing is remembered. */
  readonly key: string | undefined;
  readonly ttlMs: number;
  /** What must be the same when the key is used again. */
  readonly parts: Readonly<Record<string, unknown>>;
}

/** What was made with the key; undefined when it is new. Throws idempotency_fingerprint_mismatch. */
export async function recallIdempotency(
  tx: Tx,
  scope: Scope,
  key: IdempotencyKey,
): Promise<string | undefined> {
  if (key.key === undefined) return undefined;
  const { rows } = await sql<{ resource_id: string; fingerprint: Buffer }>`
    select resource_id, fingerprint from idempotency_keys where environment_id = ${scope.environmentId}
      and scope_name = ${key.scopeName} and key = ${key.key} and expires_at > now()`.execute(tx);
  const known = rows[0];
  if (known === undefined) return undefined;
  if (!known.fingerprint.equals(fingerprintOf(key))) throw codedError("idempotency_fingerprint_mismatch");
  return known.resource_id;
}

/** Remember what was made with the key. */
export async function noteIdempotency(
  tx: Tx,
  scope: Scope,
  key: IdempotencyKey,
  resourceId: string,
): Promise<void> {
  if (key.key === undefined) return;
  await sql`insert into idempotency_keys (environment_id, scope_name, key, fingerprint, resource_id, expires_at)
    values (${scope.environmentId}, ${key.scopeName}, ${key.key}, ${fingerprintOf(key)}, ${resourceId},
      now() + ${key.ttlMs}::float8 * interval '1 millisecond')
    on conflict (environment_id, scope_name, key) do update set fingerprint = excluded.fingerprint,
      resource_id = excluded.resource_id, expires_at = excluded.expires_at, created_at = now()`.execute(tx);
}

function fingerprintOf(key: IdempotencyKey): Buffer {
  return createHash("sha256").update(canonicalJson(key.parts)).digest();
}
