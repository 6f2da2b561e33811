/** Contract 3.1: what a start takes, reuses and refuses. The rest of contract 3: 3-sessions.test.ts. */
import { canonicalJson } from "@helmr/api";
import { seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "../../packages/control-plane/test/support/server.ts";
import * as shapes from "./support/shapes.ts";
import { expectShape } from "./support/shapes.ts";

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

  test("§1.7 metadata comes back with every key it had, also __proto__", async () => {
    const metadata = '{"__proto__":{"a":1},"b":{"__proto__":2}}';
    const raw = `{"task_id":"hello","metadata":${metadata}}`;
    const { status, body } = await server.request("POST", "/sessions", undefined, { raw });
    expect([status, canonicalJson(body.session.metadata)]).toEqual([201, metadata]);
  });

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

  test("§3.1 workspace_id: an own one is attached, another task's sandbox → 409", async () => {
    const { body } = await start();
    const { workspace_id } = body.session;
    expect((await start({ workspace_id })).body.session.workspace_id).toBe(workspace_id);
    await sql`update workspaces set sandbox_id = 'other' where id = ${workspace_id}`.execute(server.db);
    await refused({ workspace_id }, 409, "workspace_sandbox_incompatible");
  });
});
