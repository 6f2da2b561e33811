/** Scheduled tasks: what is authored, what reaches `run`; and `client.schedules` on the wire. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, expectTypeOf, it, vi } from "vitest";
import { json, ScriptedServer, text } from "../test-support/scripted-server.ts";
import {
  HelmrApiError,
  HelmrClient,
  InvalidResponseError,
  image,
  queue,
  type Schedule,
  type ScheduledTaskPayload,
  type ScheduledTaskPayloadInput,
  type SessionStartPayload,
  sandbox,
  schedules,
  type TaskContext,
  type TaskOutput,
  type TaskPayload,
} from "./index.ts";
import { catalogTaskEntry, isTask, taskRunner } from "./internal.ts";

const box = sandbox("box").image(image("base").from("node:24-bookworm-slim"));
const define = (more: object) => schedules.task({ id: "nightly", sandbox: box, run: () => {}, ...more });
const nightly = schedules.task({
  id: "nightly",
  sandbox: box,
  cron: { pattern: " 0  3 * * * ", timezone: "Europe/Berlin" },
  run: async (payload, ctx) => {
    expectTypeOf(payload).toEqualTypeOf<ScheduledTaskPayload>();
    expectTypeOf(ctx).toEqualTypeOf<TaskContext>();
    return { payload };
  },
});

describe("schedules.task", () => {
  it("is a task, with its schedule in the catalog", () => {
    expect(isTask(nightly)).toBe(true);
    expect(catalogTaskEntry(nightly, "tasks/nightly.ts", "nightly")).toMatchObject({
      id: "nightly",
      has_payload: true,
      schedule: { cron: "0 3 * * *", timezone: "Europe/Berlin" },
    });
    expect(catalogTaskEntry(define({ cron: "*/5 * * * *" }), "f", "n").schedule).toEqual({
      cron: "*/5 * * * *",
      timezone: "UTC",
    });
    expect(catalogTaskEntry(define({}), "f", "n")).not.toHaveProperty("schedule");
    expectTypeOf<TaskPayload<typeof nightly>>().toEqualTypeOf<ScheduledTaskPayload>();
    expectTypeOf<SessionStartPayload<typeof nightly>>().toEqualTypeOf<ScheduledTaskPayloadInput>();
    expectTypeOf<TaskOutput<typeof nightly>>().toEqualTypeOf<{ payload: ScheduledTaskPayload }>();
  });

  it.each([
    ["* * * *", "five fields"],
    ["* * * * * *", "five fields"],
    ["@daily", "five fields"],
    ["60 * * * *", '"60" is no minute'],
    ["* 24 * * *", '"24" is no hour'],
    ["* * 0 * *", '"0" is no day of the month'],
    ["* * * 13 *", '"13" is no month'],
    ["* * * * 8", '"8" is no day of the week'],
    ["5-1 * * * *", '"5-1" is no minute'],
    ["*/0 * * * *", '"*/0" is no minute'],
    ["1/5 * * * *", '"1/5" is no minute'],
    ["1,,2 * * * *", '"" is no minute'],
    ["* * L * *", '"l" is no day of the month'],
    ["0 0 30 2 *", "names days that no month of it has"],
    ["0 0 31 4,6,nov *", "names days that no month of it has"],
    [7, "must be"],
    [{ pattern: "0 3 * * *", timezone: "Mars" }, 'schedules.task("nightly").cron.timezone: must be an IANA'],
    [{ pattern: "0 3 * * *", timezone: "+01:00" }, "IANA"],
    [{ pattern: "0 3 * * *", zone: "UTC" }, 'unknown key "zone"'],
    [{ timezone: "UTC" }, 'schedules.task("nightly").cron.pattern'],
  ])("refuses the cron %j", (cron, message) => {
    expect(() => define({ cron })).toThrow(message);
    expect(() => define({ cron })).toThrow(TypeError);
  });
  it.each([
    "0-30/5,45 */2 1,15 jan-MAR,12 Mon-5",
    "0 0 29 2 7",
    "0 0 29 2 *",
    "0 0 31 2,3 *",
    "0 0 30 2 mon",
  ])("takes the cron %s", (cron) => {
    expect(() => define({ cron })).not.toThrow();
  });
  it("refuses what is no option of it", () => {
    expect(() => define({ payload: {} })).toThrow("payload");
    expect(() => define({ crom: "* * * * *" })).toThrow('unknown key "crom"');
    expect(() => define({ run: undefined })).toThrow('schedules.task("nightly").run');
  });

  const sent = {
    timestamp: "2026-06-06T03:00:00.000Z",
    lastTimestamp: "2026-06-05T03:00:00.000Z",
    timezone: "UTC",
    scheduleId: "0198a0de-0000-7000-8000-000000000001",
    scheduleType: "declarative",
    externalId: "mine",
    upcoming: ["2026-06-07T03:00:00.000Z"],
  };
  const run = (payload: unknown) => taskRunner(nightly)(payload, {} as TaskContext);

  it("hands times over as dates, and leaves out what is not there", async () => {
    expect(await run(sent)).toEqual({
      payload: {
        ...sent,
        timestamp: new Date(sent.timestamp),
        lastTimestamp: new Date(sent.lastTimestamp),
        upcoming: [new Date("2026-06-07T03:00:00.000Z")],
      },
    });
    const { lastTimestamp: _last, externalId: _id, ...least } = sent;
    expect(Object.keys(((await run({ ...least, upcoming: [] })) as { payload: object }).payload)).toEqual([
      "timestamp",
      "timezone",
      "scheduleId",
      "scheduleType",
      "upcoming",
    ]);
  });
  it.each([
    ["nothing", null],
    ["an empty object", {}],
    ["a timestamp that is no ISO text", { ...sent, timestamp: "tomorrow" }],
    ["a number as timestamp", { ...sent, timestamp: 1 }],
    ["a day that does not exist", { ...sent, timestamp: "2026-13-01T00:00:00Z" }],
    ["upcoming that is no list", { ...sent, upcoming: sent.timestamp }],
    ["an upcoming that is no ISO text", { ...sent, upcoming: ["x"] }],
    ["a blank timezone", { ...sent, timezone: " " }],
    ["a blank scheduleId", { ...sent, scheduleId: "" }],
    ["an unknown type", { ...sent, scheduleType: "other" }],
  ])("refuses %s before any code of the author ran", async (_what, payload) => {
    await expect(run(payload)).rejects.toMatchObject({ name: "PayloadSchemaValidationError" });
  });
});

describe("client.schedules", () => {
  const server = new ScriptedServer();
  let client: HelmrClient;
  beforeAll(async () => {
    await server.start();
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    vi.spyOn(console, "warn").mockImplementation(() => {});
    client = new HelmrClient({ url: server.url, apiKey: "hlmr_sk_key" });
    server.script();
  });
  afterEach(() => {
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
  });
  const wire = {
    id: "s1",
    type: "imperative",
    project_id: "p",
    environment_id: "e",
    task: "nightly",
    deduplication_key: "k",
    external_id: "mine",
    cron: "0 3 * * *",
    timezone: "UTC",
    active: true,
    status: "errored",
    last_error: "no",
    next_fire_at: "2026-06-07T03:00:00.000Z",
    last_fire_at: "2026-06-06T03:00:00.000Z",
    created_at: "2026-06-01T00:00:00.000Z",
    updated_at: "2026-06-01T00:00:00.000Z",
  };
  const schedule: Schedule = {
    id: "s1",
    type: "imperative",
    projectId: "p",
    environmentId: "e",
    task: "nightly",
    deduplicationKey: "k",
    externalId: "mine",
    cron: "0 3 * * *",
    timezone: "UTC",
    active: true,
    status: "errored",
    lastError: "no",
    nextFireAt: "2026-06-07T03:00:00.000Z",
    lastFireAt: "2026-06-06T03:00:00.000Z",
    createdAt: "2026-06-01T00:00:00.000Z",
    updatedAt: "2026-06-01T00:00:00.000Z",
  };
  const last = () => server.requests.at(-1);

  it("sends what is given and nothing else", async () => {
    server.script(json(wire, 201), json(wire, 200));
    const made = await client.schedules.create({
      deduplicationKey: "k",
      task: nightly,
      cron: "0 3 * * *",
      timezone: "UTC",
      externalId: "mine",
      active: false,
      options: {
        queue: queue({ id: "q" }),
        concurrencyKey: "c",
        priority: 1,
        ttl: "10m",
        maxDurationSeconds: 60,
      },
    });
    expect(made).toEqual(schedule);
    expect(Object.isFrozen(made)).toBe(true);
    expect(last()).toMatchObject({ method: "POST", path: "/api/schedules" });
    expect(last()?.body).toEqual({
      deduplication_key: "k",
      task: "nightly",
      cron: "0 3 * * *",
      timezone: "UTC",
      external_id: "mine",
      active: false,
      options: {
        queue: { name: "q" },
        concurrency_key: "c",
        priority: 1,
        ttl: "10m",
        max_duration_seconds: 60,
      },
    });
    await client.schedules.update(made, { task: "nightly", cron: "5 3 * * *" });
    expect(last()).toMatchObject({ method: "PUT", path: "/api/schedules/s1" });
    expect(last()?.body).toEqual({ task: "nightly", cron: "5 3 * * *" });
  });

  it("reads, activates, deactivates and deletes", async () => {
    server.script(
      json({ schedules: [wire] }, 200),
      json(wire, 200),
      json(wire, 200),
      json(wire, 200),
      text("", 204),
    );
    expect(await client.schedules.list()).toEqual([schedule]);
    expect(await client.schedules.retrieve("s1")).toEqual(schedule);
    await client.schedules.activate("s1");
    await client.schedules.deactivate({ id: "s1" });
    expect(await client.schedules.delete("s1")).toBeUndefined();
    expect(server.requests.map(({ method, path }) => `${method} ${path}`)).toEqual([
      "GET /api/schedules",
      "GET /api/schedules/s1",
      "POST /api/schedules/s1/activate",
      "POST /api/schedules/s1/deactivate",
      "DELETE /api/schedules/s1",
    ]);
  });

  it("leaves out what is not there, and refuses what it does not know", async () => {
    const {
      external_id: _e,
      deduplication_key: _d,
      last_error: _l,
      next_fire_at: _n,
      last_fire_at: _f,
      ...least
    } = wire;
    server.script(json(least, 200), json({ ...wire, status: "asleep" }, 200), json({ schedules: {} }, 200));
    expect(Object.keys(await client.schedules.retrieve("s1"))).not.toContain("lastError");
    await expect(client.schedules.retrieve("s1")).rejects.toThrow(InvalidResponseError);
    await expect(client.schedules.list()).rejects.toThrow(InvalidResponseError);
    server.script(json({ error: "schedule already exists" }, 409));
    await expect(
      client.schedules.create({ deduplicationKey: "k", task: "nightly", cron: "* * * * *" }),
    ).rejects.toMatchObject({ name: HelmrApiError.name, status: 409 });
    await expect(client.schedules.retrieve("")).rejects.toThrow("schedule id");
  });

  it("is mirrored on the client of the environment's variables", async () => {
    vi.stubEnv("HELMR_API_URL", server.url);
    vi.stubEnv("HELMR_API_KEY", "hlmr_sk_env");
    server.script(json({ schedules: [] }, 200));
    expect(await schedules.list()).toEqual([]);
    expect(last()?.headers.authorization).toBe("Bearer hlmr_sk_env");
  });
});
