/** Workers' liveness: touchWorker and markGoneWorkers. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import { workerGoneAfterSeconds } from "./lifecycle.ts";

/** What a heartbeat says besides its leases. */
export interface WorkerReport {
  /** The worker takes no more work by its own decision. */
  readonly draining: boolean;
  readonly capacityFree?: Readonly<Record<string, number>> | undefined;
}

/** Note a sign of life; says whether the worker is to take no more work. Without a report its own drain stays what it is. */
export async function touchWorker(
  db: Queryable,
  workerInstanceId: string,
  report?: WorkerReport,
): Promise<{ draining: boolean }> {
  const draining = report?.draining ?? null;
  const free = report?.capacityFree === undefined ? null : JSON.stringify(report.capacityFree);
  const { rows } = await sql<{ state: string }>`
    update worker_instances set last_heartbeat_at = now(), capacity_free = coalesce(${free}::jsonb, capacity_free),
      state = case
        when drain_requested_at is not null then 'draining' -- W2
        when ${draining}::boolean is null then case state when 'gone' then 'active' else state end
        when ${draining}::boolean then 'draining' else 'active' end
    where id = ${workerInstanceId} returning state`.execute(db);
  return { draining: rows[0]?.state === "draining" };
}

/** Ids of the workers that just became gone. */
export async function markGoneWorkers(db: Queryable): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    update worker_instances set state = 'gone'
    where state <> 'gone' and last_heartbeat_at < now() - ${sql.lit(workerGoneAfterSeconds)} * interval '1 second'
    returning id`.execute(db);
  return rows.map((row) => row.id);
}
