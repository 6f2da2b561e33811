/** What is to fire: listPlannedFires for the fire index, claimFires for who triggers. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { ScheduleOptions, ScheduleType } from "../schema-schedules.ts";
import type { Scope } from "../scope.ts";

export interface PlannedFire {
  readonly id: string;
  readonly dueAt: Date;
}

/**
 * Schedules without a lease that are due by `lookaheadMs` from now, in the order of their time, after `after`. `now`: the
 * database's clock, also when there are none.
 */
export async function listPlannedFires(
  db: Queryable,
  page: {
    readonly lookaheadMs: number;
    readonly limit: number;
    readonly after?: PlannedFire | undefined;
    readonly now?: Date | undefined;
  },
): Promise<{ readonly now: Date; readonly fires: readonly PlannedFire[] }> {
  const now = sql`coalesce(${page.now ?? null}::timestamptz, now())`;
  const { rows } = await sql<{ now: Date; id: string | null; due_at: Date | null }>`
    select ${now} as now, s.id, s.due_at from (select 1) as always left join lateral (
      select id, due_at from schedules
      where due_at <= ${now} + ${page.lookaheadMs}::float8 * interval '1 millisecond'
        and (lease_expires_at is null or lease_expires_at <= ${now})
        and (due_at, id) > (coalesce(${page.after?.dueAt ?? null}::timestamptz, '-infinity'),
          coalesce(${page.after?.id ?? null}::uuid, '00000000-0000-0000-0000-000000000000'))
      order by due_at, id limit ${page.limit}::integer) s on true
    order by s.due_at, s.id`.execute(db);
  const fires = rows.flatMap(({ id, due_at }) =>
    id === null || due_at === null ? [] : [{ id, dueAt: due_at }],
  );
  return { now: rows[0]?.now ?? new Date(), fires };
}

/** A due slot, leased: what fireSchedule and failFire take. */
export interface ClaimedFire {
  readonly id: string;
  readonly scope: Scope;
  /** F2. */
  readonly fencing: number;
  /** 1 for the first. */
  readonly attempt: number;
  readonly type: ScheduleType;
  readonly taskId: string;
  readonly externalId: string | null;
  readonly cron: string;
  readonly timezone: string;
  readonly options: ScheduleOptions;
  readonly slot: Date;
  readonly lastSlot: Date | null;
  /** When it was to be fired: the slot with its jitter, or the time of this attempt. */
  readonly dueAt: Date;
  readonly claimedAt: Date;
}

/**
 * Lease up to `limit` due schedules: of those named, or of all. What another process holds or has fired already, what was
 * changed, deactivated or deleted, and what is of an environment that is being deleted is left out.
 */
export async function claimFires(
  db: Queryable,
  options: {
    readonly ids?: readonly string[] | undefined;
    readonly limit: number;
    readonly leaseMs: number;
    readonly now?: Date | undefined;
  },
): Promise<ClaimedFire[]> {
  const now = sql`coalesce(${options.now ?? null}::timestamptz, now())`;
  const named = options.ids === undefined ? sql`true` : sql`s.id = any (${[...options.ids]}::uuid[])`;
  const { rows } = await sql<ClaimedFire & Scope>`
    with due as (
      select s.id, e.organization_id from schedules s
      join environments e on e.id = s.environment_id and e.deleting_at is null
      where ${named} and s.due_at <= ${now} and (s.lease_expires_at is null or s.lease_expires_at <= ${now})
      order by s.due_at, s.id limit ${options.limit}::integer for update of s skip locked
    )
    update schedules s set fencing = s.fencing + 1, attempt = s.attempt + 1,
      lease_expires_at = ${now} + ${options.leaseMs}::float8 * interval '1 millisecond'
    from due where s.id = due.id
    returning s.id, due.organization_id as "organizationId", s.project_id as "projectId",
      s.environment_id as "environmentId", s.fencing, s.attempt, s.type, s.task_id as "taskId",
      s.external_id as "externalId", s.cron, s.timezone, s.options, s.next_fire_at as slot, s.last_fire_at as "lastSlot",
      s.due_at as "dueAt",
      ${now} as "claimedAt"`.execute(db);
  return rows.map(({ organizationId, projectId, environmentId, ...fire }) => ({
    ...fire,
    scope: { organizationId, projectId, environmentId },
  }));
}
