/** completeToken and cancelToken: K1, K2. */
import { canonicalJson, codedError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import type { ActingScope } from "../scope.ts";
import { lockPendingWaits, type Resolution, type ResolvedWait, resolveWait } from "../waits/resolve.ts";
import { type TokenRow, tokenColumns } from "./lifecycle.ts";

export interface CompletedToken {
  readonly status: "completed" | "already_completed";
  readonly token: TokenRow;
  /** To be told after the commit. */
  readonly resolved: readonly ResolvedWait[];
}

/** Contract 5.1: how long after the token's timeout its public access token is good for the answer to a retry. */
const publicAccessGrace = sql`interval '30 days'`;

export interface CompleteToken {
  /** JSON text. */
  readonly dataJson: string;
  /** By the token's public access token. Of its one use: a token completes once, and the same data again needs none. */
  readonly byPublicAccess?: boolean;
}

/**
 * Throws token_not_found, token_cancelled, token_expired, token_completion_conflict. The same data again is
 * `already_completed`, whatever the order of its keys.
 */
export async function completeToken(
  db: Queryable,
  scope: ActingScope,
  id: string,
  { dataJson, byPublicAccess = false }: CompleteToken,
): Promise<CompletedToken> {
  return await transaction(db, async (tx): Promise<CompletedToken> => {
    const token = await lockToken(tx, scope, id);
    if (byPublicAccess && (await isPastPublicAccess(tx, id))) throw codedError("token_expired");
    if (token.status === "cancelled") throw codedError("token_cancelled");
    if (token.status === "completed") {
      if (sameJson(token.data ?? "null", dataJson))
        return { status: "already_completed", token, resolved: [] };
      throw codedError("token_completion_conflict");
    }
    if (token.due) throw codedError("token_expired");
    const { rows } = await sql<TokenRow>`update tokens t set status = 'completed', data = ${dataJson}::json,
      completed_at = now() where t.id = ${id} returning ${tokenColumns}`.execute(tx);
    await recordScopeAudit(tx, scope, { action: "token.complete", resourceId: id });
    const resolved = await endWaits(tx, id, { status: "completed", result: dataJson });
    return { status: "completed", token: rows[0] ?? token, resolved };
  });
}

/** Throws token_not_found (also of a completed one), token_cancelled, token_expired. */
export async function cancelToken(
  db: Queryable,
  scope: ActingScope,
  id: string,
): Promise<{ readonly token: TokenRow; readonly resolved: readonly ResolvedWait[] }> {
  return await transaction(db, async (tx) => {
    const token = await lockToken(tx, scope, id);
    if (token.status === "cancelled") throw codedError("token_cancelled");
    if (token.status === "completed") throw codedError("token_not_found");
    if (token.due) throw codedError("token_expired");
    const { rows } = await sql<TokenRow>`update tokens t set status = 'cancelled', cancelled_at = now()
      where t.id = ${id} returning ${tokenColumns}`.execute(tx);
    await recordScopeAudit(tx, scope, { action: "token.cancel", resourceId: id });
    return { token: rows[0] ?? token, resolved: await endWaits(tx, id, { status: "cancelled" }) };
  });
}

async function isPastPublicAccess(tx: Tx, id: string): Promise<boolean> {
  const { rows } = await sql`select from tokens where id = ${id}
    and timeout_at + ${publicAccessGrace} <= now()`.execute(tx);
  return rows.length > 0;
}

async function lockToken(tx: Tx, scope: ActingScope, id: string): Promise<TokenRow> {
  const { rows } = await sql<TokenRow>`select ${tokenColumns} from tokens t
    where t.id = ${id} and t.environment_id = ${scope.environmentId} for update`.execute(tx);
  const token = rows[0];
  if (token === undefined) throw codedError("token_not_found");
  return token;
}

async function endWaits(tx: Tx, tokenId: string, resolution: Resolution): Promise<ResolvedWait[]> {
  const { rows } = await sql<{ id: string }>`select id from run_waits
    where token_id = ${tokenId} and status = 'pending'`.execute(tx);
  const resolved: ResolvedWait[] = [];
  for (const wait of await lockPendingWaits(
    tx,
    rows.map((row) => row.id),
  )) {
    const one = await resolveWait(tx, wait, resolution);
    if (one !== undefined) resolved.push(one);
  }
  return resolved;
}

function sameJson(one: string, other: string): boolean {
  return one === other || canonicalJson(JSON.parse(one)) === canonicalJson(JSON.parse(other));
}
