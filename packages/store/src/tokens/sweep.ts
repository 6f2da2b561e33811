/** Tokens long past their end go: what they were completed with is in the waits and events of the runs that waited. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";

/** After the completion, the cancel or the timeout. */
const keptAfterEnd = "90 days";

/** Remove up to `limit` of them, but none that a run still waits for; returns how many. */
export async function sweepTokens(db: Queryable, limit: number): Promise<number> {
  const { numAffectedRows = 0n } = await sql`delete from tokens where ctid = any (array(
    select t.ctid from tokens t
    where coalesce(t.completed_at, t.cancelled_at, t.timeout_at) <= now() - ${keptAfterEnd}::interval
      and not exists (select from run_waits w where w.token_id = t.id and w.status = 'pending')
    order by coalesce(t.completed_at, t.cancelled_at, t.timeout_at) limit ${limit}::integer
    for update skip locked))`.execute(db);
  return Number(numAffectedRows);
}
