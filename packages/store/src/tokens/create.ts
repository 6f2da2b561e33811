/** createToken, from outside or inside a run. */
import { createHash } from "node:crypto";
import { canonicalJson, codedError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import { holds, type LeaseRef } from "../runs/finish.ts";
import type { ActingScope } from "../scope.ts";
import { type TokenRow, tokenColumns } from "./lifecycle.ts";

export interface NewToken {
  readonly timeoutMs: number;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly idempotencyKey?: string | undefined;
}

export interface CreatedToken {
  readonly token: TokenRow;
  /** An earlier create with this key made it. */
  readonly cached: boolean;
}

/** Contract 5.1; throws idempotency_fingerprint_mismatch. */
export async function createToken(db: Queryable, scope: ActingScope, token: NewToken): Promise<CreatedToken> {
  return await transaction(db, async (tx) => {
    const created = await insertToken(tx, scope.environmentId, token, undefined);
    if (!created.cached) {
      await recordScopeAudit(tx, scope, { action: "token.create", resourceId: created.token.id });
    }
    return created;
  });
}

/** For the run of a lease; undefined when the lease is lost. Repeated with the same idempotency key it is the same token. */
export async function createRunToken(
  db: Queryable,
  lease: LeaseRef,
  token: NewToken,
): Promise<CreatedToken | undefined> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<{
      id: string;
      environment_id: string;
      worker_instance_id: string | null;
      fencing: number;
    }>`select id, environment_id, worker_instance_id, fencing from runs where lease_id = ${lease.leaseId}`.execute(
      tx,
    );
    const run = rows[0];
    if (run === undefined || !holds(run, lease)) return undefined;
    return await insertToken(tx, run.environment_id, token, run.id);
  });
}

async function insertToken(
  tx: Tx,
  environmentId: string,
  token: NewToken,
  runId: string | undefined,
): Promise<CreatedToken> {
  const key = token.idempotencyKey ?? null;
  const fingerprint = key === null ? null : fingerprintOf(token);
  const { rows } = await sql<TokenRow>`
    insert into tokens as t (id, environment_id, status, timeout_at, tags, metadata, idempotency_key, fingerprint, run_id)
    values (${uuidv7()}, ${environmentId}, 'pending', now() + ${token.timeoutMs}::float8 * interval '1 millisecond',
      ${[...token.tags]}::text[], ${jsonbText(token.metadata)}::jsonb, ${key}, ${fingerprint}, ${runId ?? null})
    on conflict (environment_id, idempotency_key) where idempotency_key is not null do nothing
    returning ${tokenColumns}`.execute(tx);
  const created = rows[0];
  if (created !== undefined) return { token: created, cached: false };
  const { rows: known } = await sql<
    TokenRow & { fingerprint: Buffer | null }
  >`select ${tokenColumns}, t.fingerprint
    from tokens t where t.environment_id = ${environmentId} and t.idempotency_key = ${key}`.execute(tx);
  const earlier = known[0];
  if (earlier === undefined) throw new Error("a token with this key was there and is gone");
  if (fingerprint === null || earlier.fingerprint?.equals(fingerprint) !== true) {
    throw codedError("idempotency_fingerprint_mismatch");
  }
  const { fingerprint: _fingerprint, ...row } = earlier;
  return { token: row, cached: true };
}

function fingerprintOf({ timeoutMs, tags, metadata }: NewToken): Buffer {
  return createHash("sha256").update(canonicalJson({ timeoutMs, tags, metadata })).digest();
}
