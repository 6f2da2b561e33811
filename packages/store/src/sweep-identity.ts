/** What sign-in leaves behind once its time is over. Rows are kept a while so that a late client hears "expired". */
import { sql } from "kysely";
import type { Queryable } from "./database.ts";

/** How long a row stays after its expires_at. A session is kept for as long as people ask who was signed in when. */
const keptAfterExpiry = {
  device_codes: "1 hour",
  magic_links: "1 hour",
  oauth_attempts: "1 hour",
  user_sessions: "30 days",
} as const;

/** Remove up to `limit` rows of each kind; returns how many of the kind that had most. */
export async function sweepIdentity(db: Queryable, limit: number): Promise<number> {
  let most = 0;
  for (const [table, kept] of Object.entries(keptAfterExpiry)) {
    const { numAffectedRows } = await sql`
      delete from ${sql.table(table)} where ctid = any (array(
        select ctid from ${sql.table(table)} where expires_at <= now() - ${kept}::interval
        order by expires_at limit ${limit}::integer for update skip locked))`.execute(db);
    most = Math.max(most, Number(numAffectedRows ?? 0n));
  }
  return most;
}
