/** Contract 2.4, 5 and the tokens of 1.6: tokens that somebody outside completes, and public access tokens. */
import { createHmac } from "node:crypto";
import { seedEnvironment, seedStream, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leaseRun } from "../../packages/control-plane/test/support/runs.ts";
import {
  type RequestOptions,
  startTestServer,
  type TestServer,
} from "../../packages/control-plane/test/support/server.ts";
import * as shapes from "./support/stream-shapes.ts";
import { expectList, expectShape } from "./support/stream-shapes.ts";
import { refusal, strictRequest } from "./support/strict.ts";

let server: TestServer;
/** Below a path: the origin is not the URL. */
const [origin, publicUrl] = ["https://helmr.example.com", "https://helmr.example.com/below"];
beforeAll(async () => {
  server = await startTestServer({ publicUrl });
  const task = await seedTask(server.db, server.scope);
  await seedStream(server.db, task, "answers", "input");
  await seedStream(server.db, task, "news", "output");
});
afterAll(() => server.stop());

const post = (path: string, body?: unknown, options?: RequestOptions) =>
  strictRequest(server, "POST", path, body, options);
const get = (path: string, options?: RequestOptions) =>
  strictRequest(server, "GET", path, undefined, options);
const create = async (body: object = {}) => (await post("/tokens", body)).body;
const complete = (id: string, body: unknown = {}) => post(`/tokens/${id}/complete`, body);
const cancel = (id: string) => post(`/tokens/${id}/cancel`, {});
const publicly = (id: string, key: string | null, body: unknown = {}) =>
  post(`/v1/tokens/${id}/complete`, body, { key });
/** As anybody calls it: no header. */
const callBack = (url: string, body: unknown = {}) =>
  post(url.slice(`${publicUrl}/api`.length), body, { key: null });
/** The token's time is over by the database's clock. */
const makeDue = (id: string, ago = "1 second") =>
  sql`update tokens set timeout_at = now() - ${ago}::interval where id = ${id}`.execute(server.db);
const unknown = "019a0000-0000-7000-8000-000000000000";

describe("§5 routes of tokens", () => {
  test("§5 §2.4 create: 201 with both secrets; everything else is bare and without them", async () => {
    const { status, body: created } = await post("/tokens", {
      tags: ["b", " a ", "b"],
      metadata: { z: 1, a: [null] },
    });
    expect(status).toBe(201);
    expectShape(created, shapes.createdToken);
    expect(created).toMatchObject({ status: "pending", tags: ["a", "b"], metadata: { z: 1, a: [null] } });
    expect(created).not.toHaveProperty("data");
    const { callback_url, public_access_token, ...rest } = created;
    const read = await get(`/tokens/${created.id}`);
    expectShape(read.body, shapes.token);
    expect(read).toMatchObject({ status: 200, body: rest });
    const completed = await complete(created.id, { data: { ok: true } });
    expect(completed.status).toBe(200);
    expectShape(completed.body, shapes.tokenCompletion);
    expect(completed.body).toEqual({
      status: "completed",
      token: { ...rest, status: "completed", data: { ok: true } },
    });
    const cancelled = await cancel((await create()).id);
    expect(cancelled.status).toBe(200);
    expectShape(cancelled.body, shapes.token);
    expect(cancelled.body.status).toBe("cancelled");
    const list = await get("/tokens");
    expectList(list.body, "tokens", shapes.token);
  });

  test("§2.4 timeout_at is always there, whatever became of the token", async () => {
    const ids = [(await create()).id, (await create()).id, (await create()).id, (await create()).id];
    await complete(ids[0], {});
    await cancel(ids[1]);
    await makeDue(ids[2]);
    const seen = [];
    for (const id of ids) {
      const { body } = await get(`/tokens/${id}`);
      expectShape(body, shapes.token);
      expect(body).toHaveProperty("timeout_at");
      seen.push(body.status);
    }
    expect(seen).toEqual(["completed", "cancelled", "expired", "pending"]);
  });

  const each = [
    ["POST", "", "tokens:create"],
    ["GET", "", "tokens:read"],
    ["GET", "/{id}", "tokens:read"],
    ["POST", "/{id}/complete", "tokens:complete"],
    ["POST", "/{id}/cancel", "tokens:cancel"],
  ] as const;
  test.each(each)("§5 §1.4 §1.5 %s /tokens%s needs %s, on both prefixes", async (method, rest, scope) => {
    const call = async (prefix: string, key: string | null) => {
      const path = `${prefix}/tokens${rest.replace("{id}", (await create()).id)}`;
      return await strictRequest(server, method, path, method === "POST" ? {} : undefined, { key });
    };
    const others = ["tokens:create", "tokens:read", "tokens:complete", "tokens:cancel"];
    expect((await call("", await server.newKey(server.scope, [scope]))).status).toBeLessThan(300);
    const without = await server.newKey(
      server.scope,
      others.filter((other) => other !== scope),
    );
    expect(await call("", without)).toMatchObject({ status: 403, body: { error: "permission is required" } });
    const [developer, viewer] = [await server.newMember("developer"), await server.newMember("viewer")];
    expect((await call(server.prefix, developer.token)).status).toBeLessThan(300);
    expect((await call(server.prefix, viewer.token)).status).toBe(method === "GET" ? 200 : 403);
    expect((await call("", developer.token)).status).toBe(400);
    expect((await call(server.prefix, server.key)).status).toBe(401);
    expect((await call("", null)).status).toBe(401);
  });

  test("§5 list: oldest first, status or state, cursor or after, limit 1..500, next_cursor only when more follows", async () => {
    const key = await server.newKey((await seedEnvironment(server.db)).scope);
    expect((await get("/tokens", { key })).body).toEqual({ tokens: [] });
    const ids: string[] = [];
    for (let i = 0; i < 4; i += 1) ids.push((await post("/tokens", {}, { key })).body.id);
    const [pending = "", completed = "", cancelled = "", expired = ""] = ids;
    await post(`/tokens/${completed}/complete`, {}, { key });
    await post(`/tokens/${cancelled}/cancel`, {}, { key });
    await makeDue(expired);
    const list = async (query: string) => {
      const { status, body } = await get(`/tokens?${query}`, { key });
      expect(status).toBe(200);
      expectList(body, "tokens", shapes.token, {
        ...(Object.hasOwn(body, "next_cursor") && { next_cursor: (id) => ids.includes(String(id)) }),
      });
      return [body.tokens.map(({ id }: { id: string }) => id), body.next_cursor];
    };
    expect(await list("")).toEqual([ids, undefined]);
    expect(await list("limit=4")).toEqual([ids, undefined]);
    expect(await list("limit=3")).toEqual([ids.slice(0, 3), cancelled]);
    expect(await list(`limit=3&cursor=${cancelled}`)).toEqual([[expired], undefined]);
    expect(await list(`limit=1&after=${pending}`)).toEqual([[completed], completed]);
    expect(await list(`cursor=${expired}`)).toEqual([[], undefined]);
    for (const filter of ["status", "state"]) {
      expect(await list(`${filter}=pending`)).toEqual([[pending], undefined]);
      expect(await list(`${filter}=completed`)).toEqual([[completed], undefined]);
      expect(await list(`${filter}=cancelled`)).toEqual([[cancelled], undefined]);
      expect(await list(`${filter}=expired`)).toEqual([[expired], undefined]);
    }
    for (const query of ["status=open", "state=", "limit=0", "limit=501", "limit=x", "cursor=x", "after=1"]) {
      expect((await get(`/tokens?${query}`, { key })).status).toBe(400);
    }
    await sql`insert into tokens (id, environment_id, status, timeout_at, tags, metadata)
      select uuidv7(), environment_id, 'pending', timeout_at, tags, metadata
      from tokens, generate_series(1, 500) where id = ${pending}`.execute(server.db);
    expect((await get("/tokens", { key })).body.tokens).toHaveLength(100);
    expect((await get("/tokens?limit=500", { key })).body.tokens).toHaveLength(500);
  });

  test("§1.4 §5.1 unknown or of another scope → 404 token_not_found; no UUID → 400", async () => {
    const { id } = await create();
    const key = await server.newKey((await seedEnvironment(server.db)).scope);
    for (const [method, rest] of [
      ["GET", ""],
      ["POST", "/complete"],
      ["POST", "/cancel"],
    ] as const) {
      const call = (of: string, options?: RequestOptions) =>
        strictRequest(server, method, `/tokens/${of}${rest}`, method === "POST" ? {} : undefined, options);
      expect(refusal(await call(unknown))).toEqual([404, "token_not_found"]);
      expect(refusal(await call(id, { key }))).toEqual([404, "token_not_found"]);
      expect((await call("nope")).status).toBe(400);
    }
    expect((await get(`/tokens/${id}`)).body.status).toBe("pending");
  });

  test("§5 §1.1 strict bodies: create and complete need one, cancel does not read its own", async () => {
    const { id } = await create();
    for (const path of ["/tokens", `/tokens/${id}/complete`]) {
      expect((await post(path)).status).toBe(400);
      expect((await post(path, undefined, { raw: "{}{}" })).status).toBe(400);
      for (const body of [[], null, { x: 1 }, { project_id: server.scope.projectId }]) {
        expect((await post(path, body)).status).toBe(400);
      }
    }
    expect((await post(`/tokens/${id}/cancel`)).status).toBe(200);
    expect((await post(`/tokens/${(await create()).id}/cancel`, { anything: 1 })).status).toBe(200);
  });
});

describe("§5.1 create", () => {
  test.each([
    ["nothing", undefined, 7 * 86_400_000],
    ["null", null, 7 * 86_400_000],
    ["10m", "10m", 600_000],
    ["7d", "7d", 7 * 86_400_000],
    ["1h30m", "1h30m", 5_400_000],
    ["a number of milliseconds", 1500, 1500],
    ["one unit", { seconds: 90 }, 90_000],
    ["a duration", { duration: "2h" }, 7_200_000],
    [
      "a sum of all",
      { milliseconds: 500, seconds: 1, minutes: 1, hours: 1, duration: "1d" },
      86_400_000 + 3_661_500,
    ],
  ])("§5.1 §13.3 timeout: %s", async (_name, timeout, ms) => {
    const { id, timeout_at } = await create({ timeout });
    const { rows } = await sql<{ at: Date; ms: number }>`select timeout_at as at,
      (extract(epoch from timeout_at - created_at) * 1000)::float8 as ms from tokens where id = ${id}`.execute(
      server.db,
    );
    expect(rows[0]?.ms).toBeCloseTo(ms, 0);
    expect(Date.parse(timeout_at)).toBe(rows[0]?.at.getTime());
  });

  test.each([
    [{ timeout: 0 }],
    [{ timeout: -1 }],
    [{ timeout: "0s" }],
    [{ timeout: "" }],
    [{ timeout: "10" }],
    [{ timeout: true }],
    [{ timeout: {} }],
    [{ timeout: { seconds: "1" } }],
    [{ timeout: { days: 1 } }],
    [{ timeout: { minutes: 1, seconds: -60 } }],
    [{ tags: [" "] }],
    [{ tags: ["é".repeat(65)] }],
    [{ tags: Array.from({ length: 11 }, (_, n) => `${n}`) }],
    [{ metadata: [] }],
    [{ metadata: "x" }],
    [{ idempotency_key: "k".repeat(513) }],
  ])("§5.1 §1.7 %j → 400", async (body) => {
    expect((await post("/tokens", body)).status).toBe(400);
  });

  test("§5.1 idempotent: 200, the same token and secrets; anything else → 409", async () => {
    const body = { timeout: "1h", tags: ["a", "b"], metadata: { x: 1, y: 2 }, idempotency_key: "k" };
    const first = await post("/tokens", body);
    const again = await post("/tokens", {
      ...body,
      tags: ["b", "a"],
      metadata: { y: 2, x: 1 },
      timeout: { hours: 1 },
    });
    expect([first.status, again.status]).toEqual([201, 200]);
    expectShape(again.body, shapes.createdToken);
    expect(again.body).toEqual(first.body);
    for (const other of [{ timeout: "2h" }, { tags: ["a"] }, { metadata: {} }, { timeout: null }]) {
      expect(refusal(await post("/tokens", { ...body, ...other }))).toEqual([
        409,
        "idempotency_fingerprint_mismatch",
      ]);
    }
    const key = await server.newKey((await seedEnvironment(server.db)).scope);
    expect((await post("/tokens", body, { key })).status).toBe(201);
    await complete(first.body.id, { data: null });
    const ended = await post("/tokens", body);
    expectShape(ended.body, shapes.createdToken);
    expect([ended.status, ended.body.status]).toEqual([200, "completed"]);
  });

  test("§5.1 the secrets are the HMACs of the id, the callback URL is below the public URL", async () => {
    const { id, callback_url, public_access_token } = await create();
    const mac = (kind: string) =>
      createHmac("sha256", Buffer.alloc(32, 9)).update(`helmr:${kind}:default:${id}`).digest("base64url");
    expect(callback_url).toBe(`${publicUrl}/api/v1/tokens/${id}/callback/hlmr_callback_${mac("callback")}`);
    expect(public_access_token).toBe(`hlmr_public_access_${mac("public-access")}`);
  });
});

describe("§5.1 how a token ends", () => {
  /** Three ways to complete, which are one. */
  const ways = {
    "the keyed route": (token: { id: string }, body: object) => complete(token.id, body),
    "the public access token": (token: { id: string; public_access_token: string }, body: object) =>
      publicly(token.id, token.public_access_token, body),
    "the callback URL": (token: { callback_url: string }, body: object) => callBack(token.callback_url, body),
  } as const;
  const names = Object.keys(ways) as (keyof typeof ways)[];

  test.each(names)(
    "§5.1 by %s: completed once; same data again already_completed, other data → 409",
    async (name) => {
      const token = await create();
      const data = { b: [1, null], a: "é" };
      const first = await ways[name](token, { data });
      const again = await ways[name](token, { data: { a: "é", b: [1, null] } });
      for (const { status, body } of [first, again]) {
        expect(status).toBe(200);
        expectShape(body, shapes.tokenCompletion);
        expect(body.token).toMatchObject({ id: token.id, status: "completed", data });
      }
      expect([first.body.status, again.body.status]).toEqual(["completed", "already_completed"]);
      for (const other of [{ data: 1 }, {}]) {
        expect(refusal(await ways[name](token, other))).toEqual([409, "token_completion_conflict"]);
      }
      expect((await get(`/tokens/${token.id}`)).body.data).toEqual(data);
      for (const way of names) {
        expect((await ways[way](token, { data })).body.status).toBe("already_completed");
      }
      expect(refusal(await cancel(token.id))).toEqual([404, "token_not_found"]);
    },
  );

  test.each(names)("§5.1 by %s: a cancelled token → 409, one past its timeout → 410", async (name) => {
    const [gone, late] = [await create(), await create()];
    await cancel(gone.id);
    expect(refusal(await ways[name](gone, {}))).toEqual([409, "token_cancelled"]);
    expect(refusal(await cancel(gone.id))).toEqual([409, "token_cancelled"]);
    await makeDue(late.id);
    expect(refusal(await ways[name](late, {}))).toEqual([410, "token_expired"]);
    expect(refusal(await cancel(late.id))).toEqual([410, "token_expired"]);
    expect((await get(`/tokens/${late.id}`)).body.status).toBe("expired");
  });

  test.each(names)("§5 by %s: data is any JSON, absent it is null; the body is strict", async (name) => {
    for (const data of [null, 0, "", "a\0b", "\ud800", [[]], { "\0": 1 }]) {
      const { status, body } = await ways[name](await create(), { data });
      expect(status).toBe(200);
      expect(body.token).toHaveProperty("data");
      expect(body.token.data).toEqual(data);
    }
    const token = await create();
    expect((await ways[name](token, { x: 1 })).status).toBe(400);
    expect((await ways[name](token, {})).body.token.data).toBeNull();
    expect((await ways[name](token, { data: null })).body.status).toBe("already_completed");
  });

  test("§5.1 of the public access token: 30 days after the timeout it is expired", async () => {
    const token = await create();
    await publicly(token.id, token.public_access_token, { data: 1 });
    await makeDue(token.id, "29 days 23 hours");
    const retry = () => publicly(token.id, token.public_access_token, { data: 1 });
    expect((await retry()).body.status).toBe("already_completed");
    await makeDue(token.id, "30 days");
    expect(refusal(await retry())).toEqual([410, "token_expired"]);
  });

  test("§5.1 §1.4 a secret that is not the token's → 401 token_scope_denied", async () => {
    const [token, other] = [await create(), await create()];
    const secretOf = ({ callback_url }: { callback_url: string }) => callback_url.split("/").at(-1) ?? "";
    const denied = [401, "token_scope_denied"];
    const bearers = [
      null,
      "x",
      server.key,
      other.public_access_token,
      secretOf(token),
      `hlmr_pat_${"A".repeat(43)}`,
    ];
    for (const key of bearers) {
      expect(refusal(await publicly(token.id, key))).toEqual(denied);
    }
    for (const secret of ["x", secretOf(other), token.public_access_token, `${secretOf(token)}A`]) {
      const answer = await post(`/v1/tokens/${token.id}/callback/${secret}`, {}, { key: server.key });
      expect(refusal(answer)).toEqual(denied);
      expect(JSON.stringify(answer.body)).not.toContain(secretOf(token));
    }
    expect((await get(`/tokens/${token.id}`)).body.status).toBe("pending");
    expect((await get(`/tokens/${token.id}`, { key: token.public_access_token })).status).toBe(401);
    await sql`delete from tokens where id = ${other.id}`.execute(server.db);
    expect(refusal(await publicly(other.id, other.public_access_token))).toEqual([404, "token_not_found"]);
    expect(refusal(await callBack(other.callback_url))).toEqual([404, "token_not_found"]);
  });

  test.each(["complete", "cancel"])("§2.2 §5.1 %s ends the wait of the run for the token", async (verb) => {
    const { body } = await post("/sessions", { task_id: "hello" });
    const { id } = await create();
    await (await leaseRun(server, body.run.id)).wait({ kind: "token", tokenId: id });
    const waiting = (await get(`/runs/${body.run.id}`)).body;
    expect(waiting.status).toBe("waiting");
    expectShape(waiting.pending_wait, shapes.pendingWait);
    expect(waiting.pending_wait.kind).toBe("token");
    await post(`/tokens/${id}/${verb}`, verb === "cancel" ? {} : { data: "a\0b" });
    const after = (await get(`/runs/${body.run.id}`)).body;
    expect(after.status).toBe("running");
    expect(after).not.toHaveProperty("pending_wait");
  });
});

describe("§5.2 public access tokens", () => {
  const started = async (external_id: string) =>
    (await post("/sessions", { task_id: "hello", external_id })).body.session.id as string;
  const scopeOf = (id: string, more: object = {}) => ({
    type: "session.input.send",
    session: { type: "id", id },
    stream: "answers",
    ...more,
  });
  const make = (body: object, options?: RequestOptions) => post("/public-access-tokens", body, options);

  test("§5.2 §14.16 201: session always by id, 30 days, max_uses and correlation_id only when given", async () => {
    const id = await started("pat one");
    const least = await make({ scope: scopeOf(id) });
    expect(least.status).toBe(201);
    expectShape(least.body, shapes.publicAccessToken);
    expect(least.body.scope).toEqual(scopeOf(id));
    expect(least.body).not.toHaveProperty("max_uses");
    const { created_at, expires_at } = least.body;
    expect((Date.parse(expires_at) - Date.parse(created_at)) / 86_400_000).toBeCloseTo(30, 2);
    const at = new Date(Date.now() + 3_600_000).toISOString();
    const session = { type: "external_id", external_id: "pat one" };
    const most = await make({
      scope: { type: "session.output.read", session, stream: "news", correlation_id: "c" },
      expires_at: at,
      max_uses: 3,
    });
    expect(most.status).toBe(201);
    expectShape(most.body, shapes.publicAccessToken);
    expect(most.body).toMatchObject({
      scope: {
        type: "session.output.read",
        session: { type: "id", id },
        stream: "news",
        correlation_id: "c",
      },
      expires_at: at,
      max_uses: 3,
    });
  });

  test("§5.2 a past expiry → 410 token_expired, an unknown session → 404, a wrong shape → 400", async () => {
    const id = await started("pat two");
    const past = await make({ scope: scopeOf(id), expires_at: "2020-01-01T00:00:00Z" });
    expect(refusal(past)).toEqual([410, "token_expired"]);
    for (const session of [
      { type: "id", id: unknown },
      { type: "external_id", external_id: "missing" },
    ]) {
      expect((await make({ scope: scopeOf(id, { session }) })).status).toBe(404);
    }
    for (const body of [
      {},
      { scope: scopeOf(id, { type: "runs.read" }) },
      { scope: scopeOf(id, { stream: "-x" }) },
      { scope: scopeOf(id, { session: { type: "id", id: "" } }) },
      { scope: scopeOf(id, { session: { type: "external_id", external_id: "" } }) },
      { scope: scopeOf(id, { session: id }) },
      { scope: scopeOf(id, { more: 1 }) },
      { scope: scopeOf(id), max_uses: 0 },
      { scope: scopeOf(id), max_uses: -1 },
      { scope: scopeOf(id), max_uses: 1.5 },
      { scope: scopeOf(id), expires_at: "soon" },
      { scope: scopeOf(id), more: 1 },
      { scope: scopeOf(id), project_id: server.scope.projectId },
      { scope: scopeOf(id), project_id: server.scope.projectId, environment_id: server.scope.environmentId },
    ]) {
      expect({ body, status: (await make(body)).status }).toEqual({ body, status: 400 });
    }
    expect((await make(undefined as unknown as object)).status).toBe(400);
  });

  test("§5 §5.2 the permission goes by the scope's type; a session actor sends both ids; unprefixed only", async () => {
    const id = await started("pat three");
    const [input, output] = [scopeOf(id), scopeOf(id, { type: "session.output.read", stream: "news" })];
    const sender = { key: await server.newKey(server.scope, ["session-input:send"]) };
    const reader = { key: await server.newKey(server.scope, ["session-streams:read"]) };
    const statuses = [];
    for (const options of [sender, reader]) {
      for (const scope of [input, output]) statuses.push((await make({ scope }, options)).status);
    }
    expect(statuses).toEqual([201, 403, 403, 201]);
    const { token: key } = await server.newMember("developer");
    const here = { project_id: server.scope.projectId, environment_id: server.scope.environmentId };
    const made = await make({ scope: input, ...here }, { key });
    expect(made.status).toBe(201);
    expectShape(made.body, shapes.publicAccessToken);
    expect((await make({ scope: input }, { key })).status).toBe(400);
    expect((await make({ scope: input, project_id: here.project_id }, { key })).status).toBe(400);
    expect((await make({ scope: input }, { key: null })).status).toBe(401);
    const prefixed = await post(`${server.prefix}/public-access-tokens`, { scope: input }, { key });
    expect([prefixed.status, prefixed.body]).toEqual([404, { error: "not found" }]);
  });

  test("§5.2 max_uses absent = unlimited; a session of another environment is none of its own", async () => {
    const id = await started("pat four");
    const { body } = await make({ scope: scopeOf(id) });
    for (let data = 0; data < 5; data += 1) {
      const sent = await post(
        `/v1/sessions/${id}/inputs/answers`,
        { data },
        { key: body.public_access_token },
      );
      expect(sent.status).toBe(201);
    }
    const elsewhere = await server.newKey((await seedEnvironment(server.db)).scope);
    expect((await make({ scope: scopeOf(id) }, { key: elsewhere })).status).toBe(404);
  });
});

describe("§1.6 CORS of tokens", () => {
  const corsOf = ({ headers }: { headers: Headers }) =>
    Object.fromEntries(
      [...headers].filter(([name]) => name === "vary" || name.startsWith("access-control-")),
    );
  const ask = (path: string, from?: string) =>
    server.request("OPTIONS", path, undefined, {
      key: null,
      headers: { "access-control-request-method": "POST", ...(from !== undefined && { origin: from }) },
    });

  test("§1.6 OPTIONS of complete → 204, headers for the origin of the public URL only", async () => {
    const token = await create();
    const path = `/v1/tokens/${token.id}/complete`;
    const own = await ask(path, origin);
    expect([own.status, own.body]).toEqual([204, ""]);
    expect(corsOf(own)).toEqual({
      "access-control-allow-origin": origin,
      vary: "origin",
      "access-control-allow-methods": "POST, OPTIONS",
      "access-control-allow-headers": "authorization, content-type, Helmr-API-Version",
      "access-control-max-age": "600",
    });
    for (const from of [undefined, "null", publicUrl, "http://helmr.example.com", "https://example.com"]) {
      const other = await ask(path, from);
      expect([other.status, corsOf(other)]).toEqual([204, {}]);
    }
    const options = { key: token.public_access_token, headers: { origin } };
    const answer = await post(path, {}, options);
    expect([answer.status, answer.headers.get("access-control-allow-origin")]).toEqual([200, origin]);
  });

  test("§1.6 the callback URL and the keyed routes have no CORS", async () => {
    const token = await create();
    const callback = token.callback_url.slice(`${publicUrl}/api`.length);
    for (const path of [callback, `/tokens/${token.id}/complete`, "/tokens", "/public-access-tokens"]) {
      const preflight = await ask(path, origin);
      expect([preflight.status, corsOf(preflight)]).toEqual([404, {}]);
    }
    expect(corsOf(await post(callback, {}, { key: null, headers: { origin } }))).toEqual({});
  });
});
