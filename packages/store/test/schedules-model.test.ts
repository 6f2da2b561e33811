/**
 * Whatever order schedules are changed, claimed, fired, failed and promoted in, and however late each comes: the invariants
 * of src/schedules/lifecycle.ts hold after every step. HELMR_TEST_SEED repeats a run.
 */
import { ApiError, nextSlot } from "@helmr/api";
import fc from "fast-check";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ActingScope,
  activateSchedule,
  type ClaimedFire,
  claimFires,
  createSchedule,
  deactivateSchedule,
  deleteSchedule,
  failFire,
  fireSchedule,
  promoteDeployment,
  type ScheduleRow,
  updateSchedule,
} from "../src/index.ts";
import { seedEnvironment, seedTask, startTestDatabase, type TestDatabase } from "../test-support/index.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());

const minuteMs = 60_000;
const leaseMs = 5 * minuteMs;
const maxAttempts = 2;
const jitterMs = 90_000;
const crons = ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 29 2 *"] as const;
const zones = ["UTC", "Europe/Berlin"] as const;

const index = fc.nat(20);
const cron = fc.constantFrom(...crons);
const timezone = fc.constantFrom(...zones);
const operation = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant("create" as const), cron, timezone, active: fc.boolean() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("update" as const),
      index,
      cron,
      timezone,
      active: fc.option(fc.boolean(), { nil: undefined }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constantFrom("activate", "deactivate", "delete"), index }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("promote" as const),
      cron: fc.option(cron, { nil: undefined }),
      timezone,
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant("wait" as const),
      ms: fc.oneof(fc.integer({ min: 1, max: 2 * minuteMs }), fc.constantFrom(leaseMs, 60 * minuteMs)),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constant("claim" as const), limit: fc.integer({ min: 1, max: 5 }) }),
  },
  { weight: 6, arbitrary: fc.record({ op: fc.constantFrom("fire", "fail", "fire twice"), index }) },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

class World {
  readonly #scope: ActingScope;
  /** Shortly before clocks change in Berlin. */
  #nowMs = Date.parse("2026-10-25T00:20:10Z");
  readonly #claims: ClaimedFire[] = [];
  readonly #fencings = new Map<string, number>();
  #created = 0;

  constructor(scope: ActingScope) {
    this.#scope = scope;
  }

  get #timing() {
    return { jitterMs, now: new Date(this.#nowMs) };
  }

  async rows(): Promise<ScheduleRow[]> {
    const { rows } = await sql<ScheduleRow>`select * from schedules
      where environment_id = ${this.#scope.environmentId} order by id`.execute(database.db);
    return rows;
  }

  async step(operation: Operation): Promise<void> {
    const { db } = database;
    switch (operation.op) {
      case "wait":
        this.#nowMs += operation.ms;
        return;
      case "create": {
        const { op: _op, ...settings } = operation;
        this.#created += 1;
        const input = { ...settings, deduplicationKey: `k${this.#created}`, taskId: "hello", options: {} };
        await createSchedule(db, this.#scope, input, this.#timing);
        return;
      }
      case "promote": {
        const { cron, timezone } = operation;
        const schedule = cron === undefined ? {} : { schedule: { cron, timezone } };
        const { deploymentId } = await seedTask(db, this.#scope, schedule);
        await promoteDeployment(db, this.#scope, { id: deploymentId }, undefined, this.#timing);
        const declared = (await this.rows()).filter(({ type }) => type === "declarative");
        expect(declared.map((row) => [row.cron, row.timezone])).toEqual(
          cron === undefined ? [] : [[cron, timezone]], // F8
        );
        return;
      }
      case "claim":
        this.#claims.push(
          ...(await claimFires(db, { limit: operation.limit, leaseMs, now: new Date(this.#nowMs) })),
        );
        return;
      case "fire":
      case "fail":
      case "fire twice":
        return await this.#end(operation.op, operation.index);
      default:
        return await this.#change(operation);
    }
  }

  async #change(operation: Extract<Operation, { op: "update" | "activate" | "deactivate" | "delete" }>) {
    const rows = await this.rows();
    const row = rows[operation.index % Math.max(1, rows.length)];
    if (row === undefined) return;
    const { db } = database;
    const done =
      operation.op === "update"
        ? updateSchedule(
            db,
            this.#scope,
            row.id,
            { ...(operation as Extract<Operation, { op: "update" }>), taskId: "hello", options: {} },
            this.#timing,
          )
        : operation.op === "activate"
          ? activateSchedule(db, this.#scope, row.id, this.#timing)
          : operation.op === "deactivate"
            ? deactivateSchedule(db, this.#scope, row.id)
            : deleteSchedule(db, this.#scope, row.id);
    const refused = await done.then(
      () => false,
      (error: unknown) => error instanceof ApiError && error.status === 400,
    );
    expect(refused).toBe(row.type === "declarative"); // F8
  }

  /** F2: a claim counts exactly while its fencing is the schedule's; then a fire starts one session, else none. */
  async #end(how: "fire" | "fail" | "fire twice", index: number): Promise<void> {
    const claim = this.#claims[index % Math.max(1, this.#claims.length)];
    if (claim === undefined) return;
    const counts = (await this.rows()).some(
      ({ id, fencing }) => id === claim.id && fencing === claim.fencing,
    );
    const before = await this.#sessions(claim.id);
    const settings = { jitterMs, maxAttempts };
    const fire = () => fireSchedule(database.db, claim, settings);
    if (how === "fail") {
      const outcome = await failFire(database.db, claim, new ApiError(409, "no"), settings);
      const expected = claim.attempt >= maxAttempts ? "skipped" : "failed"; // F5
      expect(outcome.status).toBe(counts ? expected : "superseded");
      expect(await this.#sessions(claim.id)).toBe(before);
      return;
    }
    const outcomes = await Promise.all(how === "fire twice" ? [fire(), fire()] : [fire()]);
    expect(outcomes.filter(({ status }) => status === "fired")).toHaveLength(counts ? 1 : 0);
    expect(await this.#sessions(claim.id)).toBe(before + (counts ? 1 : 0));
  }

  async #sessions(scheduleId: string): Promise<number> {
    const { rows } = await sql<{
      n: number;
    }>`select count(*) as n from runs where schedule_id = ${scheduleId}`.execute(database.db);
    return rows[0]?.n ?? 0;
  }

  async check(): Promise<void> {
    for (const row of await this.rows()) {
      // F1: every pattern here has times left.
      expect([row.next_fire_at !== null, row.due_at !== null]).toEqual([row.active, row.active]);
      if (row.lease_expires_at !== null) expect(row.due_at).not.toBeNull();
      // F2
      expect(row.fencing).toBeGreaterThanOrEqual(this.#fencings.get(row.id) ?? 0);
      this.#fencings.set(row.id, row.fencing);
      if (row.next_fire_at === null || row.due_at === null) continue;
      // A time of the pattern, F4, and never before it.
      const slot = nextSlot(row.cron, row.timezone, new Date(row.next_fire_at.getTime() - 1));
      expect(row.next_fire_at).toEqual(slot);
      expect(row.next_fire_at.getTime()).toBeGreaterThan(row.last_fire_at?.getTime() ?? 0);
      expect(row.due_at.getTime()).toBeGreaterThanOrEqual(row.next_fire_at.getTime());
    }
    const { rows: twice } = await sql`select schedule_id, payload::jsonb->>'timestamp' from runs
      where environment_id = ${this.#scope.environmentId} group by 1, 2 having count(*) > 1`.execute(
      database.db,
    );
    expect(twice).toEqual([]); // F3
  }
}

test("the invariants hold after every step", async () => {
  const seed = process.env.HELMR_TEST_SEED;
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 15, maxLength: 40 }), async (operations) => {
      const { scope } = await seedEnvironment(database.db);
      await sql`update schedules set due_at = null, next_fire_at = null, lease_expires_at = null`.execute(
        database.db,
      );
      await seedTask(database.db, scope);
      const world = new World(scope);
      for (const each of operations) {
        await world.step(each);
        await world.check();
      }
    }),
    {
      numRuns: Number(process.env.HELMR_PROPERTY_RUNS ?? 40),
      endOnFailure: true,
      ...(seed === undefined ? {} : { seed: Number(seed) }),
    },
  );
}, 300_000);
