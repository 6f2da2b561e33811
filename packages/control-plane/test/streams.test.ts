/** Streams of sessions over HTTP (contract 3, 4.1, 4.2): what is sent and read, whom it wakes, what follows it. */

import { type SeededTask, seedEnvironment, seedStream, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leaseRun } from "./support/runs.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let task: SeededTask;
let session: string;
let member: string;
beforeAll(async () => {
  server = await startTestServer();
  task = await seedTask(server.db, server.scope);
  await seedStream(server.db, task, "answers", "input");
  await seedStream(server.db, task, "news", "output");
  session = (await start({ external_id: "the one" })).session.id;
  member = (await server.newMember("developer")).token;
});
afterAll(() => server.stop());

const start = async (body: object = {}) =>
  (await server.request("POST", "/sessions", { task_id: "hello", ...body })).body;
const post = (path: string, body?: unknown) => server.request("POST", path, body);
const get = (path: string) => server.request("GET", path);
const send = (id: string, body: unknown, stream = "answers") =>
  post(`/sessions/${id}/inputs/${stream}`, body);
const append = (id: string, body: unknown, stream = "news") =>
  post(`/sessions/${id}/outputs/${stream}`, body);
const sessionOf = async (id: string) => (await get(`/sessions/${id}`)).body;
const byExternalId = "external_id=the%20one";
const unknown = "019a0000-0000-7000-8000-000000000000";

describe("§3.3 listing", () => {
  test("has every declared stream before it is used, and its last sequence after", async () => {
    const { session: fresh } = await start();
    const { status, body } = await get(`/sessions/${fresh.id}/streams`);
    expect(status).toBe(200);
    expect(body.streams).toEqual([
      expect.objectContaining({ session_id: fresh.id, name: "answers", direction: "input", sequence: 0 }),
      expect.objectContaining({ session_id: fresh.id, name: "news", direction: "output", sequence: 0 }),
    ]);
    await append(fresh.id, { data: 1 });
    const after = await get(`/sessions/${fresh.id}/streams`);
    expect(after.body.streams[1]).toEqual({ ...body.streams[1], sequence: 1 });
    expect((await get(`/sessions/by-external-id/streams?${byExternalId}`)).body.streams).toHaveLength(2);
  });

  test("two at once see the same streams", async () => {
    const { session: fresh } = await start();
    const answers = await Promise.all(Array.from({ length: 5 }, () => get(`/sessions/${fresh.id}/streams`)));
    expect(new Set(answers.map(({ body }) => JSON.stringify(body.streams))).size).toBe(1);
  });
});

describe("§4.1 append", () => {
  test("gives the record as it was sent, numbered from 1", async () => {
    const { session: fresh } = await start();
    const data = { b: [1, null, "é"], a: { z: 1, y: 2 } };
    const first = await append(fresh.id, { data, content_type: "text/x", correlation_id: "c" });
    expect(first).toMatchObject({
      status: 201,
      body: {
        record: { sequence: 1, content_type: "text/x", correlation_id: "c" },
        idempotency_status: "created",
      },
    });
    expect(JSON.stringify(first.body.record.data)).toBe(JSON.stringify(data));
    expect(first.body).not.toHaveProperty("continuation_status");
    const second = await append(fresh.id, {});
    expect(second.body.record).toMatchObject({ sequence: 2, data: null, content_type: "application/json" });
    expect(second.body.record).not.toHaveProperty("correlation_id");
    expect(second.body.record.stream_id).toBe(first.body.record.stream_id);
  });

  test("with one key is one record, also at once; with other content a 409", async () => {
    const { session: fresh } = await start();
    const body = { data: { a: 1, b: 2 }, correlation_id: "c", idempotency_key: "k" };
    const answers = await Promise.all(Array.from({ length: 6 }, () => append(fresh.id, body)));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 201));
    expect(new Set(answers.map((answer) => answer.body.record.id)).size).toBe(1);
    expect(answers.filter((answer) => answer.body.idempotency_status === "created")).toHaveLength(1);
    const reordered = await append(fresh.id, { ...body, data: { b: 2, a: 1 } });
    expect(reordered.body.idempotency_status).toBe("duplicate");
    for (const other of [{ data: 2 }, { correlation_id: "d" }, { content_type: "text/plain" }]) {
      expect(await append(fresh.id, { ...body, ...other })).toMatchObject({
        status: 409,
        body: { code: "idempotency_fingerprint_mismatch" },
      });
    }
  });

  test("of many at once numbers each once, without gaps", async () => {
    const { session: fresh } = await start();
    await Promise.all(Array.from({ length: 20 }, (_, i) => append(fresh.id, { data: i })));
    const { body } = await get(`/sessions/${fresh.id}/outputs/news`);
    expect(body.records.map((record: { sequence: number }) => record.sequence)).toEqual(
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
  });

  test.each([
    ["no body", undefined, "empty"],
    ["unknown fields", { data: 1, x: 1 }, "x"],
    ["a long key", { idempotency_key: "k".repeat(513) }, "idempotency_key"],
    ["a content type with a line break", { content_type: "a\nb" }, "content_type"],
    ["a correlation id that is no text", { correlation_id: 1 }, "correlation_id"],
  ])("400 for %s", async (_name, body, says) => {
    const answer = await send(session, body);
    expect(answer).toMatchObject({ status: 400, body: { error: expect.stringContaining(says) } });
  });

  test("what is not there, or in the other direction, is a 404; a bad name a 400", async () => {
    const other = await seedEnvironment(server.db);
    const key = await server.newKey(other.scope);
    const elsewhere = await server.request("POST", `/sessions/${session}/inputs/answers`, {}, { key });
    expect(elsewhere).toMatchObject({ status: 404, body: { error: "session not found" } });
    expect(await send(unknown, {})).toMatchObject({ status: 404, body: { error: "session not found" } });
    expect(await send("x", {})).toMatchObject({ status: 400 });
    expect(await send(session, {}, "nope")).toMatchObject({
      status: 404,
      body: { code: "stream_not_found" },
    });
    for (const answer of [await send(session, {}, "news"), await append(session, {}, "answers")]) {
      expect(answer).toMatchObject({ status: 404, body: { code: "stream_direction_mismatch" } });
    }
    for (const name of ["-x", "a%2Fb", "x".repeat(257)]) {
      expect(await send(session, {}, name)).toMatchObject({ status: 400 });
    }
  });

  test("input needs an open session, output does not", async () => {
    const { session: cancelled } = await start();
    await post(`/sessions/${cancelled.id}/cancel`, {});
    expect(await send(cancelled.id, {})).toMatchObject({ status: 409, body: { code: "session_terminal" } });
    expect((await append(cancelled.id, {})).status).toBe(201);
    const { session: due } = await start();
    await sql`update sessions set expires_at = now() where id = ${due.id}`.execute(server.db);
    expect(await send(due.id, {})).toMatchObject({ status: 410, body: { code: "session_expired" } });
  });

  test("a member uses the prefixed route", async () => {
    const path = `/sessions/by-external-id/inputs/answers?${byExternalId}`;
    const body = { data: "by a member" };
    const answer = await server.request("POST", `${server.prefix}${path}`, body, { key: member });
    expect(answer).toMatchObject({ status: 201, body: { record: { data: "by a member" } } });
    const { rows } = await sql`select actor_kind, attributes from audit_log where action = 'stream.append'
      and resource_id = ${answer.body.record.stream_id} order by id desc limit 1`.execute(server.db);
    expect(rows).toMatchObject([
      { actor_kind: "user", attributes: { stream: "answers", direction: "input" } },
    ]);
    expect(JSON.stringify(rows)).not.toContain("by a member");
  });
});

describe("§4.1 input and the session's run", () => {
  test("nothing waits: one continuation is asked for, and made when the run has ended", async () => {
    const { session: fresh, run } = await start();
    expect((await send(fresh.id, { data: 1 })).body.continuation_status).toBe("accepted_run_pending");
    expect((await send(fresh.id, { data: 2 })).body.continuation_status).toBe("duplicate");
    expect(await sessionOf(fresh.id)).toMatchObject({ activity: "queued", can_close: false });
    const leased = await leaseRun(server, run.id);
    await leased.finish();
    // It has ended, and what follows is not made yet.
    expect(await sessionOf(fresh.id)).toMatchObject({ activity: "queued", can_close: false });
    expect(await post(`/sessions/${fresh.id}/close`, {})).toMatchObject({
      status: 409,
      body: { code: "close_run_active" },
    });
  });

  test("the run has ended: the next one is queued at once, with the same payload, and workers are told", async () => {
    const { session: fresh, run } = await start({ payload: { name: "Ada" } });
    await (await leaseRun(server, run.id)).finish();
    expect(await sessionOf(fresh.id)).toMatchObject({ activity: "idle", can_close: true });
    let told = 0;
    const subscription = server.bus.subscribe("work:default", () => {
      told += 1;
    });
    const sent = await send(fresh.id, { data: 1 });
    expect(sent.body.continuation_status).toBe("created");
    await expect.poll(() => told).toBeGreaterThan(0);
    subscription.unsubscribe();
    const { body } = await get(`/sessions/${fresh.id}/runs`);
    expect(body.runs.map((each: { turn_index: number }) => each.turn_index)).toEqual([0, 1]);
    expect(body.runs[1]).toMatchObject({ previous_run_id: run.id, status: "queued" });
    expect(await sessionOf(fresh.id)).toMatchObject({ current_run_id: body.runs[1].id, can_close: false });
    const { rows } = await sql`select payload from runs where id = ${body.runs[1].id}`.execute(server.db);
    expect(rows).toEqual([{ payload: '{"name":"Ada"}' }]);
  });

  test("the run waits for it: it gets the record, and its worker is told", async () => {
    const { session: fresh, run } = await start();
    const leased = await leaseRun(server, run.id);
    const wait = await leased.wait({
      kind: "stream",
      stream: "answers",
      correlationId: "c",
      timeoutMs: 60_000,
    });
    expect(await sessionOf(fresh.id)).toMatchObject({ activity: "waiting", can_close: false });
    const read = await get(`/runs/${run.id}`);
    expect(read.body).toMatchObject({
      status: "waiting",
      pending_wait: {
        id: wait.id,
        kind: "stream",
        created_at: wait.created_at.toISOString(),
        timeout_at: wait.timeout_at?.toISOString(),
        params: { stream: "answers", correlation_id: "c", after_sequence: 0 },
        metadata: { why: "test" },
      },
    });
    expect((await get(`/runs?session_id=${fresh.id}`)).body.runs).toEqual([read.body]);
    let told = 0;
    const subscription = server.bus.subscribe(`waits:${leased.workerInstanceId}`, () => {
      told += 1;
    });
    // Of another correlation id: not for this wait.
    expect((await send(fresh.id, { data: 0 })).body.continuation_status).toBe("accepted_run_pending");
    expect((await get(`/runs/${run.id}`)).body.status).toBe("waiting");
    const sent = await send(fresh.id, { data: { yes: true }, correlation_id: "c" });
    expect(sent.body).not.toHaveProperty("continuation_status");
    await expect.poll(() => told).toBe(1);
    subscription.unsubscribe();
    const after = (await get(`/runs/${run.id}`)).body;
    expect(after.status).toBe("running");
    expect(after).not.toHaveProperty("pending_wait");
  });
});

describe("§4.2 reading", () => {
  let path: string;
  beforeAll(async () => {
    const { session: fresh } = await start({ external_id: "read" });
    path = `/sessions/${fresh.id}/outputs/news`;
    for (const [data, correlation_id] of [
      [1, "a"],
      [2, "b"],
      [3, "a"],
      [4, undefined],
    ]) {
      await append(fresh.id, { data, correlation_id });
    }
  });
  const data = async (of: string) =>
    (await get(of)).body.records.map((record: { data: unknown }) => record.data);

  test("goes on after a sequence, up to a limit, of one correlation id", async () => {
    expect(await data(path)).toEqual([1, 2, 3, 4]);
    expect(await data(`${path}?after_sequence=2`)).toEqual([3, 4]);
    expect(await data(`${path}?cursor=2&limit=1`)).toEqual([3]);
    expect(await data(`${path}?after_sequence=4`)).toEqual([]);
    expect(await data(`${path}?correlation_id=a`)).toEqual([1, 3]);
    expect(await data(`${path}?correlation_id=a&after_sequence=1`)).toEqual([3]);
    expect(await data(`/sessions/by-external-id/outputs/news?external_id=read&after_sequence=3`)).toEqual([
      4,
    ]);
  });

  test("`read` gives one or null", async () => {
    expect((await get(`${path}/read`)).body.record).toMatchObject({ sequence: 1, data: 1 });
    expect((await get(`${path}/read?after_sequence=1&correlation_id=a`)).body.record.data).toBe(3);
    expect((await get(`${path}/read?cursor=4`)).body).toEqual({ record: null });
    const external = await get("/sessions/by-external-id/outputs/news/read?external_id=read");
    expect(external.body.record.data).toBe(1);
  });

  test("input is listed the same way, and a stream that nothing used yet is empty", async () => {
    const { session: fresh } = await start();
    expect(await data(`/sessions/${fresh.id}/inputs/answers`)).toEqual([]);
    expect(await data(`/sessions/${fresh.id}/outputs/news`)).toEqual([]);
    await send(fresh.id, { data: "in" });
    expect(await data(`/sessions/${fresh.id}/inputs/answers`)).toEqual(["in"]);
  });

  test.each(["limit=0", "limit=501", "limit=x", "after_sequence=-1", "cursor=1.5"])(
    "400 for %s",
    async (query) => {
      expect((await get(`${path}?${query}`)).status).toBe(400);
    },
  );

  test("404 for what is not declared, 400 for a scope in the query", async () => {
    const of = `/sessions/${session}`;
    expect(await get(`${of}/outputs/nope`)).toMatchObject({
      status: 404,
      body: { code: "stream_not_found" },
    });
    expect(await get(`${of}/outputs/answers/read`)).toMatchObject({
      status: 404,
      body: { code: "stream_direction_mismatch" },
    });
    expect(await get(`/sessions/${unknown}/streams`)).toMatchObject({ body: { error: "session not found" } });
    expect((await get(`${of}/streams?project_id=x`)).status).toBe(400);
    expect((await get("/sessions/by-external-id/streams")).status).toBe(400);
  });
});
