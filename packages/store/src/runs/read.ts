/** Reading runs. Every query is served by an index whose scan ends at the limit: none grows with the table. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { RunStatus } from "../schema.ts";
import type { Scope } from "../scope.ts";
import { type Statement, statement } from "../statement.ts";
import { liveStatuses, type RunRow, runColumns, runStatuses } from "./lifecycle.ts";

/** Undefined when the scope has no such run. */
export async function getRun(db: Queryable, scope: Scope, id: string): Promise<RunRow | undefined> {
  const [run] = await selectRun(db, { id, environmentId: scope.environmentId });
  return run;
}

const selectRun = statement<{ id: string; environmentId: string }, RunRow>(
  (p) =>
    sql`select ${runColumns("r")} from runs r where r.id = ${p("id")} and r.environment_id = ${p("environmentId")}`,
);

/** Payload as JSON text; undefined when the scope has no such run. */
export async function getRunPayload(db: Queryable, scope: Scope, id: string): Promise<string | undefined> {
  const row = await db
    .selectFrom("runs")
    .select("payload")
    .where("id", "=", id)
    .where("environment_id", "=", scope.environmentId)
    .executeTakeFirst();
  return row?.payload;
}

export interface ListRunsOptions {
  /** `live`: queued, running and waiting. */
  readonly status: RunStatus | "live" | "all";
  readonly limit: number;
  readonly sessionId?: string;
  /** Only what this schedule has started. */
  readonly scheduleId?: string;
}

/** Newest first. */
export async function listRuns(db: Queryable, scope: Scope, options: ListRunsOptions): Promise<RunRow[]> {
  const { status, limit, sessionId, scheduleId } = options;
  if (sessionId !== undefined)
    return await listSessionRuns(db, scope, { status, limit, sessionId, scheduleId });
  if (scheduleId !== undefined) return await listScheduleRuns(db, scope, { status, limit, scheduleId });
  return await listStatements[status](db, { environmentId: scope.environmentId, limit });
}

type ListParameters = { environmentId: string; limit: number };

/** `live` merges the pages of its statuses, each read in index order. */
function listStatement(statuses: readonly RunStatus[] | undefined): Statement<ListParameters, RunRow> {
  return statement<ListParameters, RunRow>((p) => {
    const page = (status?: RunStatus) => sql`(select ${runColumns("r")} from runs r
      where r.environment_id = ${p("environmentId")} ${status === undefined ? sql`` : sql`and r.status = ${sql.lit(status)}`}
      order by r.created_at desc, r.id desc limit ${p("limit")}::integer)`;
    const pages = statuses === undefined ? [page()] : statuses.map(page);
    return sql`select * from (${sql.join(pages, sql` union all `)}) r
      order by r.created_at desc, r.id desc limit ${p("limit")}::integer`;
  });
}

const listStatements = {
  all: listStatement(undefined),
  live: listStatement(liveStatuses),
  queued: listStatement(["queued"]),
  running: listStatement(["running"]),
  waiting: listStatement(["waiting"]),
  succeeded: listStatement(["succeeded"]),
  failed: listStatement(["failed"]),
  cancelled: listStatement(["cancelled"]),
  expired: listStatement(["expired"]),
} satisfies Record<ListRunsOptions["status"], unknown>;

async function listSessionRuns(
  db: Queryable,
  scope: Scope,
  { status, limit, sessionId, scheduleId }: Wanted & { sessionId: string; scheduleId?: string | undefined },
): Promise<RunRow[]> {
  const { rows } = await sql<RunRow>`select ${runColumns("r")} from runs r
    where r.session_id = ${sessionId} and r.environment_id = ${scope.environmentId}
      and r.status = any (${statusesOf(status)}::text[])
      and (${scheduleId ?? null}::uuid is null or r.schedule_id = ${scheduleId ?? null})
    order by r.turn_index desc limit ${limit}::integer`.execute(db);
  return rows;
}

async function listScheduleRuns(
  db: Queryable,
  scope: Scope,
  { status, limit, scheduleId }: Wanted & { scheduleId: string },
): Promise<RunRow[]> {
  const { rows } = await sql<RunRow>`select ${runColumns("r")} from runs r
    where r.schedule_id = ${scheduleId} and r.environment_id = ${scope.environmentId}
      and r.status = any (${statusesOf(status)}::text[])
    order by r.created_at desc, r.id desc limit ${limit}::integer`.execute(db);
  return rows;
}

type Wanted = Pick<ListRunsOptions, "status" | "limit">;

function statusesOf(status: ListRunsOptions["status"]): readonly RunStatus[] {
  return status === "all" ? runStatuses : status === "live" ? liveStatuses : [status];
}

export type RunCounts = Record<RunStatus, number>;

/** Runs per status: the sum of at most 64 rows. */
export async function countRuns(db: Queryable, scope: Scope): Promise<RunCounts> {
  const [counts] = await sumCounts(db, { environmentId: scope.environmentId });
  if (counts === undefined) throw new Error("an aggregate returned no row");
  return counts;
}

const sumCounts = statement<{ environmentId: string }, RunCounts>((p) => {
  const sums = runStatuses.map((each) => sql`coalesce(sum(${sql.ref(each)}), 0)::bigint as ${sql.ref(each)}`);
  return sql`select ${sql.join(sums)} from run_counts where environment_id = ${p("environmentId")}`;
});
