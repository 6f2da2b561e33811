/** Whether anything waits for a worker: three probes of partial indexes, one statement. */
import { sql } from "kysely";
import type { Queryable } from "./database.ts";

/** Runs that are due, builds, live copies; also such as no worker can take now. */
export async function hasDueWork(db: Queryable): Promise<boolean> {
  const { rows } = await sql<{ due: boolean }>`
    select exists (select from runs where status = 'queued' and not limited and available_at <= now())
      or exists (select from runs where status = 'queued' and limited and available_at <= now())
      or exists (select from deployments where status = 'queued')
      or exists (select from workspace_materializations where state = 'requested') as due`.execute(db);
  return rows[0]?.due ?? false;
}
