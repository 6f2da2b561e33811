/**
 * Sources of deleted deployments, in the artifact store.
 *
 * S1 A source is removed only while its digest's lock is held and no deployment names it; who makes a deployment takes the
 *    same lock and makes sure under it that the source is still stored.
 * S2 The note goes after the source: a crash in between removes it once more, which changes nothing.
 */
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";

/**
 * Remove up to `limit` noted sources that no deployment has; resolves to how many notes were dealt with. `remove` deletes
 * from the store, and must succeed for what is not there.
 */
export async function removeUnreferencedSources(
  db: Queryable,
  limit: number,
  remove: (digest: string) => Promise<void>,
): Promise<number> {
  const { rows } = await sql<{ digest: string }>`select digest from unreferenced_sources
    order by noted_at limit ${limit}::integer`.execute(db);
  for (const { digest } of rows) {
    await transaction(db, async (tx) => {
      await lockSource(tx, digest);
      const { rows: references } =
        await sql`select from deployments where source_digest = ${digest} limit 1`.execute(tx);
      if (references.length === 0) await remove(digest);
      await sql`delete from unreferenced_sources where digest = ${digest}`.execute(tx);
    });
  }
  return rows.length;
}

/** S1: until the transaction ends. */
export async function lockSource(tx: Tx, digest: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`source ${digest}`}, 0))`.execute(tx);
}
