/** Contract 2.1 and 3: sessions, from the start to every way they end. Streams of sessions are contract 4. */
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
const refused = async (body: object, status: number, code?: string) => {
  const answer = await start(body);
  expect([answer.status, answer.body.code, Object.keys(answer.body)]).toEqual([
    status,
    code,
    code === undefined ? ["error"] : ["error", "code"],
  ]);
};
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

describe("§3.1 start", () => {
  test("§2.1 §2.2 the answer's session and run have exactly the contract's fields", async () => {
    const bare = await start();
    expect(bare.status).toBe(201);
    expectShape(bare.body, shapes.sessionStart);
    for (const absent of [
      "external_id",
      "tags",
      "result",
      "error",
      "timed_out",
      "terminal_reason",
      "expires_at",
    ]) {
      expect(bare.body.session).not.toHaveProperty(absent);
    }
    for (const absent of ["output", "pending_wait", "attempt_number"])
      expect(bare.body.run).not.toHaveProperty(absent);
    expect([bare.body.run.exit_code, bare.body.run.metadata, bare.body.run.version]).toEqual([
      null,
      {},
      bare.body.run.deployment_version,
    ]);
    const full = await start({
      payload: [1],
      external_id: unique(),
      queue: { name: "task/hello" },
      concurrency_key: "k",
      priority: -(2 ** 31),
      ttl: "1h30m",
      max_duration_seconds: 86_400,
      retry: { maxAttempts: 10, backoff: { minMs: 1, maxMs: 2, factor: 1.5, jitter: "none" } },
      metadata: { b: 1, a: { d: 1, c: 2 } },
      tags: ["b", " a ", "b"],
      idempotency_key: unique(),
      idempotency_key_ttl: "7d",
      expires_at: later(3_600_000),
    });
    expect(full.status).toBe(201);
    expectShape(full.body, shapes.sessionStart);
    expect(full.body.session.tags).toEqual(["a", "b"]);
    expect(JSON.stringify(full.body.session.metadata)).toBe('{"a":{"c":2,"d":1},"b":1}');
  });

  test.each(["options", "bundle", "source", "deployment_id", "version", "project_id", "environment_id"])(
    "§3.1 %s is refused",
    (field) => refused({ [field]: "x" }, 400),
  );

  test("§3.1 other unknown keys are ignored, also within queue", async () => {
    expect((await start({ unknown: 1, queue: { name: "task/hello", unknown: 1 } })).status).toBe(201);
  });

  test.each([
    [{ task_id: "" }],
    [{ task_id: "-a" }],
    [{ task_id: "a".repeat(129) }],
    [{ queue: { name: "not-declared" } }],
    [{ queue: {} }],
    [{ priority: 2 ** 31 }],
    [{ ttl: "0s" }],
    [{ ttl: "1w" }],
    [{ ttl: "1d2h" }],
    [{ max_duration_seconds: 4 }],
    [{ max_duration_seconds: 86_401 }],
    [{ retry: { maxAttempts: 2, unknown: 1 } }],
    [{ retry: { max_attempts: 2 } }],
    [{ retry: { enabled: false, maxAttempts: 2 } }],
    [{ retry: {} }],
    [{ metadata: [] }],
    [{ tags: Array.from({ length: 11 }, (_, index) => `t${index}`) }],
    [{ tags: ["é".repeat(65)] }],
    [{ tags: ["  "] }],
    [{ idempotency_key: "k".repeat(513) }],
    [{ idempotency_key_ttl: "1h" }],
    [{ external_id: "é".repeat(257) }],
    [{ external_id: "a\0" }],
    [{ concurrency_key: "k".repeat(513) }],
    [{ expires_at: "tomorrow" }],
    [{ expires_at: "2020-01-01T00:00:00Z" }],
    [{ workspace_id: "not-a-uuid" }],
  ])("§1.7 §3.1 400 for %j", (body) => refused(body, 400));

  test.each(["300ms", "1.5h", "2h45m", "1ns", "7d", "1µs"])("§1.7 ttl %s", async (ttl) => {
    expect((await start({ ttl })).status).toBe(201);
  });

  test("§3.1 idempotency: the same request is the same session and first run, metadata and tags do not count", async () => {
    const idempotency_key = unique();
    const first = await start({ idempotency_key, payload: { a: 1, b: 2 } });
    const again = await start({
      idempotency_key: ` ${idempotency_key} `,
      payload: { b: 2, a: 1 },
      tags: ["x"],
      metadata: { x: 1 },
    });
    expect([again.status, again.body]).toEqual([200, { ...first.body, is_cached: true }]);
  });

  test.each([
    [{ payload: 1 }],
    [{ retry: { maxAttempts: 2 } }],
    [{ expires_at: "2999-01-01T00:00:00Z" }],
    [{ queue: { name: "task/hello" } }],
    [{ concurrency_key: "k" }],
    [{ priority: 1 }],
    [{ ttl: "1h" }],
    [{ max_duration_seconds: 60 }],
  ])("§3.1 idempotency: %j is part of the fingerprint → 409", async (change) => {
    const idempotency_key = unique();
    await start({ idempotency_key });
    await refused({ idempotency_key, ...change }, 409, "idempotency_fingerprint_mismatch");
  });

  test("§3.1 idempotency is looked up first, before the current deployment is judged", async () => {
    const other = await startTestServer();
    await seedTask(other.db, other.scope, { taskId: "hello" });
    const again = () => other.request("POST", "/sessions", { task_id: "hello", idempotency_key: "k" });
    const first = await again();
    await sql`delete from current_deployments`.execute(other.db);
    expect(await again()).toMatchObject({ status: 200, body: { session: { id: first.body.session.id } } });
    const answer = await other.request("POST", "/sessions", { task_id: "hello" });
    expect([answer.status, answer.body.code]).toEqual([409, "task_not_deployed"]);
    await other.stop();
  });

  test("§3.1 idempotency: another external_id → 409 idempotency_external_id_mismatch; per task", async () => {
    const idempotency_key = unique();
    await start({ idempotency_key, external_id: unique() });
    await refused({ idempotency_key, external_id: unique() }, 409, "idempotency_external_id_mismatch");
    await refused({ idempotency_key, task_id: "other" }, 409, "task_not_deployed");
  });

  test("§3.1 external_id: an open session is found with its current run, another request → 409", async () => {
    const external_id = unique();
    const first = await start({ external_id });
    const again = await start({ external_id: ` ${external_id} `, tags: ["x"] });
    expect([again.status, again.body.is_cached, again.body.run.id]).toEqual([200, true, first.body.run.id]);
    await refused({ external_id, payload: 1 }, 409, "session_fingerprint_mismatch");
  });

  test.each(["closed", "cancelled", "expired", "open but past its expiry"])(
    "§3.1 external_id of a session that is %s → 409 session_terminal",
    async (state) => {
      const external_id = unique();
      const { body } = await start({ external_id });
      if (state.startsWith("open")) await makeDue(body.session.id);
      else await sql`update sessions set status = ${state} where id = ${body.session.id}`.execute(server.db);
      await refused({ external_id }, 409, "session_terminal");
    },
  );

  test("§3.1 the same key in flight → 202, Retry-After: 1, session_start_pending", async () => {
    const idempotency_key = unique();
    const lock = `${server.scope.environmentId} session.start:hello ${idempotency_key}`;
    await server.db.transaction().execute(async (tx) => {
      await sql`select pg_advisory_xact_lock(hashtextextended(${lock}, 0))`.execute(tx);
      const answer = await start({ idempotency_key });
      expect([answer.status, answer.headers.get("retry-after"), answer.body]).toEqual([
        202,
        "1",
        { error: "session_start_pending", code: "idempotency_pending" },
      ]);
    });
    expect((await start({ idempotency_key })).status).toBe(201);
  });

  test("§3.1 409 task_not_deployed; 400 for secrets that the task declares and nobody set", async () => {
    await refused({ task_id: "not-there" }, 409, "task_not_deployed");
    const other = await startTestServer();
    await seedTask(other.db, other.scope, {
      taskId: "hello",
      secrets: [{ kind: "env", name: "TOKEN", env: "TOKEN" }],
    });
    const answer = await other.request("POST", "/sessions", { task_id: "hello" });
    expect([answer.status, answer.body.error]).toEqual([400, expect.stringContaining("TOKEN")]);
    await other.stop();
  });

  test("§3.1 start-and-wait: 200 with timed_out and the run that goes on, or the run at its end", async () => {
    const wait = (body: object) =>
      server.request("POST", "/sessions/start-and-wait", { task_id: "hello", ...body });
    const external_id = unique();
    const waited = await wait({ external_id, timeout_seconds: 1 });
    expect([waited.status, waited.body.timed_out, waited.body.run.status]).toEqual([200, true, "queued"]);
    expectShape(waited.body, shapes.sessionStart);
    await server.request("POST", `/runs/${waited.body.run.id}/cancel`, {});
    const over = await wait({ external_id, timeout_seconds: 60 });
    expect([over.status, over.body.run.status, Object.hasOwn(over.body, "timed_out")]).toEqual([
      200,
      "cancelled",
      false,
    ]);
    for (const timeout_seconds of [1.5, "1", null])
      expect((await wait({ timeout_seconds })).status).toBe(400);
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

  test("§3.1 workspace_id: an own one is attached, another task's sandbox → 409", async () => {
    const { body } = await start();
    const { workspace_id } = body.session;
    expect((await start({ workspace_id })).body.session.workspace_id).toBe(workspace_id);
    await sql`update workspaces set sandbox_id = 'other' where id = ${workspace_id}`.execute(server.db);
    await refused({ workspace_id }, 409, "workspace_sandbox_incompatible");
  });
});
