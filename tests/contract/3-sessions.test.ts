/** Contract 2.1 and 3: what sessions say, how they change, and every way they end. Starting: 3-1-start.test.ts. Streams of sessions are contract 4. */
import { expireSessions } from "@helmr/store";
import { seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leaseRun } from "../../packages/control-plane/test/support/runs.ts";
import { startTestServer, type TestServer } from "../../packages/control-plane/test/support/server.ts";
import * as shapes from "./support/shapes.ts";
import { expectList, expectShape } from "./support/shapes.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope, { taskId: "hello" });
});
afterAll(() => server.stop());

let serial = 0;
const unique = () => {
  serial += 1;
  return `unique-${serial}`;
};
const start = (body: object = {}) => server.request("POST", "/sessions", { task_id: "hello", ...body });
const later = (ms: number) => new Date(Date.now() + ms).toISOString();
/** The session's time is over by the database's clock. */
const makeDue = (id: string) =>
  sql`update sessions set expires_at = now() - interval '1 second' where id = ${id}`.execute(server.db);

describe("§3 routes", () => {
  test("§3 {S} is /sessions/{id}, else 400, or /sessions/by-external-id with external_id, ≤512 bytes", async () => {
    const external_id = unique();
    const { body } = await start({ external_id });
    const byId = await server.request("GET", `/sessions/${body.session.id}`);
    const byExternalId = await server.request(
      "GET",
      `/sessions/by-external-id?external_id=${external_id}&more=1`,
    );
    expect(byId.body).toEqual(byExternalId.body);
    for (const path of [
      "/sessions/not-a-uuid",
      "/sessions/by-external-id",
      "/sessions/by-external-id?external_id=",
      `/sessions/by-external-id?external_id=${"é".repeat(257)}`,
    ]) {
      expect((await server.request("GET", path)).status).toBe(400);
    }
  });

  test("§3 unknown session → 404 session not found, on every route", async () => {
    for (const [method, path, body] of [
      ["GET", "", undefined],
      ["PATCH", "", {}],
      ["POST", "/close", {}],
      ["POST", "/cancel", {}],
      ["GET", "/runs", undefined],
    ] as const) {
      for (const answer of [
        await server.request(method, `/sessions/${crypto.randomUUID()}${path}`, body),
        await server.request(method, `/sessions/by-external-id${path}?external_id=missing`, body),
      ]) {
        expect([answer.status, answer.body]).toEqual([404, { error: "session not found" }]);
      }
    }
  });

  test("§3 GET /sessions: filters, limit 1..200, updated_at desc, no cursor", async () => {
    const external_id = unique();
    const first = (await start({ external_id })).body.session;
    await start();
    await server.request("PATCH", `/sessions/${first.id}`, { tags: ["touched"] });
    const list = async (query: string) => (await server.request("GET", `/sessions?${query}`)).body;
    const all = await list("status=all");
    expectList(all, "sessions", shapes.session);
    expect(all.sessions[0].id).toBe(first.id);
    const times = all.sessions.map(({ updated_at }: { updated_at: string }) => updated_at);
    expect(times).toEqual([...times].sort().reverse());
    expect((await list(`external_id=${external_id}`)).sessions.map(({ id }: { id: string }) => id)).toEqual([
      first.id,
    ]);
    expect((await list("task_id=other")).sessions).toEqual([]);
    expect((await list("status=closed")).sessions).toEqual([]);
    expect((await list("limit=1")).sessions).toHaveLength(1);
    for (const query of ["status=running", "limit=0", "limit=201", "limit=x"]) {
      expect((await server.request("GET", `/sessions?${query}`)).status).toBe(400);
    }
  });
});

describe("§2.1 what a session says", () => {
  const read = async (id: string) => (await server.request("GET", `/sessions/${id}`)).body;

  test("§2.1 activity and can_close follow the current run; the session stays open after it", async () => {
    const { body } = await start();
    const seen = async () => {
      const { status, activity, can_close } = await read(body.session.id);
      return [status, activity, can_close];
    };
    expect(await seen()).toEqual(["open", "queued", false]);
    const run = await leaseRun(server, body.run.id);
    expect(await seen()).toEqual(["open", "running", false]);
    await run.finish({ status: "succeeded", outputJson: "null" });
    expect(await seen()).toEqual(["open", "idle", true]);
    expect(await read(body.session.id)).not.toHaveProperty("result");
    const ended = (await server.request("GET", `/runs/${body.run.id}`)).body;
    expectShape(ended, shapes.run);
    // An output of null is an output: the key is there.
    expect([ended.status, ended.exit_code, ended.output, ended.attempt_number]).toEqual([
      "succeeded",
      0,
      null,
      1,
    ]);
    const { body: runs } = await server.request("GET", `/sessions/${body.session.id}/runs`);
    expectList(runs, "runs", shapes.sessionRun);
    expect(runs.runs).toMatchObject([
      {
        id: body.run.id,
        run_id: body.run.id,
        turn_index: 0,
        status: "succeeded",
        terminal_outcome: "succeeded",
      },
    ]);
  });

  test("§2.1 §3.2 cancel: error TaskCancelled, terminal_reason, the run goes too, once", async () => {
    const { body } = await start();
    const cancel = (reason?: string) =>
      server.request("POST", `/sessions/${body.session.id}/cancel`, { reason });
    const { status, body: session } = await cancel("no longer");
    expect(status).toBe(200);
    expectShape(session, shapes.session);
    expect(session).toMatchObject({
      status: "cancelled",
      activity: "idle",
      can_close: false,
      error: { name: "TaskCancelled", message: "no longer", details: { origin: "api" } },
      terminal_reason: { reason: "no longer", origin: "api" },
    });
    expect(session).not.toHaveProperty("result");
    expect((await server.request("GET", `/runs/${body.run.id}`)).body.status).toBe("cancelled");
    expect(await cancel("again")).toMatchObject({ status: 200, body: session });
  });

  test("§3.2 cancel: the default reason is cancelled; closed and expired → 409", async () => {
    const { body } = await start();
    const path = `/sessions/${body.session.id}/cancel`;
    expect((await server.request("POST", path, {})).body.terminal_reason.reason).toBe("cancelled");
    for (const state of ["closed", "expired"]) {
      await sql`update sessions set status = ${state} where id = ${body.session.id}`.execute(server.db);
      expect(await server.request("POST", path, {})).toMatchObject({
        status: 409,
        body: { code: "session_terminal" },
      });
    }
  });

  test("§3.2 close: needs a body, no active run, and an open session; past its expiry it becomes expired", async () => {
    const { body } = await start();
    const path = `/sessions/${body.session.id}/close`;
    expect((await server.request("POST", path)).status).toBe(400);
    expect(await server.request("POST", path, {})).toMatchObject({
      status: 409,
      body: { code: "close_run_active" },
    });
    await (await leaseRun(server, body.run.id)).finish();
    const closed = await server.request("POST", path, {});
    expect(closed.status).toBe(200);
    expectShape(closed.body, shapes.session);
    expect(closed.body).toMatchObject({
      status: "closed",
      terminal_reason: { reason: "closed", origin: "api" },
    });
    for (const absent of ["result", "error"]) expect(closed.body).not.toHaveProperty(absent);
    expect(await server.request("POST", path, {})).toMatchObject({
      status: 409,
      body: { code: "session_terminal" },
    });

    const due = (await start({ expires_at: later(3_600_000) })).body;
    await (await leaseRun(server, due.run.id)).finish();
    await makeDue(due.session.id);
    expect((await read(due.session.id)).can_close).toBe(false);
    const expired = await server.request("POST", `/sessions/${due.session.id}/close`, {});
    expect([expired.status, expired.body.status]).toEqual([200, "expired"]);
    expectShape(expired.body, shapes.session);
  });

  test("§2.1 expiry: error SessionExpired, terminal_reason session_expired, by the sweeper", async () => {
    const { body } = await start({ expires_at: later(3_600_000) });
    await makeDue(body.session.id);
    await expireSessions(server.db, 100);
    const session = await read(body.session.id);
    expectShape(session, shapes.session);
    expect(session).toMatchObject({
      status: "expired",
      error: { name: "SessionExpired", message: "session expired" },
      terminal_reason: { reason: "session_expired" },
    });
    expect(session).toHaveProperty("expired_at");
  });

  test.each([
    ['{"ok":true,"value":{"a":1}}', { result: { a: 1 } }],
    ['{"ok":true}', { result: null }],
    ['{"ok":true,"value":null}', { result: null }],
    ['{"ok":false}', { error: { name: "TaskFailed", message: "task failed" } }],
    ['{"ok":false,"error":{"name":"X"}}', { error: { name: "X" } }],
    ["[1]", { result: [1] }],
    ["null", { result: null }],
  ])("§2.1 the stored envelope %s", async (stored, shown) => {
    const { body } = await start();
    await sql`update sessions set result = ${stored}::json where id = ${body.session.id}`.execute(server.db);
    const { result, error } = await read(body.session.id);
    expect({
      ...(result === undefined ? {} : { result }),
      ...(error === undefined ? {} : { error }),
    }).toEqual(shown);
  });
});

describe("§3 §3.2 patch", () => {
  const patch = (id: string, body: object) => server.request("PATCH", `/sessions/${id}`, body);

  test("§3 metadata, tags and expiry; 409 when it is not open", async () => {
    const { body } = await start({ expires_at: later(3_600_000) });
    const changed = await patch(body.session.id, {
      metadata: { a: 1 },
      tags: ["x"],
      expires_at: later(7_200_000),
    });
    expect(changed.status).toBe(200);
    expectShape(changed.body, shapes.session);
    expect(changed.body).toMatchObject({ metadata: { a: 1 }, tags: ["x"] });
    expect((await patch(body.session.id, { tags: [] })).body).not.toHaveProperty("tags");
    expect((await patch(body.session.id, { unknown: 1 })).status).toBe(400);
    await server.request("POST", `/sessions/${body.session.id}/cancel`, {});
    expect(await patch(body.session.id, {})).toMatchObject({
      status: 409,
      body: { code: "session_terminal" },
    });
  });

  test("§3.2 expires_at only extends an existing, later, future expiry → else 400 with the code", async () => {
    const none = (await start()).body.session;
    const some = (await start({ expires_at: later(3_600_000) })).body.session;
    const due = (await start({ expires_at: later(3_600_000) })).body.session;
    await makeDue(due.id);
    for (const [id, expires_at] of [
      [none.id, later(1000)],
      [some.id, some.expires_at],
      [some.id, later(1000)],
      [due.id, later(1000)],
    ]) {
      expect(await patch(id, { expires_at })).toMatchObject({
        status: 400,
        body: { code: "session_expires_at_not_extendable" },
      });
    }
  });
});
