/** Idempotency keys. They are written by the transaction that makes their resource; here they end. */
import { sql } from "kysely";
import type { Queryable } from "./database.ts";

/** Forget up to `limit` keys whose time is over; returns how many. */
export async function sweepIdempotencyKeys(db: Queryable, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from idempotency_keys where ctid = any (array(
      select ctid from idempotency_keys where expires_at <= now() order by expires_at limit ${limit}::integer
      for update skip locked))`.execute(db);
  return Number(numAffectedRows ?? 0n);
}
