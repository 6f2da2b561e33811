/** Reading schedules (contract 8). */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { Scope } from "../scope.ts";
import type { ScheduleRow } from "./lifecycle.ts";

/** Undefined when the scope has no such schedule. */
export async function getSchedule(db: Queryable, scope: Scope, id: string): Promise<ScheduleRow | undefined> {
  const { rows } = await sql<ScheduleRow>`select * from schedules
    where id = ${id} and environment_id = ${scope.environmentId}`.execute(db);
  return rows[0];
}

/** Newest first. */
export async function listSchedules(db: Queryable, scope: Scope, limit: number): Promise<ScheduleRow[]> {
  const { rows } =
    await sql<ScheduleRow>`select * from schedules where environment_id = ${scope.environmentId}
    order by created_at desc, id desc limit ${limit}::integer`.execute(db);
  return rows;
}
