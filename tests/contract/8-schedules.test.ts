/** Contract 8: schedules over HTTP. What fires, and when: packages/store/test/schedules.test.ts, packages/dispatcher/test. */
import { claimFires, failFire } from "@helmr/store";
import { seedEnvironment, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "../../packages/control-plane/test/support/server.ts";
import {
  bool,
  expectList,
  expectShape,
  type Fields,
  filled,
  id,
  oneOf,
  timestamp,
} from "./support/checks.ts";
import { strictRequest } from "./support/strict.ts";

const schedule: Fields = {
  id,
  type: oneOf("imperative", "declarative"),
  project_id: id,
  environment_id: id,
  task: filled,
  "deduplication_key?": filled,
  "external_id?": filled,
  cron: filled,
  timezone: filled,
  active: bool,
  status: oneOf("active", "inactive", "errored"),
  "last_error?": filled,
  "next_fire_at?": timestamp,
  "last_fire_at?": timestamp,
  created_at: timestamp,
  updated_at: timestamp,
};

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope);
});
afterAll(() => server.stop());

let keys = 0;
const newKey = () => {
  keys += 1;
  return `key-${keys}`;
};
const body = (more: object = {}) => ({ task: "hello", cron: "0 9 * * *", ...more });
const request = (method: string, path: string, sent?: unknown, options?: object) =>
  strictRequest(server, method, path, sent, options);
const create = async (more: object = {}) =>
  await request("POST", "/schedules", body({ deduplication_key: newKey(), ...more }));
const unknown = "019a0000-0000-7000-8000-000000000000";

async function makeDeclared(): Promise<string> {
  const { body: made } = await create();
  await sql`update schedules set type = 'declarative', deduplication_key = null, task_id = ${newKey()}
    where id = ${made.id}`.execute(server.db);
  return made.id;
}

describe("§8 routes", () => {
  test("§8 §8.2 create 201, get, list: the bare object and the envelope", async () => {
    const deduplication_key = newKey();
    const { status, body: made } = await request(
      "POST",
      "/schedules",
      body({ deduplication_key, external_id: " order-7 ", timezone: "Europe/Berlin" }),
    );
    expect(status).toBe(201);
    expectShape(made, schedule);
    expect(made).toMatchObject({
      type: "imperative",
      project_id: server.scope.projectId,
      environment_id: server.scope.environmentId,
      task: "hello",
      deduplication_key,
      external_id: "order-7",
      cron: "0 9 * * *",
      timezone: "Europe/Berlin",
      active: true,
      status: "active",
    });
    expect(new Date(made.next_fire_at).getUTCMinutes()).toBe(0);
    expect(Date.parse(made.next_fire_at)).toBeGreaterThan(Date.parse(made.created_at));
    for (const absent of ["last_error", "last_fire_at"]) expect(made).not.toHaveProperty(absent);
    expect(await request("GET", `/schedules/${made.id}`)).toMatchObject({ status: 200, body: made });
    const { body: list } = await request("GET", "/schedules");
    expectList(list, "schedules", schedule);
    expect(list.schedules[0]).toEqual(made);
  });

  test("§8.1 defaults: UTC, active; active: false plans nothing", async () => {
    expect((await create()).body).toMatchObject({ timezone: "UTC", active: true });
    const { body: made } = await create({ active: false });
    expect(made).toMatchObject({ active: false, status: "inactive" });
    expect(made).not.toHaveProperty("next_fire_at");
  });

  test("§8 409 for the same deduplication_key, also of an inactive one", async () => {
    const { body: made } = await create({ active: false });
    const again = await request(
      "POST",
      "/schedules",
      body({ deduplication_key: made.deduplication_key, cron: "1 1 * * *" }),
    );
    expect(again).toMatchObject({ status: 409, body: { error: "schedule already exists" } });
    const other = (await seedEnvironment(server.db)).scope;
    await seedTask(server.db, other);
    const elsewhere = await request(
      "POST",
      "/schedules",
      body({ deduplication_key: made.deduplication_key }),
      { key: await server.newKey(other) },
    );
    expect(elsewhere.status).toBe(201);
  });

  test("§8 PUT replaces external_id, options, timezone, cron, task; active only where given", async () => {
    const { body: made } = await create({ external_id: "x", timezone: "Europe/Berlin", active: false });
    const path = `/schedules/${made.id}`;
    const { status, body: changed } = await request("PUT", path, body({ cron: "5 4 * * *" }));
    expect(status).toBe(200);
    expectShape(changed, schedule);
    expect(changed).toMatchObject({ cron: "5 4 * * *", timezone: "UTC", active: false });
    expect(changed).not.toHaveProperty("external_id");
    const { deduplication_key } = made;
    const on = await request("PUT", path, body({ deduplication_key, active: true }));
    expect(on).toMatchObject({ status: 200, body: { active: true, status: "active" } });
    expect((await request("PUT", path, body({ deduplication_key: "other" }))).status).toBe(400);
  });

  test("§8 activate and deactivate take no body, and may be repeated", async () => {
    const { body: made } = await create();
    const path = `/schedules/${made.id}`;
    for (const [verb, active] of [
      ["deactivate", false],
      ["deactivate", false],
      ["activate", true],
      ["activate", true],
    ] as const) {
      const answer = await request("POST", `${path}/${verb}`);
      expect(answer.status).toBe(200);
      expectShape(answer.body, schedule);
      expect(answer.body).toMatchObject({ active, status: active ? "active" : "inactive" });
      expect(Object.hasOwn(answer.body, "next_fire_at")).toBe(active);
    }
  });

  test("§8 DELETE 204 without a body, then 404", async () => {
    const { body: made } = await create();
    const path = `/schedules/${made.id}`;
    const answer = await server.request("DELETE", path);
    expect([answer.status, answer.body]).toEqual([204, ""]);
    for (const [method, rest, sent] of [
      ["GET", "", undefined],
      ["PUT", "", body()],
      ["POST", "/activate", undefined],
      ["POST", "/deactivate", undefined],
      ["DELETE", "", undefined],
    ] as const) {
      const gone = await request(method, `${path}${rest}`, sent);
      expect([gone.status, gone.body]).toEqual([404, { error: "schedule not found" }]);
    }
    expect((await request("GET", "/schedules/nope")).status).toBe(400);
    expect((await request("GET", `/schedules/${unknown}`)).status).toBe(404);
  });

  test("§8.2 a declarative one refuses PUT, activate, deactivate and DELETE with 400", async () => {
    const declared = await makeDeclared();
    const path = `/schedules/${declared}`;
    const read = await request("GET", path);
    expectShape(read.body, schedule);
    expect(read.body.type).toBe("declarative");
    expect(read.body).not.toHaveProperty("deduplication_key");
    for (const [method, rest, sent] of [
      ["PUT", "", body()],
      ["POST", "/activate", undefined],
      ["POST", "/deactivate", undefined],
      ["DELETE", "", undefined],
    ] as const) {
      expect((await request(method, `${path}${rest}`, sent)).status).toBe(400);
    }
    expect((await request("GET", path)).body).toEqual(read.body);
  });

  test("§8.2 errored while the last trigger has failed, with last_error", async () => {
    const { body: made } = await create();
    await sql`update schedules set due_at = now() where id = ${made.id}`.execute(server.db);
    const [claimed] = await claimFires(server.db, { ids: [made.id], limit: 1, leaseMs: 1000 });
    if (claimed === undefined) throw new Error("nothing was claimed");
    await failFire(server.db, claimed, new Error("no"), { jitterMs: 0, maxAttempts: 10 });
    const { body: failed } = await request("GET", `/schedules/${made.id}`);
    expectShape(failed, schedule);
    expect(failed).toMatchObject({ status: "errored", active: true, last_error: expect.any(String) });
  });
});

describe("§8.1 bodies", () => {
  test.each([
    ["no deduplication_key", { deduplication_key: undefined }],
    ["a deduplication_key with a space", { deduplication_key: "a b" }],
    ["one of 129 characters", { deduplication_key: "a".repeat(129) }],
    ["no task", { task: undefined }],
    ["a task that is not deployed", { task: "nope" }],
    ["no cron", { cron: undefined }],
    ["six fields", { cron: "0 0 9 * * *" }],
    ["four fields", { cron: "0 9 * *" }],
    ["a nickname", { cron: "@daily" }],
    ["a minute of 60", { cron: "60 * * * *" }],
    ["a time that never comes", { cron: "0 0 30 2 *" }],
    ["an unknown zone", { timezone: "Mars/Olympus" }],
    ["an offset as zone", { timezone: "+02:00" }],
    ["active as a text", { active: "true" }],
    ["an unknown key", { payload: {} }],
    ["an unknown option", { options: { tags: [] } }],
    ["options.deployment_id", { options: { deployment_id: unknown } }],
    ["options.version", { options: { version: "20260606.1" } }],
    ["a queue that is not declared", { options: { queue: { name: "nope" } } }],
    ["a queue as a text", { options: { queue: "task/hello" } }],
    ["a ttl that is none", { options: { ttl: "soon" } }],
    ["a duration below 5", { options: { max_duration_seconds: 4 } }],
    ["a priority beyond int32", { options: { priority: 2 ** 31 } }],
  ])("§8.1 refuses %s with 400", async (_what, wrong) => {
    const before = (await request("GET", "/schedules")).body.schedules.length;
    const refused = await create(wrong);
    expect([refused.status, refused.body.code]).toEqual([400, undefined]);
    expect((await request("GET", "/schedules")).body.schedules).toHaveLength(before);
  });

  test("§8.1 takes every option", async () => {
    const options = {
      queue: { name: "task/hello" },
      concurrency_key: "k",
      priority: -3,
      ttl: "10m",
      max_duration_seconds: 60,
    };
    expect((await create({ options })).status).toBe(201);
  });
});

describe("§8 §1.5 permissions, on both prefixes", () => {
  test.each([
    ["GET", "", "runs:read", 200],
    ["POST", "", "runs:create", 201],
    ["GET", "/{id}", "runs:read", 200],
    ["PUT", "/{id}", "runs:create", 200],
    ["POST", "/{id}/activate", "runs:create", 200],
    ["POST", "/{id}/deactivate", "runs:create", 200],
    ["DELETE", "/{id}", "runs:create", 204],
  ] as const)("%s /schedules%s needs %s", async (method, rest, scope, status) => {
    const call = async (prefix: string, key: string) => {
      const path = `${prefix}/schedules${rest.replace("{id}", (await create()).body.id)}`;
      const sent =
        method === "PUT"
          ? body()
          : rest === "" && method === "POST"
            ? body({ deduplication_key: newKey() })
            : undefined;
      return (await server.request(method, path, sent, { key })).status;
    };
    expect(await call("", await server.newKey(server.scope, [scope]))).toBe(status);
    const others = ["runs:create", "runs:read", "runs:manage"].filter((other) => other !== scope);
    expect(await call("", await server.newKey(server.scope, others))).toBe(403);
    expect(await call(server.prefix, (await server.newMember("developer")).token)).toBe(status);
    expect(await call(server.prefix, (await server.newMember("viewer")).token)).toBe(
      scope === "runs:read" ? 200 : 403,
    );
  });
});
