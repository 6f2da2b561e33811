/** Public access tokens (contract 5.2), the routes for them (4.3) and what browsers ask before (1.6). */
import { seedEnvironment, seedStream, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let session: string;
let other: string;
const publicUrl = "https://helmr.example.com";
beforeAll(async () => {
  server = await startTestServer({ publicUrl });
  const task = await seedTask(server.db, server.scope);
  for (const name of ["answers", "questions"]) await seedStream(server.db, task, name, "input");
  await seedStream(server.db, task, "news", "output");
  const start = (body: object = {}) => server.request("POST", "/sessions", { task_id: "hello", ...body });
  session = (await start({ external_id: "ours" })).body.session.id;
  other = (await start()).body.session.id;
});
afterAll(() => server.stop());

const sending = (more: object = {}) => ({
  type: "session.input.send",
  session: { type: "id", id: session },
  stream: "answers",
  ...more,
});
const reading = (more: object = {}) => ({
  ...sending(),
  type: "session.output.read",
  stream: "news",
  ...more,
});
const create = (body: object, key = server.key) =>
  server.request("POST", "/public-access-tokens", body, { key });
const pat = async (scope: object, more: object = {}) =>
  (await create({ scope, ...more })).body.public_access_token as string;
const send = (key: string | null, body: unknown = {}, stream = "answers", of = session) =>
  server.request("POST", `/v1/sessions/${of}/inputs/${stream}`, body, { key });
const read = (key: string | null, query = "", stream = "news", of = session) =>
  server.request("GET", `/v1/sessions/${of}/outputs/${stream}/read${query}`, undefined, { key });
const denied = (status: number) => ({ status, body: { code: "token_scope_denied" } });
const usesOf = async (stream: string) =>
  (
    await sql<{ uses: number }>`select uses from public_access_tokens where stream = ${stream}
    order by id desc limit 1`.execute(server.db)
  ).rows[0]?.uses;
const unknown = "019a0000-0000-7000-8000-000000000000";

describe("§5.2 create", () => {
  test("answers with the token, the session by its id, and an expiry in 30 days", async () => {
    const scope = {
      ...sending({ correlation_id: "c" }),
      session: { type: "external_id", external_id: "ours" },
    };
    const { status, body } = await create({ scope, max_uses: 3 });
    expect(status).toBe(201);
    expect(body).toMatchObject({
      public_access_token: expect.stringMatching(/^hlmr_pat_[A-Za-z0-9_-]{43}$/),
      scope: {
        type: "session.input.send",
        session: { type: "id", id: session },
        stream: "answers",
        correlation_id: "c",
      },
      max_uses: 3,
    });
    const days = (Date.parse(body.expires_at) - Date.parse(body.created_at)) / 86_400_000;
    expect(days).toBeCloseTo(30, 2);
    const { rows } = await sql`select p::text as row from public_access_tokens p where id = ${body.id}
      union all select a::text from audit_log a where resource_id = ${body.id}`.execute(server.db);
    expect(rows).toHaveLength(2);
    expect(JSON.stringify(rows)).not.toContain(body.public_access_token.slice("hlmr_pat_".length));
  });

  test("an expiry that is over is 410, an unknown session 404, anything else wrong 400", async () => {
    expect(await create({ scope: sending(), expires_at: "2020-01-01T00:00:00Z" })).toMatchObject({
      status: 410,
      body: { code: "token_expired" },
    });
    const nowhere = { type: "id", id: unknown };
    expect((await create({ scope: sending({ session: nowhere }) })).status).toBe(404);
    for (const body of [
      {},
      { scope: sending({ type: "session.output.append" }) },
      { scope: sending({ stream: "-" }) },
      { scope: sending({ session: { type: "external_id", external_id: " " } }) },
      { scope: sending({ session: { type: "id", id: "x" } }) },
      { scope: sending({ session: { type: "id", id: session, external_id: "ours" } }) },
      { scope: sending(), max_uses: 0 },
      { scope: sending(), max_uses: 1.5 },
      { scope: sending(), expires_at: "tomorrow" },
      { scope: sending(), x: 1 },
      // An API key says which environment is meant.
      { scope: sending(), project_id: server.scope.projectId, environment_id: server.scope.environmentId },
      { scope: sending(), project_id: server.scope.projectId },
    ]) {
      expect({ body, status: (await create(body)).status }).toEqual({ body, status: 400 });
    }
  });

  test("a key gives what it may do itself", async () => {
    const sender = await server.newKey(server.scope, ["session-input:send"]);
    const reader = await server.newKey(server.scope, ["session-streams:read"]);
    expect((await create({ scope: sending() }, sender)).status).toBe(201);
    expect(await create({ scope: reading() }, sender)).toMatchObject({
      status: 403,
      body: { error: "permission is required" },
    });
    expect((await create({ scope: reading() }, reader)).status).toBe(201);
    expect((await create({ scope: sending() }, reader)).status).toBe(403);
    const elsewhere = await server.newKey((await seedEnvironment(server.db)).scope);
    expect((await create({ scope: sending() }, elsewhere)).status).toBe(404);
  });

  test("a member names the environment in the body, by id or slug", async () => {
    const { token: developer } = await server.newMember("developer");
    const { token: viewer } = await server.newMember("viewer");
    const here = { project_id: server.scope.projectId, environment_id: server.scope.environmentId };
    expect((await create({ scope: sending(), ...here }, developer)).status).toBe(201);
    const slugs = { project_id: "test", environment_id: "production" };
    expect((await create({ scope: reading(), ...slugs }, viewer)).status).toBe(201);
    expect((await create({ scope: sending(), ...slugs }, viewer)).status).toBe(403);
    expect((await create({ scope: sending() }, developer)).status).toBe(400);
    expect((await create({ scope: sending(), project_id: "test" }, developer)).status).toBe(400);
    const nowhere = { project_id: "test", environment_id: "nowhere" };
    expect(await create({ scope: sending(), ...nowhere }, developer)).toMatchObject({
      status: 404,
      body: { error: "environment not found" },
    });
    const { token: stranger } = await server.newMember(undefined);
    expect((await create({ scope: sending(), ...here }, stranger)).status).toBe(403);
  });
});

describe("§4.3 use", () => {
  test("sends as §4.1 says, by id and by external id", async () => {
    const token = await pat(sending());
    const sent = await send(token, { data: { ok: 1 }, idempotency_key: "once" });
    expect(sent).toMatchObject({
      status: 201,
      body: { record: { data: { ok: 1 } }, idempotency_status: "created" },
    });
    expect(sent.body.continuation_status).toBe("accepted_run_pending");
    const path = "/v1/sessions/by-external-id/inputs/answers?external_id=ours";
    const again = await server.request(
      "POST",
      path,
      { data: { ok: 1 }, idempotency_key: "once" },
      { key: token },
    );
    expect(again.body.idempotency_status).toBe("duplicate");
    const { rows } = await sql`select actor_kind from audit_log where action = 'stream.append'
      and resource_id = ${sent.body.record.stream_id}`.execute(server.db);
    expect(rows).toEqual([{ actor_kind: "public_access_token" }]);
    expect((await send(token, { x: 1 })).status).toBe(400);
  });

  test("reads as §4.2 says", async () => {
    await server.request("POST", `/sessions/${session}/outputs/news`, { data: 1 });
    await server.request("POST", `/sessions/${session}/outputs/news`, { data: 2, correlation_id: "c" });
    const token = await pat(reading());
    expect((await read(token)).body.record).toMatchObject({ sequence: 1, data: 1 });
    expect((await read(token, "?correlation_id=c")).body.record.data).toBe(2);
    expect((await read(token, "?after_sequence=1")).body.record.data).toBe(2);
    expect((await read(token, "?cursor=2")).body).toEqual({ record: null });
    const path = "/v1/sessions/by-external-id/outputs/news/read?external_id=ours";
    expect((await server.request("GET", path, undefined, { key: token })).body.record.data).toBe(1);
  });

  test("401 without a token that is one", async () => {
    for (const key of [
      null,
      "x",
      server.key,
      `hlmr_pat_${"A".repeat(43)}`,
      `hlmr_public_access_${"A".repeat(43)}`,
    ]) {
      expect(await send(key)).toMatchObject(denied(401));
      expect(await read(key)).toMatchObject(denied(401));
    }
  });

  test("403 for another scope, stream, session or correlation id; no use is taken", async () => {
    const sender = await pat(sending({ stream: "questions", correlation_id: "c" }), { max_uses: 1 });
    expect(await read(sender)).toMatchObject(denied(403));
    expect(await send(await pat(reading()))).toMatchObject(denied(403));
    expect(await send(sender, { correlation_id: "c" }, "answers")).toMatchObject(denied(403));
    expect(await send(sender, { correlation_id: "c" }, "questions", other)).toMatchObject(denied(403));
    expect(await send(sender, { correlation_id: "d" }, "questions")).toMatchObject(denied(403));
    expect(await send(sender, {}, "questions")).toMatchObject(denied(403));
    expect(await usesOf("questions")).toBe(0);
    expect((await send(sender, { correlation_id: "c" }, "questions")).status).toBe(201);
    expect(await send(sender, { correlation_id: "c" }, "questions")).toMatchObject(denied(403));
    const reader = await pat(reading({ correlation_id: "c" }));
    expect((await read(reader, "?correlation_id=c")).status).toBe(200);
    expect(await read(reader)).toMatchObject(denied(403));
  });

  test("404 for a session or stream that is not there, also of another environment", async () => {
    const [sender, reader] = [await pat(sending()), await pat(reading())];
    const elsewhere = await seedEnvironment(server.db);
    const task = await seedTask(server.db, elsewhere.scope);
    await seedStream(server.db, task, "answers", "input");
    const started = await server.request(
      "POST",
      "/sessions",
      { task_id: "hello" },
      { key: await server.newKey(elsewhere.scope) },
    );
    const notFound = { status: 404, body: { code: "stream_not_found" } };
    expect(await send(sender, {}, "answers", started.body.session.id)).toMatchObject(notFound);
    expect(await send(sender, {}, "answers", unknown)).toMatchObject(notFound);
    expect(await read(reader, "", "news", unknown)).toMatchObject(notFound);
    expect(await send(sender, {}, "nope")).toMatchObject(notFound);
    expect(await read(reader, "", "nope")).toMatchObject(notFound);
    expect((await send(sender, {}, "-")).status).toBe(400);
  });

  test("410 when it is expired; 403 when it was revoked", async () => {
    const change = (set: string) =>
      sql`update public_access_tokens set ${sql.raw(set)} where id = (select id from public_access_tokens
        order by id desc limit 1)`.execute(server.db);
    const expired = await pat(sending());
    await change("expires_at = now()");
    expect(await send(expired)).toMatchObject({ status: 410, body: { code: "token_expired" } });
    const revoked = await pat(reading());
    await change("revoked_at = now()");
    expect(await read(revoked)).toMatchObject(denied(403));
  });

  test("of uses at once no more count than are left, and the others change nothing", async () => {
    const token = await pat(sending({ stream: "questions" }), { max_uses: 3 });
    const list = async () =>
      (await server.request("GET", `/sessions/${session}/inputs/questions`)).body.records.length;
    const before = await list();
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, data) => send(token, { data }, "questions")),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(3);
    expect(answers.filter(({ status }) => status === 403)).toHaveLength(7);
    expect(await list()).toBe(before + 3);
    expect(await usesOf("questions")).toBe(3);
    const reader = await pat(reading(), { max_uses: 2 });
    const reads = await Promise.all(Array.from({ length: 6 }, () => read(reader)));
    expect(reads.map(({ status }) => status).sort()).toEqual([200, 200, 403, 403, 403, 403]);
  });

  test("what is refused takes no use", async () => {
    const own = (await server.request("POST", "/sessions", { task_id: "hello" })).body.session.id;
    const token = await pat(sending({ session: { type: "id", id: own } }), { max_uses: 1 });
    await send(token, { data: 1, idempotency_key: "k" }, "answers", own);
    const second = await pat(sending({ session: { type: "id", id: own } }), { max_uses: 1 });
    expect((await send(second, { data: 2, idempotency_key: "k" }, "answers", own)).status).toBe(409);
    await server.request("POST", `/sessions/${own}/cancel`, {});
    expect(await send(second, { data: 3 }, "answers", own)).toMatchObject({
      status: 409,
      body: { code: "session_terminal" },
    });
    expect(await usesOf("answers")).toBe(0);
  });

  test("nothing of an environment that is being deleted", async () => {
    const { scope } = await seedEnvironment(server.db);
    await seedStream(server.db, await seedTask(server.db, scope), "answers", "input");
    const key = await server.newKey(scope);
    const started = await server.request("POST", "/sessions", { task_id: "hello" }, { key });
    const of = started.body.session.id;
    const made = await create({ scope: sending({ session: { type: "id", id: of } }) }, key);
    await sql`update environments set deleting_at = now() where id = ${scope.environmentId}`.execute(
      server.db,
    );
    expect(await send(made.body.public_access_token, {}, "answers", of)).toMatchObject(denied(401));
  });
});

describe("§1.6 CORS", () => {
  const path = (suffix: string) => `/v1/sessions/${session}/${suffix}`;
  const external = (suffix: string) => `/v1/sessions/by-external-id/${suffix}?external_id=ours`;
  const preflight = (route: string, origin?: string) =>
    server.request("OPTIONS", route, undefined, {
      key: null,
      headers: {
        ...(origin === undefined ? {} : { origin }),
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
      },
    });
  const corsOf = ({ headers }: { headers: Headers }) =>
    Object.fromEntries(
      [...headers].filter(([name]) => name === "vary" || name.startsWith("access-control-")),
    );
  const browserRoutes: [string, string][] = [
    ["POST", `/v1/tokens/${unknown}/complete`],
    ["POST", "input"],
    ["POST", "input-external"],
    ["GET", "read"],
    ["GET", "read-external"],
  ];
  const routeOf = (name: string) =>
    ({
      input: path("inputs/answers"),
      "input-external": external("inputs/answers"),
      read: path("outputs/news/read"),
      "read-external": external("outputs/news/read"),
    })[name] ?? name;

  test.each(browserRoutes)("%s %s: the server's own origin is let through", async (method, name) => {
    const answer = await preflight(routeOf(name), publicUrl);
    expect(answer).toMatchObject({ status: 204, body: "" });
    expect(corsOf(answer)).toEqual({
      "access-control-allow-origin": publicUrl,
      vary: "origin",
      "access-control-allow-methods": `${method}, OPTIONS`,
      "access-control-allow-headers": "authorization, content-type, Helmr-API-Version",
      "access-control-max-age": "600",
    });
    // Also the answer itself, a refusal too.
    const refused = await server.request(method, routeOf(name), undefined, {
      key: null,
      headers: { origin: publicUrl },
    });
    expect(refused.status).toBe(401);
    expect(refused.headers.get("access-control-allow-origin")).toBe(publicUrl);
  });

  test.each(browserRoutes)("%s %s: other origins get no CORS header", async (method, name) => {
    for (const origin of [
      undefined,
      "https://elsewhere.example",
      "null",
      `${publicUrl}/`,
      `${publicUrl}.evil.example`,
    ]) {
      const answer = await preflight(routeOf(name), origin);
      expect([answer.status, corsOf(answer)]).toEqual([204, {}]);
    }
    const refused = await server.request(method, routeOf(name), undefined, {
      key: null,
      headers: { origin: "https://elsewhere.example" },
    });
    expect(corsOf(refused)).toEqual({});
  });

  test("no other route", async () => {
    for (const route of [
      `/v1/tokens/${unknown}/callback/x`,
      `/tokens/${unknown}/complete`,
      `/sessions/${session}/inputs/answers`,
    ]) {
      const answer = await preflight(route, publicUrl);
      expect([route, answer.status, corsOf(answer)]).toEqual([route, 404, {}]);
    }
    const answer = await server.request(
      "POST",
      `/tokens/${unknown}/complete`,
      {},
      { headers: { origin: publicUrl } },
    );
    expect(corsOf(answer)).toEqual({});
  });
});

describe("abuse", () => {
  test("the routes have limits by address", async () => {
    const limit = [{ by: "address", max: 2, windowSeconds: 60, reason: "test" }] as const;
    const limited = await startTestServer({ rateLimits: { public_stream: limit, public_completion: limit } });
    try {
      const calls: [string, string][] = [
        ["POST", `/v1/sessions/${unknown}/inputs/answers`],
        ["POST", `/v1/tokens/${unknown}/callback/x`],
      ];
      for (const [method, route] of calls) {
        const statuses: number[] = [];
        for (let i = 0; i < 3; i += 1) {
          statuses.push((await limited.request(method, route, {}, { key: null })).status);
        }
        expect(statuses).toEqual([401, 401, 429]);
      }
    } finally {
      await limited.stop();
    }
  });
});
