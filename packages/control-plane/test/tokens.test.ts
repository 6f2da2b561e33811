/** Tokens over HTTP (contract 5, 5.1): made, listed, ended once, also from outside by their two secrets. */
import { createHmac } from "node:crypto";
import { seedEnvironment, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leaseRun } from "./support/runs.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());

const post = (path: string, body?: unknown) => server.request("POST", path, body);
const create = async (body: object = {}) => (await post("/tokens", body)).body;
const complete = (id: string, body: unknown = {}) => post(`/tokens/${id}/complete`, body);
const read = async (id: string) => (await server.request("GET", `/tokens/${id}`)).body;
const publicly = (id: string, bearer: string | null, body: unknown = {}) =>
  server.request("POST", `/v1/tokens/${id}/complete`, body, { key: bearer });
/** As anybody calls the URL: no header. */
const callBack = (url: string, body: unknown = {}) =>
  server.request("POST", new URL(url).pathname.slice("/api".length), body, { key: null });
const setTimeoutAt = (id: string, ago: string) =>
  sql`update tokens set timeout_at = now() - ${ago}::interval where id = ${id}`.execute(server.db);
const unknown = "019a0000-0000-7000-8000-000000000000";

describe("§5.1 create", () => {
  test("gives the token with its secrets, which only create gives", async () => {
    const { status, body } = await post("/tokens", {
      timeout: "10m",
      tags: ["b", "a"],
      metadata: { for: "x" },
    });
    expect(status).toBe(201);
    expect(body).toMatchObject({ status: "pending", tags: ["a", "b"], metadata: { for: "x" } });
    const secret = (kind: string) =>
      createHmac("sha256", Buffer.alloc(32, 9))
        .update(`helmr:${kind}:default:${body.id}`)
        .digest("base64url");
    expect(body.callback_url).toBe(
      `${server.publicUrl}/api/v1/tokens/${body.id}/callback/hlmr_callback_${secret("callback")}`,
    );
    expect(body.public_access_token).toBe(`hlmr_public_access_${secret("public-access")}`);
    const { callback_url: _url, public_access_token: _token, ...rest } = body;
    expect(await read(body.id)).toEqual(rest);
    const dump = await sql`select t::text as row from tokens t where id = ${body.id}`.execute(server.db);
    expect(JSON.stringify(dump.rows)).not.toContain(secret("callback"));
  });

  const second = 1000;
  test.each([
    ["nothing", {}, 7 * 86_400 * second],
    ["null", { timeout: null }, 7 * 86_400 * second],
    ["a duration", { timeout: "7d" }, 7 * 86_400 * second],
    ["milliseconds", { timeout: 90_000 }, 90 * second],
    [
      "parts that are summed",
      { timeout: { hours: 1, minutes: 1, seconds: 1, milliseconds: 500, duration: "2h" } },
      10_861.5 * second,
    ],
  ])("timeout: %s", async (_name, body, expectedMs) => {
    const token = await create(body);
    const { rows } = await sql<{
      ms: number;
    }>`select extract(epoch from timeout_at - created_at)::float8 * 1000 as ms
      from tokens where id = ${token.id}`.execute(server.db);
    expect(rows[0]?.ms).toBeCloseTo(expectedMs, 0);
  });

  test.each([
    [{ timeout: 0 }],
    [{ timeout: -1 }],
    [{ timeout: "0s" }],
    [{ timeout: "soon" }],
    [{ timeout: {} }],
    [{ timeout: { days: 1 } }],
    [{ timeout: { duration: "x" } }],
    [{ timeout: { minutes: 1, seconds: -60 } }],
    [{ timeout: "200000h", metadata: [] }],
    [{ timeout: 1e16 }],
    [{ timeout: [] }],
    [{ tags: [""] }],
    [{ idempotency_key: "" }],
    [{ project_id: "x" }],
  ])("400 for %j", async (body) => {
    expect(await post("/tokens", body)).toMatchObject({ status: 400, body: { error: expect.any(String) } });
  });

  test("with one key is one token with the same secrets, also at once; with other options a 409", async () => {
    const body = { timeout: "1h", tags: ["a"], metadata: { n: 1 }, idempotency_key: "k" };
    const answers = await Promise.all(Array.from({ length: 5 }, () => post("/tokens", body)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 201]);
    expect(new Set(answers.map((answer) => JSON.stringify(answer.body))).size).toBe(1);
    for (const other of [{ timeout: "2h" }, { tags: [] }, { metadata: {} }]) {
      expect(await post("/tokens", { ...body, ...other })).toMatchObject({
        status: 409,
        body: { code: "idempotency_fingerprint_mismatch" },
      });
    }
  });
});

describe("§5 list", () => {
  test("oldest first, by status, in pages", async () => {
    const own = await seedEnvironment(server.db);
    const key = await server.newKey(own.scope);
    const call = (method: string, path: string, body?: unknown) =>
      server.request(method, path, body, { key });
    const ids: string[] = [];
    for (let i = 0; i < 5; i += 1) ids.push((await call("POST", "/tokens", {})).body.id);
    const [pending, completed, cancelled, expired, last] = ids as [string, string, string, string, string];
    await call("POST", `/tokens/${completed}/complete`, {});
    await call("POST", `/tokens/${cancelled}/cancel`);
    await setTimeoutAt(expired, "1 second");
    const list = async (query: string) => {
      const { body } = await call("GET", `/tokens${query}`);
      return { ids: body.tokens.map((token: { id: string }) => token.id), next: body.next_cursor };
    };
    expect(await list("")).toEqual({ ids, next: undefined });
    expect(await list("?limit=2")).toEqual({ ids: [pending, completed], next: completed });
    expect(await list(`?limit=2&cursor=${completed}`)).toEqual({ ids: [cancelled, expired], next: expired });
    expect(await list(`?limit=2&after=${expired}`)).toEqual({ ids: [last], next: undefined });
    expect((await list("?status=pending")).ids).toEqual([pending, last]);
    expect((await list("?state=expired")).ids).toEqual([expired]);
    expect((await list("?status=completed")).ids).toEqual([completed]);
    expect((await list("?status=cancelled")).ids).toEqual([cancelled]);
    for (const bad of ["?status=open", "?limit=501", "?cursor=x"]) {
      expect((await call("GET", `/tokens${bad}`)).status).toBe(400);
    }
  });
});

describe("§5.1 the end", () => {
  test("completes once: the same data again is already_completed, other data a conflict", async () => {
    const { id } = await create();
    expect(await complete(id, { data: { b: 1, a: [null] } })).toMatchObject({
      status: 200,
      body: { status: "completed", token: { id, status: "completed", data: { b: 1, a: [null] } } },
    });
    expect((await complete(id, { data: { a: [null], b: 1 } })).body.status).toBe("already_completed");
    expect(await complete(id, { data: 1 })).toMatchObject({
      status: 409,
      body: { code: "token_completion_conflict" },
    });
    expect(await post(`/tokens/${id}/cancel`, {})).toMatchObject({
      status: 404,
      body: { code: "token_not_found" },
    });
  });

  test("of completions with different data one wins; no data is null", async () => {
    const { id } = await create();
    const answers = await Promise.all([1, 2, 3, 4, 5].map((data) => complete(id, { data })));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409]);
    const { id: other } = await create();
    expect((await complete(other)).body.token.data).toBeNull();
  });

  test("a completion and a cancel at once: exactly one of them", async () => {
    for (let i = 0; i < 5; i += 1) {
      const { id } = await create();
      const [completed, cancelled] = await Promise.all([complete(id), post(`/tokens/${id}/cancel`)]);
      const { status } = await read(id);
      expect([completed.status, cancelled.status]).toEqual(status === "completed" ? [200, 404] : [409, 200]);
    }
  });

  test("cancelled, expired, unknown and elsewhere", async () => {
    const { id } = await create();
    expect(await post(`/tokens/${id}/cancel`)).toMatchObject({
      status: 200,
      body: { id, status: "cancelled" },
    });
    expect(await post(`/tokens/${id}/cancel`, {})).toMatchObject({
      status: 409,
      body: { code: "token_cancelled" },
    });
    expect(await complete(id)).toMatchObject({ status: 409, body: { code: "token_cancelled" } });
    const { id: late } = await create();
    await setTimeoutAt(late, "1 second");
    expect((await read(late)).status).toBe("expired");
    for (const path of ["complete", "cancel"]) {
      expect(await post(`/tokens/${late}/${path}`, {})).toMatchObject({
        status: 410,
        body: { code: "token_expired" },
      });
      expect(await post(`/tokens/${unknown}/${path}`, {})).toMatchObject({
        status: 404,
        body: { code: "token_not_found" },
      });
      expect((await post(`/tokens/x/${path}`, {})).status).toBe(400);
    }
    expect((await server.request("GET", `/tokens/${unknown}`)).body.code).toBe("token_not_found");
    const { id: here } = await create();
    const other = await server.newKey((await seedEnvironment(server.db)).scope);
    const elsewhere = await server.request("POST", `/tokens/${here}/complete`, {}, { key: other });
    expect(elsewhere).toMatchObject({ status: 404, body: { code: "token_not_found" } });
    expect((await complete(here, { data: 1, x: 1 })).status).toBe(400);
    expect((await post(`/tokens/${here}/complete`)).status).toBe(400);
  });

  test("the run that waits for it goes on, and its worker is told", async () => {
    await seedTask(server.db, server.scope);
    const { body } = await post("/sessions", { task_id: "hello" });
    const run = await leaseRun(server, body.run.id);
    const { id } = await create({ timeout: "1h" });
    await run.wait({ kind: "token", tokenId: id });
    const waiting = (await server.request("GET", `/runs/${run.runId}`)).body;
    expect(waiting.pending_wait).toMatchObject({ kind: "token", params: { token_id: id } });
    const told: string[] = [];
    for (const topic of [`run:${run.runId}`, `waits:${run.workerInstanceId}`]) {
      server.bus.subscribe(topic, () => told.push(topic));
    }
    await complete(id, { data: "go" });
    await expect.poll(() => told.length).toBe(2);
    expect((await server.request("GET", `/runs/${run.runId}`)).body.status).toBe("running");
  });
});

describe("§5 from outside", () => {
  test("the callback URL completes without a header, and is recorded as such", async () => {
    const token = await create();
    expect(await callBack(token.callback_url, { data: 5 })).toMatchObject({
      status: 200,
      body: { status: "completed", token: { id: token.id, data: 5 } },
    });
    expect((await callBack(token.callback_url, { data: 5 })).body.status).toBe("already_completed");
    expect((await callBack(token.callback_url, { data: 6 })).body.code).toBe("token_completion_conflict");
    const { rows } = await sql`select actor_kind, actor_id::text, attributes from audit_log
      where action = 'token.complete' and resource_id = ${token.id}`.execute(server.db);
    expect(rows).toEqual([{ actor_kind: "callback_url", actor_id: token.id, attributes: {} }]);
  });

  test("the public access token completes once; the identical retry is answered", async () => {
    const token = await create();
    expect((await publicly(token.id, token.public_access_token, { data: "a" })).body.status).toBe(
      "completed",
    );
    expect((await publicly(token.id, token.public_access_token, { data: "a" })).body.status).toBe(
      "already_completed",
    );
    expect(await publicly(token.id, token.public_access_token, { data: "b" })).toMatchObject({
      status: 409,
      body: { code: "token_completion_conflict" },
    });
    await setTimeoutAt(token.id, "29 days");
    expect((await publicly(token.id, token.public_access_token, { data: "a" })).status).toBe(200);
    await setTimeoutAt(token.id, "30 days");
    expect(await publicly(token.id, token.public_access_token, { data: "a" })).toMatchObject({
      status: 410,
      body: { code: "token_expired" },
    });
    expect((await complete(token.id, { data: "a" })).body.status).toBe("already_completed");
  });

  test("of holders at once one completes", async () => {
    const token = await create();
    const answers = await Promise.all(
      [1, 2, 3, 4].map((data) => publicly(token.id, token.public_access_token, { data })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409]);
  });

  test("a wrong secret is 401, whatever is asked for; a right one hears what the token is", async () => {
    const [token, other] = [await create(), await create()];
    const denied = { status: 401, body: { code: "token_scope_denied" } };
    const bearers = [null, server.key, "x", other.public_access_token, `hlmr_pat_${"A".repeat(43)}`];
    const secret = token.callback_url.split("/").at(-1);
    for (const bearer of [...bearers, secret, token.public_access_token.toUpperCase()]) {
      expect(await publicly(token.id, bearer)).toMatchObject(denied);
      expect(await publicly(unknown, bearer)).toMatchObject(denied);
    }
    const bad = [other.callback_url.split("/").at(-1), token.public_access_token, "x"];
    for (const wrong of bad) {
      expect(await callBack(`${server.publicUrl}/api/v1/tokens/${token.id}/callback/${wrong}`)).toMatchObject(
        denied,
      );
    }
    expect((await read(token.id)).status).toBe("pending");
    await post(`/tokens/${token.id}/cancel`);
    expect((await publicly(token.id, token.public_access_token)).body.code).toBe("token_cancelled");
    await setTimeoutAt(other.id, "1 second");
    expect(await callBack(other.callback_url)).toMatchObject({
      status: 410,
      body: { code: "token_expired" },
    });
    await sql`delete from tokens where id = ${other.id}`.execute(server.db);
    expect(await callBack(other.callback_url)).toMatchObject({
      status: 404,
      body: { code: "token_not_found" },
    });
  });

  test("nothing of an environment that is being deleted", async () => {
    const own = await seedEnvironment(server.db);
    const key = await server.newKey(own.scope);
    const { body } = await server.request("POST", "/tokens", {}, { key });
    await sql`update environments set deleting_at = now() where id = ${own.scope.environmentId}`.execute(
      server.db,
    );
    expect(await callBack(body.callback_url)).toMatchObject({
      status: 404,
      body: { code: "token_not_found" },
    });
    expect((await publicly(body.id, body.public_access_token)).status).toBe(404);
  });
});
