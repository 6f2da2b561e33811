/** The lifecycle of schedules by its invariants, F1 to F8 of src/schedules/lifecycle.ts, on a clock of the test's own. */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  type ActingScope,
  activateSchedule,
  backoffMs,
  type ClaimedFire,
  claimFires,
  createSchedule,
  deactivateSchedule,
  deleteSchedule,
  failFire,
  fireSchedule,
  getSchedule,
  listPlannedFires,
  listRuns,
  markForDeletion,
  promoteDeployment,
  purgePage,
  type ScheduleRow,
  scheduleStatus,
  updateSchedule,
} from "../src/index.ts";
import { seedEnvironment, seedTask, startTestDatabase, type TestDatabase } from "../test-support/index.ts";

let database: TestDatabase;
let scope: ActingScope;
beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());
beforeEach(async () => {
  await sql`delete from schedules`.execute(database.db);
  scope = (await seedEnvironment(database.db)).scope;
  await seedTask(database.db, scope);
});

const jitterMs = 0;
const leaseMs = 300_000;
const maxAttempts = 10;
const at = (time: string) => new Date(`2026-06-01T${time}Z`);
const after = (date: Date, ms: number) => new Date(date.getTime() + ms);

async function create(overrides: Partial<Parameters<typeof createSchedule>[2]> = {}, now = at("09:58:30")) {
  const input = {
    deduplicationKey: "every-five",
    taskId: "hello",
    cron: "*/5 * * * *",
    timezone: "UTC",
    options: {},
    active: true,
    ...overrides,
  };
  return await createSchedule(database.db, scope, input, { jitterMs, now });
}
const read = async (id: string): Promise<ScheduleRow> => {
  const row = await getSchedule(database.db, scope, id);
  if (row === undefined) throw new Error("the schedule is gone");
  return row;
};
const claim = (now: Date, ids?: string[]) => claimFires(database.db, { ids, limit: 100, leaseMs, now });
async function claimOne(now: Date): Promise<ClaimedFire> {
  const [fire, ...more] = await claim(now);
  if (fire === undefined || more.length > 0) throw new Error(`${more.length} too many, or none`);
  return fire;
}
const fire = (claimed: ClaimedFire) => fireSchedule(database.db, claimed, { jitterMs });
const fail = (claimed: ClaimedFire, error: unknown) =>
  failFire(database.db, claimed, error, { jitterMs, maxAttempts });
const sessions = async () =>
  (
    await sql<{ payload: string; cause: unknown; schedule_id: string }>`
      select r.payload, e.attributes->'cause' as cause, r.schedule_id
      from runs r join run_events e on e.run_id = r.id and e.seq = 1
      where r.environment_id = ${scope.environmentId} order by r.created_at, r.id`.execute(database.db)
  ).rows;
const slots = async () =>
  (await sessions()).map(({ payload }) =>
    (JSON.parse(payload) as { timestamp: string }).timestamp.slice(11, 16),
  );

test("a slot starts one session with the payload of contract 8.2, and the next one is planned", async () => {
  const { id } = await create({ externalId: "mine" });
  expect(await read(id)).toMatchObject({ next_fire_at: at("10:00:00"), due_at: at("10:00:00") });
  expect(await claim(at("09:59:59"))).toEqual([]);
  await fire(await claimOne(at("10:00:00")));
  await fire(await claimOne(at("10:05:01")));
  const [first, second, ...more] = await sessions();
  expect(more).toEqual([]);
  const upcoming = (from: number) =>
    Array.from({ length: 10 }, (_, n) => after(at("10:00:00"), (from + n) * 300_000).toISOString());
  const common = { timezone: "UTC", scheduleId: id, scheduleType: "imperative", externalId: "mine" };
  expect(JSON.parse(first?.payload ?? "")).toEqual({
    ...common,
    timestamp: "2026-06-01T10:00:00.000Z",
    upcoming: upcoming(1),
  });
  expect(JSON.parse(second?.payload ?? "")).toEqual({
    ...common,
    timestamp: "2026-06-01T10:05:00.000Z",
    lastTimestamp: "2026-06-01T10:00:00.000Z",
    upcoming: upcoming(2),
  });
  expect(first).toMatchObject({
    schedule_id: id,
    cause: { type: "schedule", schedule_id: id, timestamp: "2026-06-01T10:00:00.000Z" },
  });
  expect(await read(id)).toMatchObject({
    last_fire_at: at("10:05:00"),
    next_fire_at: at("10:10:00"),
    attempt: 0,
    lease_expires_at: null,
  });
  const runs = await listRuns(database.db, scope, { status: "all", limit: 10, scheduleId: id });
  expect(runs).toHaveLength(2);
});

test("options are the session's", async () => {
  const options = { concurrency_key: "k", priority: 7, ttl: "10m", max_duration_seconds: 60 };
  await create({ options });
  await fire(await claimOne(at("10:00:00")));
  const [run] = await listRuns(database.db, scope, { status: "all", limit: 1 });
  expect(run).toMatchObject({ ...options, queue_name: "task/hello" });
});

test("after a downtime the due slot fires once, then the first that is not past (F4)", async () => {
  const { id } = await create();
  await fire(await claimOne(at("13:02:00")));
  expect(await slots()).toEqual(["10:00"]);
  expect(await read(id)).toMatchObject({ next_fire_at: at("13:05:00"), last_fire_at: at("10:00:00") });
});

test("a slot within the jitter is not past (F4), and the jitter is always the same (F7)", async () => {
  const jitter = { jitterMs: 600_000 };
  const row = await createSchedule(
    database.db,
    scope,
    {
      deduplicationKey: "jitter",
      taskId: "hello",
      cron: "* * * * *",
      timezone: "UTC",
      options: {},
      active: true,
    },
    { ...jitter, now: at("09:59:30") },
  );
  const delayMs = Number(row.due_at) - Number(row.next_fire_at);
  expect(delayMs).toBeGreaterThanOrEqual(0);
  expect(delayMs).toBeLessThan(600_000);
  for (let slot = at("10:00:00"); slot < at("10:12:00"); slot = after(slot, 60_000)) {
    const claimed = await claimOne(after(slot, delayMs));
    expect(claimed.slot).toEqual(slot);
    await fireSchedule(database.db, claimed, jitter);
  }
});

describe("claims", () => {
  test("of several at once one gets it, and fires it once (F2, F3)", async () => {
    await create();
    const claims = (await Promise.all(Array.from({ length: 8 }, () => claim(at("10:00:00"))))).flat();
    expect(claims).toHaveLength(1);
    const outcomes = await Promise.all(
      claims.flatMap((claimed) => [fire(claimed), fire(claimed), fire(claimed)]),
    );
    expect(outcomes.filter(({ status }) => status === "fired")).toHaveLength(1);
    expect(await slots()).toEqual(["10:00"]);
  });

  test("a lease that is over is claimed again; who held it is late, whoever comes first (F2)", async () => {
    await create();
    const lost = await claimOne(at("10:00:00"));
    expect(await claim(at("10:04:59"))).toEqual([]);
    const next = await claimOne(at("10:05:00"));
    expect(next.attempt).toBe(2);
    const [late, mine] = await Promise.all([fire(lost), fire(next)]);
    expect([late.status, mine.status]).toEqual(["superseded", "fired"]);
    expect(await fail(lost, new Error("late"))).toEqual({ status: "superseded" });
    expect(await slots()).toEqual(["10:00"]);
  });

  test.each([
    ["an update", (id: string) => update(id, {})],
    ["a deactivation", (id: string) => deactivateSchedule(database.db, scope, id)],
    ["a deletion", (id: string) => deleteSchedule(database.db, scope, id)],
  ])("%s while a fire is leased supersedes it", async (_name, change) => {
    const { id } = await create();
    const claimed = await claimOne(at("10:00:00"));
    await change(id);
    expect((await fire(claimed)).status).toBe("superseded");
    expect((await fail(claimed, new Error("x"))).status).toBe("superseded");
    expect(await sessions()).toEqual([]);
  });

  test("a change against a fire: either the fire is first, or it starts nothing", async () => {
    for (let round = 0; round < 10; round += 1) {
      const { id } = await create({ deduplicationKey: `race-${round}` });
      const claimed = await claimOne(at("10:00:00"));
      const before = (await sessions()).length;
      const [outcome] = await Promise.all([
        fire(claimed),
        round % 2 === 0 ? deleteSchedule(database.db, scope, id) : update(id, { cron: "0 1 * * *" }),
      ]);
      expect((await sessions()).length - before).toBe(outcome.status === "fired" ? 1 : 0);
      await sql`delete from schedules`.execute(database.db);
    }
  });

  test("the same slot never has a second session, though the schedule were put back (F3)", async () => {
    const { id } = await create();
    await fire(await claimOne(at("10:00:00")));
    await sql`update schedules set next_fire_at = ${at("10:00:00")}, due_at = ${at("10:00:00")}, last_fire_at = null,
      options = '{"priority": 3}' where id = ${id}`.execute(database.db);
    expect((await fire(await claimOne(at("10:00:30")))).status).toBe("fired");
    expect(await slots()).toEqual(["10:00"]);
    expect(await read(id)).toMatchObject({ next_fire_at: at("10:05:00") });
  });
});

async function update(
  id: string,
  overrides: Partial<Parameters<typeof updateSchedule>[3]>,
  now = at("10:00:10"),
) {
  const input = { taskId: "hello", cron: "*/5 * * * *", timezone: "UTC", options: {}, ...overrides };
  return await updateSchedule(database.db, scope, id, input, { jitterMs, now });
}

describe("failures (F5)", () => {
  test("are tried again after attempt² minutes up to an hour, then the slot is skipped", async () => {
    const { id } = await create();
    let now = at("10:00:00");
    for (let attempt = 1; attempt < maxAttempts; attempt += 1) {
      const claimed = await claimOne(now);
      expect(claimed).toMatchObject({ attempt, slot: at("10:00:00") });
      const outcome = await fail(claimed, new ApiError(409, "no such task"));
      now = after(now, Math.min(attempt ** 2, 60) * 60_000);
      expect(outcome).toEqual({ status: "failed", dueAt: now });
      expect(await read(id)).toMatchObject({ last_error: "no such task", due_at: now });
      expect(await claim(after(now, -1))).toEqual([]);
    }
    expect(await fail(await claimOne(now), new ApiError(409, "no such task"))).toMatchObject({
      status: "skipped",
    });
    const row = await read(id);
    expect(row).toMatchObject({ attempt: 0, last_fire_at: null });
    expect(row.last_error).toContain("skipped 2026-06-01T10:00:00.000Z after 10 attempts: no such task");
    expect(scheduleStatus(row)).toBe("errored");
    expect(Number(row.next_fire_at)).toBeGreaterThan(now.getTime());
    await fire(await claimOne(new Date(Number(row.due_at))));
    expect(scheduleStatus(await read(id))).toBe("active");
    expect(backoffMs(8)).toBe(3_600_000);
  });

  test("that are the task's: it is not deployed, or lacks a secret", async () => {
    const { id } = await create();
    await seedTask(database.db, scope, { taskId: "other" });
    const claimed = await claimOne(at("10:00:00"));
    const error = await fire(claimed).catch((thrown: unknown) => thrown);
    await fail(claimed, error);
    expect((await read(id)).last_error).toContain("the task is not in the current deployment");
    await seedTask(database.db, scope, { secrets: [{ kind: "env", name: "KEY", env: "KEY" }] });
    const again = await claimOne(at("10:01:00"));
    await fail(again, await fire(again).catch((thrown: unknown) => thrown));
    expect((await read(id)).last_error).toContain("secrets that have no value: KEY");
    expect(await sessions()).toEqual([]);
  });

  test("of the installation say nothing internal", async () => {
    const { id } = await create();
    await fail(await claimOne(at("10:00:00")), new Error("connect ECONNREFUSED 10.1.2.3"));
    expect((await read(id)).last_error).not.toContain("10.1.2.3");
  });
});

describe("changes", () => {
  test("another pattern fires from its next slot; the same keeps the slot that is due, and forgets its failure", async () => {
    const { id } = await create();
    await fail(await claimOne(at("10:00:00")), new ApiError(400, "x"));
    expect(await update(id, { options: { priority: 1 } })).toMatchObject({
      next_fire_at: at("10:00:00"),
      due_at: at("10:00:00"),
      last_error: null,
      attempt: 0,
    });
    expect(await update(id, { cron: "30 12 * * *", timezone: "Europe/Berlin" })).toMatchObject({
      next_fire_at: at("10:30:00"),
    });
    await expect(update(id, { taskId: "nope" })).rejects.toMatchObject({ status: 400 });
    await expect(update(id, { options: { queue_name: "nope" } })).rejects.toMatchObject({ status: 400 });
    await expect(update(id, { deduplicationKey: "other" })).rejects.toMatchObject({ status: 400 });
  });

  test("an inactive one plans nothing (F1) until it is active again, and makes up for nothing", async () => {
    const { id } = await create({ active: false });
    expect(await read(id)).toMatchObject({ active: false, next_fire_at: null, due_at: null });
    await activateSchedule(database.db, scope, id, { jitterMs, now: at("11:00:30") });
    expect(await read(id)).toMatchObject({ active: true, next_fire_at: at("11:05:00") });
    await deactivateSchedule(database.db, scope, id);
    expect(await claim(at("12:00:00"))).toEqual([]);
    expect(await update(id, {}, at("13:00:01"))).toMatchObject({ active: false, next_fire_at: null });
    expect(await update(id, { active: true }, at("13:00:01"))).toMatchObject({
      next_fire_at: at("13:05:00"),
    });
  });

  test("two creations with one key: one is refused", async () => {
    const results = await Promise.allSettled([create(), create(), create()]);
    const refused = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
    expect(refused).toMatchObject([
      { status: 409, message: "schedule already exists" },
      { status: 409, message: "schedule already exists" },
    ]);
  });
});

describe("declarative (F8)", () => {
  const promote = async (schedule: { cron: string; timezone: string } | undefined, now: Date) => {
    const { deploymentId } = await seedTask(database.db, scope, { ...(schedule && { schedule }) });
    await promoteDeployment(database.db, scope, { id: deploymentId }, undefined, { jitterMs, now });
    const { rows } = await sql<ScheduleRow>`select * from schedules
      where environment_id = ${scope.environmentId}`.execute(database.db);
    return rows;
  };

  test("is added, kept, changed and removed with the deployment", async () => {
    const hourly = { cron: "0 * * * *", timezone: "UTC" };
    const [added] = await promote(hourly, at("09:30:00"));
    expect(added).toMatchObject({
      type: "declarative",
      task_id: "hello",
      deduplication_key: null,
      next_fire_at: at("10:00:00"),
    });
    const kept = await promote(hourly, at("10:20:00"));
    expect(kept).toMatchObject([{ id: added?.id, next_fire_at: at("10:00:00") }]);
    await fire(await claimOne(at("10:20:30")));
    const changed = await promote({ cron: "15 * * * *", timezone: "UTC" }, at("10:40:00"));
    expect(changed).toMatchObject([
      { id: added?.id, next_fire_at: at("11:15:00"), last_fire_at: at("10:00:00") },
    ]);
    const leased = await claimOne(at("11:15:00"));
    expect(await promote(undefined, at("11:16:00"))).toEqual([]);
    expect((await fire(leased)).status).toBe("superseded");
    const [again] = await promote(hourly, at("11:20:00"));
    expect(again?.id).not.toBe(added?.id);
  });

  test("leaves imperative ones alone, and is not changed by hand", async () => {
    const mine = await create();
    const rows = await promote({ cron: "0 * * * *", timezone: "UTC" }, at("09:30:00"));
    const declared = rows.find(({ type }) => type === "declarative");
    expect(rows).toHaveLength(2);
    const id = declared?.id ?? "";
    for (const change of [
      () => update(id, {}),
      () => activateSchedule(database.db, scope, id, { jitterMs }),
      () => deactivateSchedule(database.db, scope, id),
      () => deleteSchedule(database.db, scope, id),
    ]) {
      await expect(change()).rejects.toMatchObject({ status: 400 });
    }
    await promote(undefined, at("09:40:00"));
    expect(await read(mine.id)).toMatchObject({ active: true });
  });

  test("two promotions at once leave what one of them declares", async () => {
    const crons = ["1 * * * *", "2 * * * *", "3 * * * *"];
    await Promise.all(crons.map((cron) => promote({ cron, timezone: "UTC" }, at("09:30:00"))));
    const { rows } = await sql<{ same: boolean }>`select s.cron = t.schedule->>'cron' as same
      from schedules s join current_deployments c on c.environment_id = s.environment_id
      join deployment_tasks t on t.deployment_id = c.deployment_id
      where s.environment_id = ${scope.environmentId}`.execute(database.db);
    expect(rows).toEqual([{ same: true }]);
  });
});

test("planned fires are paged in the order of their time, without those that are leased", async () => {
  const ids: string[] = [];
  for (const minute of [7, 3, 5, 3]) {
    const { id } = await create({ deduplicationKey: `p${ids.length}`, cron: `${minute} 10 * * *` });
    ids.push(id);
  }
  const page = (now: Date, more = {}) =>
    listPlannedFires(database.db, { lookaheadMs: 180_000, limit: 2, now, ...more });
  expect(await page(at("09:00:00"))).toEqual({ now: at("09:00:00"), fires: [] });
  const first = await page(at("10:02:00"));
  expect(first.fires.map(({ id }) => id)).toEqual([ids[1], ids[3]]);
  const second = await page(at("10:02:00"), { after: first.fires[1] });
  expect(second.fires.map(({ id }) => id)).toEqual([ids[2]]);
  await claim(at("10:03:00"), [ids[1] ?? ""]);
  expect((await page(at("10:03:00"))).fires.map(({ id }) => id)).toEqual([ids[3], ids[2]]);
});

test("schedules of an environment that is being deleted do not fire, and go with it", async () => {
  await create();
  await sql`update environments set slug = 'gone' where id = ${scope.environmentId}`.execute(database.db);
  await markForDeletion(database.db, scope, scope, { force: true });
  expect(await claim(at("10:00:00"))).toEqual([]);
  for (let pages = 0; (await purgePage(database.db)) !== undefined; pages += 1)
    expect(pages).toBeLessThan(50);
  expect((await sql`select from schedules`.execute(database.db)).rows).toEqual([]);
});
