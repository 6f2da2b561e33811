/**
 * Tokens: something that somebody outside completes, once.
 *
 *   from      to          verb                     others
 *   -         pending     createToken
 *   pending   completed   completeToken            completed again with the same data: already_completed; with other data:
 *                                                  token_completion_conflict
 *   pending   cancelled   cancelToken              cancelled again: token_cancelled; of a completed one: token_not_found
 *   pending   expired     timeout_at has passed    no write: whoever reads or acts sees it as expired
 *
 *   K1 Every verb locks the token's row; the runs that wait for it are locked after it.
 *   K2 What ends the token ends every wait for it, in the same transaction.
 */
import { sql } from "kysely";
import type { StoredTokenStatus } from "../schema-waits.ts";

export interface TokenRow {
  readonly id: string;
  readonly environment_id: string;
  readonly status: StoredTokenStatus;
  /** Pending, and past its timeout by the database's clock. */
  readonly due: boolean;
  readonly timeout_at: Date;
  /** JSON text. */
  readonly data: string | null;
  readonly tags: string[];
  readonly metadata: Record<string, unknown>;
  readonly created_at: Date;
}

export const tokenColumns = sql`t.id, t.environment_id, t.status, t.status = 'pending' and t.timeout_at <= now() as due,
  t.timeout_at, t.data, t.tags, t.metadata, t.created_at`;

/** Contract 2.4. */
export type TokenStatus = StoredTokenStatus | "expired";

export function tokenStatus(token: Pick<TokenRow, "status" | "due">): TokenStatus {
  return token.due ? "expired" : token.status;
}
