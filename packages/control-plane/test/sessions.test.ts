/** Sessions over HTTP: start with all its rules, read, patch, close, cancel, expire. */
import { createRun, createSecretCipher, expireSessions, putSecret, sweepIdempotencyKeys } from "@helmr/store";
import { type SeededTask, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { finishRun } from "./support/runs.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let task: SeededTask;
beforeAll(async () => {
  server = await startTestServer();
  task = await seedTask(server.db, server.scope, { taskId: "hello" });
});
afterAll(() => server.stop());

const start = (body: object, headers: Record<string, string> = {}) =>
  server.request("POST", "/sessions", { task_id: "hello", ...body }, { headers });
let serial = 0;
function unique(prefix: string): string {
  serial += 1;
  return `${prefix}-${serial}`;
}

describe("start", () => {
  test("creates session, run and workspace", async () => {
    const { status, body } = await start(
      {
        payload: { name: "Ada" },
        tags: [" b", "a", "b"],
        metadata: { z: 1, a: { y: 1, x: 2 } },
        external_id: " one ",
      },
      { "helmr-sdk-version": "0.1.0", "helmr-client-version": "9.9.9" },
    );
    expect(status).toBe(201);
    expect(body).not.toHaveProperty("is_cached");
    expect(body.session).toMatchObject({
      project_id: server.scope.projectId,
      environment_id: server.scope.environmentId,
      task_id: "hello",
      initial_deployment_id: task.deploymentId,
      active_deployment_id: task.deploymentId,
      external_id: "one",
      status: "open",
      activity: "queued",
      can_close: false,
      current_run_id: body.run.id,
      tags: ["a", "b"],
    });
    expect(JSON.stringify(body.session.metadata)).toBe('{"a":{"x":2,"y":1},"z":1}');
    expect(body.session).not.toHaveProperty("result");
    expect(body.session).not.toHaveProperty("terminal_reason");
    expect(body.run).toMatchObject({
      session_id: body.session.id,
      task_id: "hello",
      status: "queued",
      exit_code: null,
      sdk_version: "0.1.0",
      cli_version: "9.9.9",
      api_version: "2026-06-06",
    });
    expect(body.run).not.toHaveProperty("output");
    const read = await server.request("GET", `/sessions/${body.session.id}`);
    expect(read.body).toEqual(body.session);
    expect((await server.request("GET", "/sessions/by-external-id?external_id=one")).body).toEqual(
      body.session,
    );
    expect((await server.request("GET", `/runs/${body.run.id}`)).body).toEqual(body.run);
  });

  test("the request's settings win over the task's, and reach the run", async () => {
    const queue = await start({
      concurrency_key: "k",
      priority: -7,
      ttl: "1h",
      max_duration_seconds: 60,
      retry: { maxAttempts: 3, backoff: { minMs: 10 } },
      queue: { name: "task/hello" },
    });
    const row = await server.db
      .selectFrom("runs")
      .selectAll()
      .where("id", "=", queue.body.run.id)
      .executeTakeFirstOrThrow();
    expect(row).toMatchObject({
      concurrency_key: "k",
      priority: -7,
      ttl: "1h",
      max_duration_seconds: 60,
      retry_policy: { maxAttempts: 3, backoff: { minMs: 10 } },
      queue_name: "task/hello",
      payload: "{}",
    });
    const plain = await start({ max_duration_seconds: 0, payload: null });
    const defaults = await server.db
      .selectFrom("runs")
      .selectAll()
      .where("id", "=", plain.body.run.id)
      .executeTakeFirstOrThrow();
    expect(defaults).toMatchObject({ max_duration_seconds: 900, ttl: null, payload: "null", priority: 0 });
  });

  const refused: [string, object, string][] = [
    ["no task", { task_id: undefined }, "task_id"],
    ["a bad task id", { task_id: "-x" }, "task_id"],
    ["options", { options: {} }, "options: is not accepted here"],
    ["bundle", { bundle: 1 }, "bundle"],
    ["source", { source: null }, "source"],
    ["deployment_id", { deployment_id: "x" }, "deployment_id"],
    ["version", { version: "x" }, "version"],
    ["project_id", { project_id: "x" }, "project_id"],
    ["environment_id", { environment_id: "x" }, "environment_id"],
    ["an undeclared queue", { queue: { name: "nope" } }, 'queue "nope" is not declared'],
    ["a fractional priority", { priority: 1.5 }, "priority"],
    ["a priority over int32", { priority: 2 ** 31 }, "priority"],
    ["a zero ttl", { ttl: "0s" }, "ttl: must be a positive duration"],
    ["a short max duration", { max_duration_seconds: 4 }, "max_duration_seconds"],
    ["a long max duration", { max_duration_seconds: 86_401 }, "max_duration_seconds"],
    ["unknown retry fields", { retry: { maxAttempts: 2, max_attempts: 2 } }, "retry"],
    ["eleven attempts", { retry: { maxAttempts: 11 } }, "retry"],
    ["metadata that is a list", { metadata: [] }, "metadata"],
    ["metadata with U+0000", { metadata: { a: "\0" } }, "metadata"],
    ["eleven tags", { tags: Array.from({ length: 11 }, (_, i) => `t${i}`) }, "tags: at most 10"],
    ["an empty tag", { tags: [" "] }, "tags.0"],
    ["a long tag", { tags: ["é".repeat(65)] }, "tags.0: must be at most 128 bytes"],
    ["a long key", { idempotency_key: "k".repeat(513) }, "idempotency_key"],
    ["a key ttl without a key", { idempotency_key_ttl: "1h" }, "idempotency_key_ttl: is only valid together"],
    ["a long external id", { external_id: "x".repeat(513) }, "external_id"],
    ["a NUL in the external id", { external_id: "a\0b" }, "external_id"],
    ["an expiry in the past", { expires_at: "2020-01-01T00:00:00Z" }, "expires_at: must be in the future"],
    ["an expiry that is no time", { expires_at: "tomorrow" }, "expires_at"],
    ["a workspace that is no UUID", { workspace_id: "w" }, "workspace_id"],
  ];
  test.each(refused)("400 for %s", async (_name, fields, message) => {
    const { status, body } = await start(fields);
    expect({ status, error: body.error }).toEqual({ status: 400, error: expect.stringContaining(message) });
    expect(body).not.toHaveProperty("code");
  });

  test("other unknown keys are ignored", async () => {
    expect((await start({ something_new: true })).status).toBe(201);
  });

  test("a deeply nested payload is refused, a wide one is not", async () => {
    const deep = `{"task_id":"hello","payload":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
    const refusedDeep = await server.request("POST", "/sessions", undefined, { raw: deep });
    expect(refusedDeep.status).toBe(400);
    const wide = await start({
      payload: { text: "\0\ud800 ok", list: Array.from({ length: 5000 }, (_, i) => i) },
    });
    expect(wide.status).toBe(201);
  });

  test("a payload that no guest could be handed is refused, with the limit", async () => {
    expect((await start({ payload: "é".repeat(2 * 1024 * 1024 - 1) })).status).toBe(201);
    const refused = await start({ payload: "é".repeat(2 * 1024 * 1024) });
    expect(refused.status).toBe(400);
    expect(refused.body.error).toMatch(/^payload: must be at most 4194304 bytes as JSON/);
  });

  test("a task that is not deployed", async () => {
    const answer = await start({ task_id: "other" });
    expect(answer).toMatchObject({ status: 409, body: { code: "task_not_deployed" } });
  });

  test("secrets that the task declares must be set", async () => {
    const other = await startTestServer();
    try {
      const secrets = ["A_KEY", "B_KEY"].map((name) => ({ kind: "env", name, env: name }));
      await seedTask(other.db, other.scope, { taskId: "hello", secrets });
      const cipher = createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") });
      await putSecret(other.db, cipher, other.scope, "A_KEY", "x");
      const answer = await other.request("POST", "/sessions", { task_id: "hello" });
      expect(answer.status).toBe(400);
      expect(answer.body.error).toContain("have no value: B_KEY");
      await other.db.deleteFrom("deployment_sandboxes").execute();
      expect(await other.request("POST", "/sessions", { task_id: "hello" })).toMatchObject({
        status: 409,
        body: { code: "sandbox_not_deployed" },
      });
    } finally {
      await other.stop();
    }
  });
});

describe("workspaces", () => {
  test("a given workspace is attached, when it fits", async () => {
    const first = await start({});
    const workspaceId = first.body.session.workspace_id as string;
    const second = await start({ workspace_id: workspaceId });
    expect(second.body.session.workspace_id).toBe(workspaceId);
    expect(await start({ workspace_id: crypto.randomUUID() })).toMatchObject({ status: 404 });
    await sql`update workspaces set sandbox_id = 'other' where id = ${workspaceId}`.execute(server.db);
    expect(await start({ workspace_id: workspaceId })).toMatchObject({
      status: 409,
      body: { code: "workspace_sandbox_incompatible" },
    });
  });

  test("a workspace made with more than the sandbox has now", async () => {
    const { body } = await start({});
    const sandbox = await server.db
      .selectFrom("deployment_sandboxes")
      .selectAll()
      .where("id", "=", task.deploymentSandboxId)
      .executeTakeFirstOrThrow();
    const id = crypto.randomUUID();
    const definition = structuredClone(sandbox.definition) as { definition: { resources: { cpu: number } } };
    definition.definition.resources.cpu = 64;
    await server.db
      .insertInto("deployment_sandboxes")
      .values({ ...sandbox, id, sandbox_id: "bigger", definition: JSON.stringify(definition) })
      .execute();
    await sql`update workspaces set deployment_sandbox_id = ${id} where id = ${body.session.workspace_id}`.execute(
      server.db,
    );
    expect(await start({ workspace_id: body.session.workspace_id })).toMatchObject({
      status: 409,
      body: { code: "workspace_resource_floor_unsatisfied" },
    });
  });
});

describe("idempotency", () => {
  test("the same key gives the same session and its first run", async () => {
    const key = unique("key");
    const first = await start({ idempotency_key: key, payload: { a: 1, b: 2 } });
    const again = await start({
      idempotency_key: key,
      payload: { b: 2, a: 1 },
      metadata: { other: true },
      tags: ["t"],
    });
    expect(again.status).toBe(200);
    expect(again.body).toEqual({ ...first.body, is_cached: true });
  });

  test("another request under the same key", async () => {
    const key = unique("key");
    await start({ idempotency_key: key, external_id: unique("ext") });
    expect(await start({ idempotency_key: key })).toMatchObject({
      status: 409,
      body: { code: "idempotency_external_id_mismatch" },
    });
    const plain = unique("key");
    await start({ idempotency_key: plain });
    expect(await start({ idempotency_key: plain, payload: 1 })).toMatchObject({
      status: 409,
      body: { code: "idempotency_fingerprint_mismatch" },
    });
  });

  test("a key that is over starts anew", async () => {
    const key = unique("key");
    const first = await start({ idempotency_key: key, idempotency_key_ttl: "1h" });
    await sql`update idempotency_keys set expires_at = now() where key = ${key}`.execute(server.db);
    const second = await start({ idempotency_key: key, payload: "other" });
    expect(second.status).toBe(201);
    expect(second.body.session.id).not.toBe(first.body.session.id);
    await sql`update idempotency_keys set expires_at = now() where key = ${key}`.execute(server.db);
    expect(await sweepIdempotencyKeys(server.db, 10)).toBe(1);
    expect(await sweepIdempotencyKeys(server.db, 10)).toBe(0);
  });

  test("concurrent starts with one key: one session, the others are told to ask again or get it", async () => {
    const key = unique("key");
    const answers = await Promise.all(Array.from({ length: 8 }, () => start({ idempotency_key: key })));
    expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1);
    for (const answer of answers.filter(({ status }) => status === 202)) {
      expect(answer.body).toEqual({ error: "session_start_pending", code: "idempotency_pending" });
      expect(answer.headers.get("retry-after")).toBe("1");
    }
    expect(answers.every(({ status }) => [200, 201, 202].includes(status))).toBe(true);
    const after = await start({ idempotency_key: key });
    expect(after.body).toMatchObject({ is_cached: true });
    const ids = answers.filter(({ status }) => status !== 202).map(({ body }) => body.session.id);
    expect(new Set([...ids, after.body.session.id]).size).toBe(1);
  });

  test("a start in flight answers 202 at once", async () => {
    const key = unique("key");
    const lockName = `${server.scope.environmentId} session.start:hello ${key}`;
    await server.db.transaction().execute(async (tx) => {
      await sql`select pg_advisory_xact_lock(hashtextextended(${lockName}, 0))`.execute(tx);
      expect(await start({ idempotency_key: key })).toMatchObject({
        status: 202,
        body: { code: "idempotency_pending" },
      });
    });
    expect((await start({ idempotency_key: key })).status).toBe(201);
  });
});

describe("external ids", () => {
  test("an open session is found again with its current run; metadata and tags do not matter", async () => {
    const external_id = unique("ext");
    const first = await start({ external_id });
    const again = await start({ external_id, tags: ["x"] });
    expect(again).toMatchObject({ status: 200, body: { is_cached: true, run: { id: first.body.run.id } } });
    expect(await start({ external_id, payload: 1 })).toMatchObject({
      status: 409,
      body: { code: "session_fingerprint_mismatch" },
    });
  });

  test.each(["closed", "cancelled", "expired"])("a session that is %s", async (status) => {
    const external_id = unique("ext");
    const { body } = await start({ external_id });
    await sql`update sessions set status = ${status} where id = ${body.session.id}`.execute(server.db);
    expect(await start({ external_id })).toMatchObject({ status: 409, body: { code: "session_terminal" } });
  });

  test("concurrent starts with one external id: one session", async () => {
    const external_id = unique("ext");
    const answers = await Promise.all(Array.from({ length: 8 }, () => start({ external_id })));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 200, 200, 200, 201]);
    expect(new Set(answers.map(({ body }) => body.session.id)).size).toBe(1);
    const { rows } = await sql<{
      n: number;
    }>`select count(*)::int as n from runs r join sessions s on s.id = r.session_id
      where s.external_id = ${external_id}`.execute(server.db);
    expect(rows).toEqual([{ n: 1 }]);
  });

  test("a key on a found session is kept", async () => {
    const external_id = unique("ext");
    const first = await start({ external_id });
    const idempotency_key = unique("key");
    expect((await start({ external_id, idempotency_key })).body.is_cached).toBe(true);
    await server.request("POST", `/sessions/${first.body.session.id}/cancel`, {});
    expect(await start({ external_id, idempotency_key })).toMatchObject({
      status: 200,
      body: { session: { id: first.body.session.id } },
    });
  });
});

describe("start and wait", () => {
  const startAndWait = (body: object) =>
    server.request("POST", "/sessions/start-and-wait", { task_id: "hello", ...body });

  test("answers with the ended run", async () => {
    const external_id = unique("wait");
    const waiting = startAndWait({ external_id, timeout_seconds: 20 });
    let sessionId: string | undefined;
    while (sessionId === undefined) {
      sessionId = (await server.request("GET", `/sessions?external_id=${external_id}`)).body.sessions[0]?.id;
    }
    await server.request("POST", `/sessions/${sessionId}/cancel`, { reason: "enough" });
    const { status, body } = await waiting;
    expect(status).toBe(200);
    expect(body).toMatchObject({
      run: { status: "cancelled" },
      session: { status: "cancelled", can_close: false },
    });
    expect(body).not.toHaveProperty("timed_out");
  });

  test("answers with the running one when the time is over", async () => {
    const { status, body } = await startAndWait({ timeout_seconds: 1 });
    expect(status).toBe(200);
    expect(body).toMatchObject({ timed_out: true, run: { status: "queued" } });
  });
});

describe("reading", () => {
  test("lists are filtered, last updated first", async () => {
    const other = await startTestServer();
    try {
      await seedTask(other.db, other.scope, { taskId: "b" });
      await other.request("POST", "/sessions", { task_id: "b" });
      await seedTask(other.db, other.scope, { taskId: "a" });
      const ids: string[] = [];
      for (let i = 0; i < 3; i += 1)
        ids.unshift((await other.request("POST", "/sessions", { task_id: "a" })).body.session.id);
      const list = async (query: string) =>
        (await other.request("GET", `/sessions?${query}`)).body.sessions.map(
          (each: { id: string }) => each.id,
        );
      expect(await list("task_id=a")).toEqual(ids);
      expect(await list("task_id=a&limit=2")).toEqual(ids.slice(0, 2));
      expect(await list("")).toHaveLength(4);
      await other.request("POST", `/sessions/${ids[2]}/cancel`, {});
      expect(await list("task_id=a")).toEqual([ids[2], ids[0], ids[1]]);
      expect(await list("status=cancelled")).toEqual([ids[2]]);
      expect(await list("status=open&task_id=a")).toEqual([ids[0], ids[1]]);
      expect(await list("status=all")).toHaveLength(4);
      expect(await list("external_id=nothing")).toEqual([]);
      for (const bad of [
        "status=live",
        "limit=0",
        "limit=201",
        "limit=x",
        "project_id=p",
        "environment_id=e",
        "task_id=-",
      ]) {
        expect({ bad, status: (await other.request("GET", `/sessions?${bad}`)).status }).toEqual({
          bad,
          status: 400,
        });
      }
    } finally {
      await other.stop();
    }
  });

  test("unknown and malformed ids", async () => {
    for (const path of ["", "/runs"]) {
      expect(await server.request("GET", `/sessions/${crypto.randomUUID()}${path}`)).toMatchObject({
        status: 404,
        body: { error: "session not found" },
      });
      expect(await server.request("GET", `/sessions/nope${path}`)).toMatchObject({ status: 400 });
      expect(await server.request("GET", `/sessions/by-external-id${path}?external_id=none`)).toMatchObject({
        status: 404,
      });
      expect(await server.request("GET", `/sessions/by-external-id${path}`)).toMatchObject({ status: 400 });
    }
    for (const verb of ["close", "cancel"]) {
      expect(await server.request("POST", `/sessions/${crypto.randomUUID()}/${verb}`, {})).toMatchObject({
        status: 404,
      });
    }
    expect(await server.request("PATCH", `/sessions/${crypto.randomUUID()}`, {})).toMatchObject({
      status: 404,
    });
  });

  test("a session's runs in turn order", async () => {
    const external_id = unique("runs");
    const { body } = await start({ external_id });
    const second = await createRun(server.db, server.scope, {
      sessionId: body.session.id,
      deploymentId: task.deploymentId,
      deploymentTaskId: task.deploymentTaskId,
      deploymentVersion: "x",
      workspaceId: body.session.workspace_id,
      taskId: "hello",
      turnIndex: 1,
      previousRunId: body.run.id,
      queueName: "task/hello",
      payloadJson: "{}",
      retryPolicy: { enabled: false },
      maxDurationSeconds: 60,
      apiVersion: "2026-06-06",
    });
    await finishRun(server, body.run.id);
    const { body: list } = await server.request(
      "GET",
      `/sessions/by-external-id/runs?external_id=${external_id}`,
    );
    expect(list.runs).toMatchObject([
      {
        run_id: body.run.id,
        turn_index: 0,
        status: "succeeded",
        terminal_outcome: "succeeded",
        execution_status: "finished",
      },
      { run_id: second.id, turn_index: 1, status: "queued", previous_run_id: body.run.id },
    ]);
    expect(list.runs[1]).not.toHaveProperty("ended_at");
    expect((await server.request("GET", `/sessions/${body.session.id}/runs`)).body).toEqual(list);
  });

  test("activity follows the current run", async () => {
    const { body } = await start({});
    const activity = async () => (await server.request("GET", `/sessions/${body.session.id}`)).body;
    expect(await activity()).toMatchObject({ activity: "queued", can_close: false });
    await finishRun(server, body.run.id, async () => {
      expect(await activity()).toMatchObject({ activity: "running", can_close: false });
    });
    expect(await activity()).toMatchObject({ activity: "idle", can_close: true, status: "open" });
    expect(await activity()).not.toHaveProperty("result");
    expect((await server.request("GET", `/runs/${body.run.id}`)).body).toMatchObject({
      status: "succeeded",
      output: { done: true },
    });
  });
});

describe("patch", () => {
  test("metadata, tags and a later expiry", async () => {
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const later = new Date(Date.now() + 7_200_000).toISOString();
    const { body } = await start({ expires_at: soon, metadata: { a: 1 } });
    const patch = (change: object) => server.request("PATCH", `/sessions/${body.session.id}`, change);
    expect((await patch({ metadata: { b: 2 }, tags: ["x"], expires_at: later })).body).toMatchObject({
      metadata: { b: 2 },
      tags: ["x"],
      expires_at: later,
    });
    expect((await patch({})).body).toMatchObject({ metadata: { b: 2 }, tags: ["x"] });
    expect((await patch({ tags: [] })).body).not.toHaveProperty("tags");
    expect(await patch({ expires_at: soon })).toMatchObject({
      status: 400,
      body: { code: "session_expires_at_not_extendable" },
    });
    expect((await patch({ status: "closed" })).status).toBe(400);
    const without = await start({});
    expect(
      await server.request("PATCH", `/sessions/${without.body.session.id}`, { expires_at: later }),
    ).toMatchObject({ status: 400, body: { code: "session_expires_at_not_extendable" } });
  });

  test("by external id, and not when the session is over", async () => {
    const external_id = unique("patch");
    await start({ external_id });
    const path = `/sessions/by-external-id?external_id=${external_id}`;
    expect((await server.request("PATCH", path, { tags: ["t"] })).body.tags).toEqual(["t"]);
    await server.request("POST", `/sessions/by-external-id/cancel?external_id=${external_id}`, {});
    expect(await server.request("PATCH", path, {})).toMatchObject({
      status: 409,
      body: { code: "session_terminal" },
    });
  });
});

describe("close and cancel", () => {
  test("a session closes when its run has ended", async () => {
    const external_id = unique("close");
    const { body } = await start({ external_id });
    const close = (reason: object) =>
      server.request("POST", `/sessions/by-external-id/close?external_id=${external_id}`, reason);
    expect(await close({})).toMatchObject({ status: 409, body: { code: "close_run_active" } });
    await finishRun(server, body.run.id);
    const closed = await close({ reason: "done" });
    expect(closed.body).toMatchObject({
      status: "closed",
      activity: "idle",
      can_close: false,
      terminal_reason: { reason: "done", origin: "api" },
    });
    expect(closed.body).not.toHaveProperty("result");
    expect(closed.body).not.toHaveProperty("error");
    expect(await close({})).toMatchObject({ status: 409, body: { code: "session_terminal" } });
    expect(await server.request("POST", `/sessions/${body.session.id}/cancel`, {})).toMatchObject({
      status: 409,
      body: { code: "session_terminal" },
    });
  });

  test("closing needs a body", async () => {
    const { body } = await start({});
    expect((await server.request("POST", `/sessions/${body.session.id}/close`)).status).toBe(400);
    expect((await server.request("POST", `/sessions/${body.session.id}/cancel`)).status).toBe(400);
  });

  test("a session whose time is over becomes expired when it is closed", async () => {
    const { body } = await start({ expires_at: new Date(Date.now() + 3_600_000).toISOString() });
    await finishRun(server, body.run.id);
    await sql`update sessions set expires_at = now() - interval '1 second' where id = ${body.session.id}`.execute(
      server.db,
    );
    const answer = await server.request("POST", `/sessions/${body.session.id}/close`, {});
    expect(answer).toMatchObject({
      status: 200,
      body: { status: "expired", error: { name: "SessionExpired" } },
    });
    expect(answer.body).toHaveProperty("expired_at");
  });

  test("cancel takes the current run along, once", async () => {
    const { body } = await start({});
    const cancel = () => server.request("POST", `/sessions/${body.session.id}/cancel`, { reason: "stop" });
    const first = await cancel();
    expect(first).toMatchObject({
      status: 200,
      body: {
        status: "cancelled",
        error: { name: "TaskCancelled", message: "stop", details: { origin: "api" } },
        terminal_reason: { reason: "stop", origin: "api" },
      },
    });
    expect((await cancel()).body).toEqual(first.body);
    expect((await server.request("GET", `/runs/${body.run.id}`)).body.status).toBe("cancelled");
  });

  test("due sessions expire with their runs", async () => {
    const { body } = await start({ expires_at: new Date(Date.now() + 3_600_000).toISOString() });
    expect(await expireSessions(server.db, 100)).toEqual({ expired: 0, cancelledRuns: [] });
    await sql`update sessions set expires_at = now() where id = ${body.session.id}`.execute(server.db);
    expect(await expireSessions(server.db, 100)).toEqual({
      expired: 1,
      cancelledRuns: [{ runId: body.run.id, workerInstanceId: null }],
    });
    expect((await server.request("GET", `/sessions/${body.session.id}`)).body).toMatchObject({
      status: "expired",
      error: { name: "SessionExpired", message: "session expired" },
      terminal_reason: { reason: "session_expired" },
    });
    expect(await expireSessions(server.db, 100)).toMatchObject({ expired: 0 });
  });
});
