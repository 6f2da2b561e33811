/** Reading waits: for the worker that holds them, and for whoever looks at the run (contract 2.2 `pending_wait`). */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import { type WaitRow, waitColumns } from "./lifecycle.ts";

/** Those of these waits that are over, among the runs that this worker leases. */
export async function listResolvedWaits(
  db: Queryable,
  workerInstanceId: string,
  waitIds: readonly string[],
): Promise<WaitRow[]> {
  if (waitIds.length === 0) return [];
  const { rows } = await sql<WaitRow>`select ${waitColumns} from run_waits w join runs r on r.id = w.run_id
    where w.id = any (${waitIds}::uuid[]) and w.status <> 'pending' and r.worker_instance_id = ${workerInstanceId}
      and r.lease_id is not null`.execute(db);
  return rows;
}

/** The pending waits of these runs, by run. */
export async function pendingWaits(db: Queryable, runIds: readonly string[]): Promise<Map<string, WaitRow>> {
  if (runIds.length === 0) return new Map();
  const { rows } = await sql<WaitRow>`select ${waitColumns} from run_waits w
    where w.run_id = any (${runIds}::uuid[]) and w.status = 'pending'`.execute(db);
  return new Map(rows.map((row) => [row.run_id, row]));
}
