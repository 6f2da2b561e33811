/** completeToken and cancelToken: K1, K2. */
import { canonicalJson, codedError } from "@helmr/api";
import { type RawBuilder, sql } from "kysely";
import { auditInsert, scopeIds } from "../audit.ts";
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
    const changes = sql`status = 'completed', data = ${dataJson}::json, completed_at = now()`;
    const completed = await endToken(tx, scope, token, "token.complete", changes);
    const resolved = await endWaits(tx, id, { status: "completed", result: dataJson });
    return { status: "completed", token: completed, resolved };
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
    const changes = sql`status = 'cancelled', cancelled_at = now()`;
    const cancelled = await endToken(tx, scope, token, "token.cancel", changes);
    return { token: cancelled, resolved: await endWaits(tx, id, { status: "cancelled" }) };
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

/** The change of a token that is locked, with its audit record. */
async function endToken(
  tx: Tx,
  scope: ActingScope,
  token: TokenRow,
  action: "token.complete" | "token.cancel",
  changes: RawBuilder<unknown>,
): Promise<TokenRow> {
  const audit = auditInsert(scope.actor, { ...scopeIds(scope), action, resourceId: token.id });
  const { rows } = await sql<TokenRow>`with audit as (${audit})
    update tokens t set ${changes} where t.id = ${token.id} returning ${tokenColumns}`.execute(tx);
  return rows[0] ?? token;
}

async function endWaits(tx: Tx, tokenId: string, resolution: Resolution): Promise<ResolvedWait[]> {
  const resolved: ResolvedWait[] = [];
  for (const wait of await lockPendingWaits(tx, sql`w.token_id = ${tokenId}`)) {
    const one = await resolveWait(tx, wait, resolution);
    if (one !== undefined) resolved.push(one);
  }
  return resolved;
}

function sameJson(one: string, other: string): boolean {
  return one === other || canonicalJson(JSON.parse(one)) === canonicalJson(JSON.parse(other));
}
