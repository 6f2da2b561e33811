/** Contract 2.3, 3.3, 4 and the streams of 1.6: what is sent to sessions and read of them, also by browsers. */
import { continueSessions } from "@helmr/store";
import { seedEnvironment, seedStream, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
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
let session: string;
let run: string;
let external: string;
beforeAll(async () => {
  server = await startTestServer();
  const task = await seedTask(server.db, server.scope);
  for (const name of ["answers", "questions"]) await seedStream(server.db, task, name, "input");
  for (const name of ["news", "log"]) await seedStream(server.db, task, name, "output");
  // One name, both directions.
  for (const direction of ["input", "output"] as const) await seedStream(server.db, task, "both", direction);
});
afterAll(() => server.stop());

let serial = 0;
beforeEach(async () => {
  serial += 1;
  external = `external ${serial}`;
  const { body } = await post("/sessions", {
    task_id: "hello",
    external_id: external,
    payload: { n: serial },
  });
  [session, run] = [body.session.id, body.run.id];
});
/** Nothing of it is left for the next test's worker. */
afterEach(() => post(`/sessions/${session}/cancel`, {}));

const post = (path: string, body?: unknown, options?: RequestOptions) =>
  strictRequest(server, "POST", path, body, options);
const get = (path: string, options?: RequestOptions) =>
  strictRequest(server, "GET", path, undefined, options);
const send = (body: unknown, stream = "answers", of = session) =>
  post(`/sessions/${of}/inputs/${stream}`, body);
const append = (body: unknown, stream = "news", of = session) =>
  post(`/sessions/${of}/outputs/${stream}`, body);
const dataOf = async (path: string): Promise<unknown[]> => {
  const { status, body } = await get(path);
  expect(status).toBe(200);
  expectList(body, "records", shapes.record);
  return body.records.map((record: { data: unknown }) => record.data);
};
const byExternalId = (rest: string, query = "") =>
  `/sessions/by-external-id${rest}?external_id=${encodeURIComponent(external)}${query}`;
const runsOf = async (id: string) => (await get(`/sessions/${id}/runs`)).body.runs;

describe("§3 §3.3 routes of streams", () => {
  test("§3.3 listing: every declared stream, both directions, last sequence, 0 if none", async () => {
    const { body } = await get(`/sessions/${session}/streams`);
    expectList(body, "streams", shapes.stream);
    const seen = (streams: { name: string; direction: string; sequence: number }[]) =>
      streams.map(({ name, direction, sequence }) => `${direction} ${name} ${sequence}`).sort();
    expect(seen(body.streams)).toEqual([
      "input answers 0",
      "input both 0",
      "input questions 0",
      "output both 0",
      "output log 0",
      "output news 0",
    ]);
    for (const { session_id } of body.streams) expect(session_id).toBe(session);
    const { body: appended } = await append({ data: 1 });
    await append({ data: 2 });
    const { body: after } = await get(byExternalId("/streams"));
    expect(seen(after.streams)).toContain("output news 2");
    const news = body.streams.find(({ name }: { name: string }) => name === "news");
    expect(appended.record.stream_id).toBe(news.id);
  });

  test("§3 both forms of {S} and both prefixes are the same resource", async () => {
    const { token: key } = await server.newMember("developer");
    const forms: [string, RequestOptions | undefined][] = [
      [`/sessions/${session}`, undefined],
      [`${server.prefix}/sessions/${session}`, { key }],
      [`/projects/test/environments/PRODUCTION/sessions/${session}`, { key }],
    ];
    for (const [base, options] of forms) {
      expect((await post(`${base}/inputs/answers`, { data: base }, options)).status).toBe(201);
      expect((await post(`${base}/outputs/news`, { data: base }, options)).status).toBe(201);
    }
    expect((await post(byExternalId("/inputs/answers"), { data: "external" })).status).toBe(201);
    expect((await post(byExternalId("/outputs/news"), { data: "external" })).status).toBe(201);
    const all = [...forms.map(([base]) => base), "external"];
    for (const rest of ["/inputs/answers", "/outputs/news"]) {
      for (const [base, options] of forms) {
        const { body } = await get(`${base}${rest}`, options);
        expect(body.records.map(({ data }: { data: string }) => data)).toEqual(all);
      }
      expect(await dataOf(byExternalId(rest))).toEqual(all);
    }
    for (const [base, options] of forms) {
      const { body } = await get(`${base}/outputs/news/read?after_sequence=3`, options);
      expect(body.record.data).toBe("external");
    }
    expect((await get(byExternalId("/outputs/news/read"))).body.record.sequence).toBe(1);
  });

  const each = [
    ["GET", "/streams"],
    ["POST", "/inputs/answers"],
    ["GET", "/inputs/answers"],
    ["POST", "/outputs/news"],
    ["GET", "/outputs/news"],
    ["GET", "/outputs/news/read"],
  ] as const;
  const scopeToWrite: Readonly<Record<string, string>> = {
    "/inputs/answers": "session-input:send",
    "/outputs/news": "session-output:append",
  };
  const call = (method: string, path: string, options?: RequestOptions) =>
    strictRequest(server, method, path, method === "POST" ? {} : undefined, options);

  test.each(each)("§3 §1.4 %s {S}%s: unknown or of another scope 404, no UUID 400", async (method, rest) => {
    const notFound = { status: 404, body: { error: "session not found" } };
    const key = await server.newKey((await seedEnvironment(server.db)).scope);
    expect(await call(method, `/sessions/${crypto.randomUUID()}${rest}`)).toMatchObject(notFound);
    expect(await call(method, `/sessions/by-external-id${rest}?external_id=missing`)).toMatchObject(notFound);
    expect(await call(method, `/sessions/${session}${rest}`, { key })).toMatchObject(notFound);
    for (const path of [
      `/sessions/nope${rest}`,
      `/sessions/by-external-id${rest}`,
      `/sessions/by-external-id${rest}?external_id=${"é".repeat(257)}`,
      `/sessions/${session}${rest}?project_id=${server.scope.projectId}`,
      `/sessions/${session}${rest}?environment_id=${server.scope.environmentId}`,
    ]) {
      expect((await call(method, path)).status).toBe(400);
    }
  });

  test.each(each)("§3 §1.4 §1.5 %s {S}%s: who may", async (method, rest) => {
    const scope = (method === "POST" && scopeToWrite[rest]) || "session-streams:read";
    const others = ["session-input:send", "session-output:append", "session-streams:read", "runs:manage"];
    const path = `/sessions/${session}${rest}`;
    expect(
      (await call(method, path, { key: await server.newKey(server.scope, [scope]) })).status,
    ).toBeLessThan(300);
    const without = await server.newKey(
      server.scope,
      others.filter((other) => other !== scope),
    );
    expect(await call(method, path, { key: without })).toMatchObject({
      status: 403,
      body: { error: "permission is required" },
    });
    const { token: viewer } = await server.newMember("viewer");
    expect((await call(method, `${server.prefix}${path}`, { key: viewer })).status).toBe(
      method === "GET" ? 200 : 403,
    );
    expect((await call(method, path, { key: viewer })).status).toBe(403);
    expect((await call(method, `${server.prefix}${path}`)).status).toBe(401);
    expect((await call(method, path, { key: null })).status).toBe(401);
  });
});

describe("§4.1 append", () => {
  test("§4.1 §2.3 201 {record, idempotency_status}: data as it was sent, 1-based per stream", async () => {
    const data = { z: [1, null, "é", 1.5e-7], a: { "": false } };
    const output = await append({ data, content_type: "text/x", correlation_id: "c" });
    expect(output.status).toBe(201);
    expectShape(output.body, shapes.outputAppend);
    expect(output.body).toMatchObject({
      record: { sequence: 1, content_type: "text/x", correlation_id: "c" },
      idempotency_status: "created",
    });
    expect(JSON.stringify(output.body.record.data)).toBe(JSON.stringify(data));
    const input = await send({ data });
    expect(input.status).toBe(201);
    expectShape(input.body, shapes.inputAppend);
    expect(input.body.record).toMatchObject({ sequence: 1, data, content_type: "application/json" });
    expect(input.body.record).not.toHaveProperty("correlation_id");
    expect((await append({}, "log")).body.record.sequence).toBe(1);
    expect((await append({})).body.record).toMatchObject({ sequence: 2, data: null });
  });

  test("§4.1 data is any JSON, also what a database cannot hold as jsonb", async () => {
    const values = [null, false, 0, "", "a\0b", "\ud800", [], {}, { "\0": 1 }, 2 ** 53, "x".repeat(70_000)];
    for (const data of values) {
      expect((await append({ data })).status).toBe(201);
      expect((await send({ data })).status).toBe(201);
    }
    expect(await dataOf(`/sessions/${session}/outputs/news`)).toEqual(values);
    expect(await dataOf(`/sessions/${session}/inputs/answers`)).toEqual(values);
  });

  test("§4.1 what a wait is given is any JSON, too", async () => {
    for (const data of ["a\0b", "\ud800", { "\0": "\0" }, null]) {
      const started = (await post("/sessions", { task_id: "hello" })).body;
      const leased = await leaseRun(server, started.run.id);
      await leased.wait({ kind: "stream", stream: "answers" });
      expect((await send({ data }, "answers", started.session.id)).status).toBe(201);
      expect((await get(`/runs/${started.run.id}`)).body.status).toBe("running");
    }
  });

  test.each(["inputs/answers", "outputs/news"])(
    "§4.1 %s: the same key is one record, still 201; other content → 409",
    async (rest) => {
      const path = `/sessions/${session}/${rest}`;
      const body = {
        data: { a: 1, b: 2 },
        correlation_id: "c",
        content_type: "text/x",
        idempotency_key: "k",
      };
      const first = await post(path, body);
      const again = await post(path, { ...body, data: { b: 2, a: 1 } });
      expect([first.status, again.status]).toEqual([201, 201]);
      expectShape(again.body, shapes.inputAppend);
      expect(again.body).toMatchObject({ idempotency_status: "duplicate", record: first.body.record });
      for (const other of [{ data: { a: 1 } }, { correlation_id: "d" }, { content_type: "text/y" }]) {
        expect(refusal(await post(path, { ...body, ...other }))).toEqual([
          409,
          "idempotency_fingerprint_mismatch",
        ]);
      }
      const { correlation_id: _id, ...without } = body;
      expect(refusal(await post(path, without))).toEqual([409, "idempotency_fingerprint_mismatch"]);
      expect(await dataOf(path)).toEqual([body.data]);
    },
  );

  test("§4.1 a key is one of its stream; up to 512 characters", async () => {
    const body = { data: 1, idempotency_key: "k".repeat(512) };
    for (const answer of [
      await append(body),
      await append(body, "log"),
      await send(body),
      await send(body, "questions"),
    ]) {
      expect(answer).toMatchObject({ status: 201, body: { idempotency_status: "created" } });
    }
    expect((await append({ idempotency_key: "k".repeat(513) })).status).toBe(400);
    expect((await send({ idempotency_key: "k".repeat(513) })).status).toBe(400);
  });

  test("§1.1 strict JSON: no body, unknown fields and a second value → 400", async () => {
    for (const rest of ["inputs/answers", "outputs/news"]) {
      const path = `/sessions/${session}/${rest}`;
      expect((await post(path)).status).toBe(400);
      for (const body of [{ data: 1, stream: "x" }, [], 1, { content_type: 1 }, { correlation_id: {} }]) {
        expect((await post(path, body)).status).toBe(400);
      }
      expect((await post(path, undefined, { raw: "{}{}" })).status).toBe(400);
      expect(await dataOf(path)).toEqual([]);
    }
  });

  test("§4.1 input needs an open session: expired → 410, closed and cancelled → 409", async () => {
    await sql`update sessions set expires_at = now() where id = ${session}`.execute(server.db);
    expect(refusal(await send({}))).toEqual([410, "session_expired"]);
    await sql`update sessions set expires_at = null where id = ${session}`.execute(server.db);
    await (await leaseRun(server, run)).finish();
    await post(`/sessions/${session}/close`, {});
    expect(refusal(await send({}))).toEqual([409, "session_terminal"]);
    const other = (await post("/sessions", { task_id: "hello" })).body.session.id;
    await post(`/sessions/${other}/cancel`, {});
    expect(refusal(await send({}, "answers", other))).toEqual([409, "session_terminal"]);
    expect(await dataOf(`/sessions/${other}/inputs/answers`)).toEqual([]);
  });
});

describe("§4.1 continuation", () => {
  test("§4.1 accepted_run_pending, duplicate, and the next run once the current one is terminal", async () => {
    const first = await send({ data: 1 });
    expectShape(first.body, shapes.inputAppend);
    expect(first.body.continuation_status).toBe("accepted_run_pending");
    expect((await send({ data: 2 })).body.continuation_status).toBe("duplicate");
    await (await leaseRun(server, run)).finish();
    await continueSessions(server.db, { limit: 100, sessionIds: [session] });
    const runs = await runsOf(session);
    expect(runs).toHaveLength(2);
    expect(runs[1]).toMatchObject({ previous_run_id: run, turn_index: 1 });
  });

  test("§4.1 created: same payload, turn_index + 1, becomes current_run", async () => {
    await (await leaseRun(server, run)).finish();
    const { body } = await send({ data: 1 });
    expectShape(body, shapes.inputAppend);
    expect(body.continuation_status).toBe("created");
    const [, next] = await runsOf(session);
    expect(next).toMatchObject({ previous_run_id: run, turn_index: 1, status: "queued" });
    expect((await get(`/sessions/${session}`)).body.current_run_id).toBe(next.run_id);
    const { rows } = await sql<{ payload: string }>`select payload::text from runs
      where session_id = ${session} order by turn_index`.execute(server.db);
    expect(rows.map(({ payload }) => JSON.parse(payload))).toEqual([{ n: serial }, { n: serial }]);
  });

  test("§4.1 the same input again asks for no second run", async () => {
    await (await leaseRun(server, run)).finish();
    const body = { data: 1, idempotency_key: "k" };
    expect((await send(body)).body.continuation_status).toBe("created");
    expect((await send(body)).body).toMatchObject({ idempotency_status: "duplicate" });
    expect(await runsOf(session)).toHaveLength(2);
  });

  test("§4.1 §2.2 input ends the wait for it, of its correlation id; then there is no continuation_status", async () => {
    const leased = await leaseRun(server, run);
    const wait = await leased.wait({
      kind: "stream",
      stream: "answers",
      correlationId: "c",
      timeoutMs: 60_000,
    });
    const waiting = (await get(`/runs/${run}`)).body;
    expect(waiting.status).toBe("waiting");
    expectShape(waiting.pending_wait, shapes.pendingWait);
    expect(waiting.pending_wait).toMatchObject({ id: wait.id, kind: "stream" });
    expect(waiting.pending_wait).toHaveProperty("timeout_at");
    expect((await get(`/sessions/${session}`)).body).toMatchObject({ activity: "waiting", can_close: false });
    for (const other of [{ correlation_id: "d" }, {}]) {
      expect((await send(other)).body).toHaveProperty("continuation_status");
      expect((await get(`/runs/${run}`)).body.status).toBe("waiting");
    }
    const { body } = await send({ data: "go", correlation_id: "c" });
    expectShape(body, shapes.outputAppend);
    const after = (await get(`/runs/${run}`)).body;
    expect(after.status).toBe("running");
    expect(after).not.toHaveProperty("pending_wait");
  });

  test("§2.2 a wait without a time limit has no timeout_at", async () => {
    await (await leaseRun(server, run)).wait({ kind: "stream", stream: "answers" });
    const { pending_wait } = (await get(`/runs/${run}`)).body;
    expectShape(pending_wait, shapes.pendingWait);
    expect(pending_wait).not.toHaveProperty("timeout_at");
  });
});

describe("§4.2 list and read", () => {
  test.each([
    ["outputs/news", append],
    ["inputs/answers", send],
  ] as const)("§4.2 GET %s: after_sequence, cursor, limit, correlation_id", async (rest, write) => {
    const path = `/sessions/${session}/${rest}`;
    expect(await dataOf(path)).toEqual([]);
    for (const [data, correlation_id] of [
      [1, "a"],
      [2, "b"],
      [3, "a"],
      [4, undefined],
    ]) {
      await write({ data, correlation_id });
    }
    expect(await dataOf(path)).toEqual([1, 2, 3, 4]);
    expect(await dataOf(`${path}?after_sequence=0`)).toEqual([1, 2, 3, 4]);
    expect(await dataOf(`${path}?after_sequence=2`)).toEqual([3, 4]);
    expect(await dataOf(`${path}?cursor=2&limit=1`)).toEqual([3]);
    expect(await dataOf(`${path}?correlation_id=a&after_sequence=1`)).toEqual([3]);
    expect(await dataOf(`${path}?correlation_id=A`)).toEqual([]);
    expect(await dataOf(`${path}?after_sequence=${Number.MAX_SAFE_INTEGER}`)).toEqual([]);
    expect(await dataOf(byExternalId(`/${rest}`, "&after_sequence=3"))).toEqual([4]);
    for (const query of ["limit=0", "limit=501", "limit=x", "after_sequence=-1", "cursor=1.5", "cursor=x"]) {
      expect((await get(`${path}?${query}`)).status).toBe(400);
    }
  });

  test("§4.2 limit: 100 by default, up to 500", async () => {
    const { body } = await append({ data: 0 });
    await sql`insert into stream_records (stream_id, sequence, id, data, content_type)
      select ${body.record.stream_id}, n, uuidv7(), to_json(n), 'application/json'
      from generate_series(2, 501) n`.execute(server.db);
    const path = `/sessions/${session}/outputs/news`;
    expect(await dataOf(path)).toHaveLength(100);
    expect(await dataOf(`${path}?limit=500`)).toHaveLength(500);
  });

  test("§4.2 §14.11 read: {record} with at most one, or null", async () => {
    const path = `/sessions/${session}/outputs/news/read`;
    expect((await get(path)).body).toEqual({ record: null });
    await append({ data: null, correlation_id: "a" });
    await append({ data: 2, correlation_id: "b" });
    const first = await get(path);
    expectShape(first.body, shapes.recordRead);
    expect(first.body.record).toMatchObject({ sequence: 1, data: null });
    expect((await get(`${path}?after_sequence=1`)).body.record.data).toBe(2);
    expect((await get(`${path}?correlation_id=b`)).body.record.data).toBe(2);
    expect((await get(byExternalId("/outputs/news/read", "&cursor=2"))).body).toEqual({ record: null });
    for (const query of ["after_sequence=-1", "cursor=x"]) {
      expect((await get(`${path}?${query}`)).status).toBe(400);
    }
  });

  test("§4.2 §1.7 not declared → 404 stream_not_found, other direction → 404, a bad name → 400", async () => {
    const body = {};
    const calls = (input: string, output: string) =>
      Promise.all([
        send(body, input),
        get(`/sessions/${session}/inputs/${input}`),
        append(body, output),
        get(`/sessions/${session}/outputs/${output}`),
        get(`/sessions/${session}/outputs/${output}/read`),
      ]);
    for (const answer of await calls("nope", "nope")) {
      expect(refusal(answer)).toEqual([404, "stream_not_found"]);
    }
    for (const answer of await calls("news", "answers")) {
      expect(refusal(answer)).toEqual([404, "stream_direction_mismatch"]);
    }
    for (const answer of await calls("both", "both")) expect(answer.status).toBeLessThan(300);
    for (const name of ["-x", ".x", "a%2Fb", "a%20b", "%C3%A9", "x".repeat(257)]) {
      for (const answer of await calls(name, name)) expect(answer.status).toBe(400);
    }
    const longest = "x".repeat(256);
    for (const answer of await calls(longest, longest)) expect(answer.status).toBe(404);
  });
});

describe("§4.3 public routes", () => {
  const pat = async (type: string, stream: string, more: object = {}, scope: object = {}) => {
    const { body } = await post("/public-access-tokens", {
      scope: { type, session: { type: "id", id: session }, stream, ...scope },
      ...more,
    });
    return body.public_access_token as string;
  };
  const sender = (more?: object, scope?: object) => pat("session.input.send", "answers", more, scope);
  const reader = (more?: object, scope?: object) => pat("session.output.read", "news", more, scope);
  const sendAs = (key: string | null, body: unknown = {}, stream = "answers", of = session) =>
    post(`/v1/sessions/${of}/inputs/${stream}`, body, { key });
  const readAs = (key: string | null, query = "", stream = "news", of = session) =>
    get(`/v1/sessions/${of}/outputs/${stream}/read${query}`, { key });

  test("§4.3 input: body and response as 4.1, by id and by external id", async () => {
    const key = await sender();
    const first = await sendAs(key, { data: 1, correlation_id: "any", idempotency_key: "k" });
    expect(first.status).toBe(201);
    expectShape(first.body, shapes.inputAppend);
    expect(first.body.continuation_status).toBe("accepted_run_pending");
    const again = await post(
      `/v1${byExternalId("/inputs/answers")}`,
      { data: 1, correlation_id: "any", idempotency_key: "k" },
      { key },
    );
    expect(again).toMatchObject({
      status: 201,
      body: { idempotency_status: "duplicate", record: first.body.record },
    });
    expect(refusal(await sendAs(key, { data: 2, idempotency_key: "k" }))).toEqual([
      409,
      "idempotency_fingerprint_mismatch",
    ]);
    expect((await sendAs(key, { data: 1, x: 1 })).status).toBe(400);
    expect((await post(`/v1/sessions/${session}/inputs/answers`, undefined, { key })).status).toBe(400);
    await post(`/sessions/${session}/cancel`, {});
    expect(refusal(await sendAs(key, { data: 3 }))).toEqual([409, "session_terminal"]);
  });

  test("§4.3 read: query as 4.2, by id and by external id", async () => {
    await append({ data: 1, correlation_id: "a" });
    await append({ data: 2, correlation_id: "b" });
    const key = await reader();
    const first = await readAs(key);
    expect(first.status).toBe(200);
    expectShape(first.body, shapes.recordRead);
    expect(first.body.record.data).toBe(1);
    expect((await readAs(key, "?after_sequence=1")).body.record.data).toBe(2);
    expect((await readAs(key, "?correlation_id=b")).body.record.data).toBe(2);
    expect((await readAs(key, "?cursor=2")).body).toEqual({ record: null });
    expect((await get(`/v1${byExternalId("/outputs/news/read")}`, { key })).body.record.data).toBe(1);
    expect((await readAs(key, "?after_sequence=-1")).status).toBe(400);
  });

  test("§4.3 each successful call consumes one use, reads too; a failed one none", async () => {
    const input = await sender({ max_uses: 2 });
    expect((await sendAs(input, { x: 1 })).status).toBe(400);
    expect((await sendAs(input, {}, "nope")).status).toBe(404);
    const keyed = { data: 1, idempotency_key: "k" };
    expect((await sendAs(input, keyed)).status).toBe(201);
    expect((await sendAs(input, keyed)).status).toBe(201);
    expect(refusal(await sendAs(input, keyed))).toEqual([403, "token_scope_denied"]);
    const output = await reader({ max_uses: 2 });
    expect((await readAs(output, "?after_sequence=x")).status).toBe(400);
    expect((await readAs(output)).status).toBe(200);
    expect((await readAs(output)).status).toBe(200);
    expect(refusal(await readAs(output))).toEqual([403, "token_scope_denied"]);
  });

  test("§4.3 no bearer or an unknown one → 401 token_scope_denied", async () => {
    const keys = [
      null,
      "x",
      server.key,
      `hlmr_pat_${"A".repeat(43)}`,
      `hlmr_public_access_${"A".repeat(43)}`,
    ];
    for (const key of keys) {
      expect(refusal(await sendAs(key))).toEqual([401, "token_scope_denied"]);
      expect(refusal(await readAs(key))).toEqual([401, "token_scope_denied"]);
    }
  });

  test("§4.3 wrong scope, correlation id or stream, revoked → 403; expired → 410", async () => {
    const denied = [403, "token_scope_denied"];
    expect(refusal(await sendAs(await reader()))).toEqual(denied);
    expect(refusal(await readAs(await sender()))).toEqual(denied);
    const bound = await sender({}, { correlation_id: "c" });
    for (const body of [{}, { correlation_id: "d" }])
      expect(refusal(await sendAs(bound, body))).toEqual(denied);
    expect((await sendAs(bound, { correlation_id: "c" })).status).toBe(201);
    expect(refusal(await sendAs(bound, { correlation_id: "c" }, "questions"))).toEqual(denied);
    const boundReader = await reader({}, { correlation_id: "c" });
    for (const query of ["", "?correlation_id=d"])
      expect(refusal(await readAs(boundReader, query))).toEqual(denied);
    expect((await readAs(boundReader, "?correlation_id=c")).status).toBe(200);
    const key = await reader();
    const last = sql`(select max(id::text)::uuid from public_access_tokens)`;
    await sql`update public_access_tokens set revoked_at = now() where id = ${last}`.execute(server.db);
    expect(refusal(await readAs(key))).toEqual(denied);
    const over = await reader();
    await sql`update public_access_tokens set expires_at = now() where id = ${last}`.execute(server.db);
    expect(refusal(await readAs(over))).toEqual([410, "token_expired"]);
  });

  test("§1.2 any other Helmr-API-Version → 400, on the public routes, too", async () => {
    const headers = { "helmr-api-version": "2026-06-07" };
    const key = await sender();
    expect((await post(`/v1/sessions/${session}/inputs/answers`, {}, { key, headers })).status).toBe(400);
    expect((await post(`/sessions/${session}/inputs/answers`, {}, { headers })).status).toBe(400);
    expect(await dataOf(`/sessions/${session}/inputs/answers`)).toEqual([]);
  });

  test("§4.3 unknown session or stream → 404 stream_not_found; a PAT opens nothing else", async () => {
    const [input, output] = [await sender(), await reader()];
    const unknown = crypto.randomUUID();
    const notFound = [404, "stream_not_found"];
    expect(refusal(await sendAs(input, {}, "answers", unknown))).toEqual(notFound);
    expect(refusal(await sendAs(input, {}, "nope"))).toEqual(notFound);
    expect(refusal(await readAs(output, "", "news", unknown))).toEqual(notFound);
    expect(refusal(await readAs(output, "", "nope"))).toEqual(notFound);
    for (const key of [input, output]) {
      for (const path of [`/sessions/${session}`, `/sessions/${session}/outputs/news/read`, "/tokens"]) {
        expect((await get(path, { key })).status).toBe(401);
      }
    }
  });
});

describe("§1.6 CORS of streams", () => {
  const corsOf = ({ headers }: { headers: Headers }) =>
    Object.fromEntries(
      [...headers].filter(([name]) => name === "vary" || name.startsWith("access-control-")),
    );

  test.each([
    ["POST", "inputs/answers"],
    ["GET", "outputs/news/read"],
  ])(
    "§1.6 OPTIONS for %s /api/v1/…/%s → 204, headers for the server's own origin only",
    async (method, rest) => {
      for (const path of [`/v1/sessions/${session}/${rest}`, `/v1${byExternalId(`/${rest}`)}`]) {
        const ask = (origin?: string) =>
          server.request("OPTIONS", path, undefined, {
            key: null,
            headers: { "access-control-request-method": method, ...(origin !== undefined && { origin }) },
          });
        const own = await ask(server.publicUrl);
        expect([own.status, own.body]).toEqual([204, ""]);
        expect(corsOf(own)).toEqual({
          "access-control-allow-origin": server.publicUrl,
          vary: "origin",
          "access-control-allow-methods": `${method}, OPTIONS`,
          "access-control-allow-headers": "authorization, content-type, Helmr-API-Version",
          "access-control-max-age": "600",
        });
        for (const origin of [
          undefined,
          "null",
          "https://elsewhere.example",
          `${server.publicUrl}.example`,
        ]) {
          const other = await ask(origin);
          expect([other.status, corsOf(other)]).toEqual([204, {}]);
        }
      }
    },
  );

  test("§1.6 the keyed routes have no CORS", async () => {
    for (const rest of ["inputs/answers", "outputs/news/read", "streams"]) {
      const headers = { origin: server.publicUrl, "access-control-request-method": "POST" };
      const preflight = await server.request("OPTIONS", `/sessions/${session}/${rest}`, undefined, {
        headers,
      });
      expect([preflight.status, corsOf(preflight)]).toEqual([404, {}]);
    }
    const answer = await get(`/sessions/${session}/streams`, { headers: { origin: server.publicUrl } });
    expect(corsOf(answer)).toEqual({});
  });
});
