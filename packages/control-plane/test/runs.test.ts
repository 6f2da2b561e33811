/** Runs over HTTP: lists, counts, cancel with operations, event pages and streams, logs. */
import { seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { leaseRun } from "./support/runs.ts";
import { startTestServer, type TestServer } from "./support/server.ts";
import { openStream, take, takeAll } from "./support/sse.ts";

let server: TestServer;
let runId: string;
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope, { taskId: "hello" });
});
afterAll(() => server.stop());
beforeEach(async () => {
  runId = (await server.request("POST", "/sessions", { task_id: "hello" })).body.run.id;
});
const get = (path: string, headers: Record<string, string> = {}) =>
  server.request("GET", path, undefined, { headers });
const follow = (path: string, headers: Record<string, string> = {}) =>
  openStream(`${server.url}/api/runs/${runId}${path}`, server.key, headers);
const shared = async (path: string) => (await get(path)).body;

describe("lists and counts", () => {
  test("newest first, live by default", async () => {
    const run = await leaseRun(server, runId);
    const second = (await server.request("POST", "/sessions", { task_id: "hello" })).body;
    const ids = async (query: string) =>
      (await shared(`/runs?${query}`)).runs.map((each: { id: string }) => each.id);
    expect((await ids("")).slice(0, 2)).toEqual([second.run.id, runId]);
    expect((await ids("status=running"))[0]).toBe(runId);
    expect((await ids("status=queued"))[0]).toBe(second.run.id);
    expect(await ids(`session_id=${second.session.id}`)).toEqual([second.run.id]);
    const before = await shared("/runs/counts");
    await run.finish();
    const after = await shared("/runs/counts");
    expect(after).toEqual({ ...before, running: before.running - 1, succeeded: before.succeeded + 1 });
    expect(await ids("")).not.toContain(runId);
    expect((await ids("status=succeeded"))[0]).toBe(runId);
    expect(await ids("status=all")).toContain(runId);
    expect(await ids("status=all&limit=1")).toHaveLength(1);
    expect(await ids(`session_id=${crypto.randomUUID()}&status=all`)).toEqual([]);
  });

  test.each(["status=x", "limit=0", "limit=1000", "session_id=x", "environment_id=x"])(
    "400 for %s",
    async (query) => {
      expect((await get(`/runs?${query}`)).status).toBe(400);
    },
  );

  test("unknown and malformed ids", async () => {
    for (const path of ["", "/events", "/logs", "/events?follow=1", "/logs?follow=1"]) {
      expect(await get(`/runs/${crypto.randomUUID()}${path}`)).toMatchObject({
        status: 404,
        body: { error: "run not found" },
      });
      expect((await get(`/runs/nope${path}`)).status).toBe(400);
    }
    expect((await server.request("POST", `/runs/${crypto.randomUUID()}/cancel`, {})).status).toBe(404);
  });
});

describe("cancel", () => {
  const cancel = (body: object) => server.request("POST", `/runs/${runId}/cancel`, body);

  test("a queued run ends at once; after that a cancel is rejected", async () => {
    const first = await cancel({ reason: "no need" });
    expect(first).toMatchObject({
      status: 200,
      body: {
        run: { id: runId, status: "cancelled" },
        operation: { kind: "cancel", run_id: runId, status: "applied", reason: "no need" },
      },
    });
    expect(first.body.operation).toHaveProperty("applied_at");
    const second = await cancel({});
    expect(second).toMatchObject({
      status: 200,
      body: { run: { status: "cancelled" }, operation: { status: "rejected" } },
    });
    expect(second.body.operation).not.toHaveProperty("applied_at");
    expect(second.body.operation).not.toHaveProperty("reason");
  });

  test("a running one is asked to stop; the same key answers the same operation", async () => {
    const run = await leaseRun(server, runId);
    const asked = await cancel({ idempotency_key: "k", force: true });
    expect(asked.body).toMatchObject({ run: { status: "running" }, operation: { status: "pending" } });
    expect((await cancel({ idempotency_key: "k", force: true })).body.operation).toEqual(
      asked.body.operation,
    );
    expect(await cancel({ idempotency_key: "k" })).toMatchObject({
      status: 409,
      body: { code: "idempotency_fingerprint_mismatch" },
    });
    await run.finish({ status: "cancelled", reason: "cancelled" });
    expect((await cancel({ idempotency_key: "k", force: true })).body).toMatchObject({
      run: { status: "cancelled" },
      operation: { id: asked.body.operation.id, status: "applied" },
    });
  });

  test("concurrent cancels with one key are one operation", async () => {
    const answers = await Promise.all(Array.from({ length: 6 }, () => cancel({ idempotency_key: "same" })));
    expect(new Set(answers.map(({ body }) => body.operation.id)).size).toBe(1);
  });

  test.each([{ force: "yes" }, { reason: 1 }, { other: true }, { idempotency_key: " " }])(
    "400 for %j",
    async (body) => {
      expect((await cancel(body)).status).toBe(400);
    },
  );

  test("an empty body is refused", async () => {
    expect((await server.request("POST", `/runs/${runId}/cancel`)).status).toBe(400);
  });
});

describe("events", () => {
  test("pages follow each other to the end", async () => {
    const run = await leaseRun(server, runId);
    await run.log("stdout", "one");
    await run.log("stderr", "two");
    await run.finish();
    const all = await shared(`/runs/${runId}/events`);
    expect(all).not.toHaveProperty("next_cursor");
    expect(all.cursor).toBe(0);
    expect(all.events.map((event: { kind: string }) => event.kind)).toEqual([
      "run.created",
      "run_lease.leased",
      "run_lease.started",
      "log.stdout",
      "log.stderr",
      "run.completed",
    ]);
    expect(all.events.map((event: { id: string }) => event.id)).toEqual(["1", "2", "3", "4", "5", "6"]);
    for (const event of all.events) expect(event).toMatchObject({ message: event.kind, run_id: runId });
    expect(all.events[3].attributes).toMatchObject({ bytes: 3, observed_seq: 1 });
    const pages = [];
    for (let cursor: number | undefined = 0; cursor !== undefined; ) {
      const page: { events: unknown[]; next_cursor?: number } = await shared(
        `/runs/${runId}/events?limit=2&cursor=${cursor}`,
      );
      pages.push(...page.events);
      cursor = page.next_cursor;
    }
    expect(pages).toEqual(all.events);
    expect(await shared(`/runs/${runId}/events?cursor=6`)).toEqual({ events: [], cursor: 6 });
  });

  test("sensitive attributes are not shown", async () => {
    await sql`update run_events set redaction_class = 'sensitive' where run_id = ${runId}`.execute(server.db);
    const { events } = await shared(`/runs/${runId}/events`);
    expect(events[0]).toMatchObject({ redaction_class: "sensitive", attributes: { redacted: true } });
  });

  test("a stream replays, goes on live, and ends with the terminal event", async () => {
    const stream = await follow("/events?follow=1");
    expect(stream.response.headers.get("content-type")).toBe("text/event-stream");
    expect(stream.response.headers.get("cache-control")).toBe("no-cache");
    const [created] = await take(stream, 1);
    expect(created).toMatchObject({ id: "1", event: "run_event", data: { kind: "run.created", id: "1" } });
    const run = await leaseRun(server, runId);
    await run.log("stdout", "hello");
    expect((await take(stream, 3)).map((frame) => frame.data.kind)).toEqual([
      "run_lease.leased",
      "run_lease.started",
      "log.stdout",
    ]);
    await run.finish();
    const rest = await takeAll(stream);
    expect(rest.map((frame) => frame.data.kind)).toEqual(["run.completed"]);
    const page = await shared(`/runs/${runId}/events`);
    expect(rest[0]?.data).toEqual(page.events.at(-1));
  });

  test("a lost hint only makes it later", async () => {
    const stream = await follow("/events", { accept: "text/event-stream" });
    await take(stream, 1);
    await sql`update runs set event_seq = event_seq + 1 where id = ${runId}`.execute(server.db);
    await sql`insert into run_events (run_id, seq, category, severity, source, kind, message, attributes, occurred_at)
      values (${runId}, 2, 'runtime', 'info', 'worker', 'x.y', '', '{}', now())`.execute(server.db);
    const [frame] = await take(stream, 1);
    expect(frame).toMatchObject({ id: "2", data: { kind: "x.y", message: "x.y" } });
    await stream.close();
  });

  test("resuming by cursor and by Last-Event-ID, which wins", async () => {
    const run = await leaseRun(server, runId);
    await run.finish();
    const ids = async (path: string, headers = {}) =>
      (await takeAll(await follow(path, headers))).map((frame) => frame.id);
    expect(await ids("/events?follow=1&cursor=2")).toEqual(["3", "4"]);
    expect(await ids("/events?follow=1&cursor=1", { "last-event-id": "3" })).toEqual(["4"]);
    // Behind the last event there is nothing: the stream ends at once instead of waiting for more.
    expect(await ids("/events?follow=1&cursor=4")).toEqual([]);
    const bad = await follow("/events?follow=1", { "last-event-id": "x" });
    expect(bad.response.status).toBe(400);
    expect((await get(`/runs/${runId}/events?cursor=-1`)).status).toBe(400);
    expect((await get(`/runs/${runId}/events?limit=201`)).status).toBe(400);
  });

  test("many subscribers see the same", async () => {
    const streams = await Promise.all(Array.from({ length: 50 }, () => follow("/events?follow=1")));
    const read = streams.map(takeAll);
    const run = await leaseRun(server, runId);
    for (let i = 0; i < 20; i += 1) await run.log("stdout", `${i}`);
    await run.finish();
    const seen = await Promise.all(read);
    const expected = Array.from({ length: 24 }, (_, i) => String(i + 1));
    for (const frames of seen) expect(frames.map((frame) => frame.id)).toEqual(expected);
  });
});

describe("logs", () => {
  test("nothing yet", async () => {
    expect(await shared(`/runs/${runId}/logs`)).toEqual({
      stdout_base64: "",
      stderr_base64: "",
      cursor: "0",
      stdout_bytes: 0,
      stderr_bytes: 0,
      truncated: false,
    });
  });

  test("both streams, byte for byte", async () => {
    const run = await leaseRun(server, runId);
    const bytes = Buffer.from([0xff, 0xfe, 0, 0x80]);
    await run.log("stdout", bytes);
    await run.log("stderr", "err");
    await run.log("stdout", "out");
    const logs = await shared(`/runs/${runId}/logs`);
    expect(Buffer.from(logs.stdout_base64, "base64")).toEqual(Buffer.concat([bytes, Buffer.from("out")]));
    expect(logs).toMatchObject({
      stderr_base64: "ZXJy",
      stdout_bytes: 7,
      stderr_bytes: 3,
      cursor: "6",
      truncated: false,
    });
    await run.log("stdout", Buffer.alloc(2 ** 20, "x"));
    const long = await shared(`/runs/${runId}/logs`);
    expect(Buffer.from(long.stdout_base64, "base64")).toHaveLength(2 ** 20);
    expect(long).toMatchObject({ truncated: true, stdout_bytes: 7 + 2 ** 20 });
  });

  test("a stream is drained before it ends, and keeps alive while idle", async () => {
    const stream = await follow("/logs?follow=1");
    const run = await leaseRun(server, runId);
    await run.log("stdout", "a");
    const [first] = await take(stream, 1);
    expect(first).toMatchObject({
      event: "run_log",
      data: {
        id: first?.id,
        run_id: runId,
        stream: "stdout",
        content_base64: "YQ==",
        bytes: 1,
        observed_seq: 1,
        attempt_number: 1,
      },
    });
    await run.log("stderr", "b");
    await take(stream, 1);
    await run.log("stdout", "c");
    await run.finish();
    expect((await takeAll(stream)).map((frame) => frame.data.content_base64)).toEqual(["Yw=="]);
    const again = await takeAll(await follow(`/logs?follow=1&cursor=${first?.id}`));
    expect(again.map((frame) => frame.data.content_base64)).toEqual(["Yg==", "Yw=="]);
  });

  test("comments while idle", async () => {
    const stream = await follow("/logs?follow=1");
    const reading = takeAll(stream);
    while (stream.comments() === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    await server.request("POST", `/runs/${runId}/cancel`, {});
    expect(await reading).toEqual([]);
  });
});

describe("limits of streams", () => {
  test("too many are refused, and closing the server ends those that are open", async () => {
    const small = await startTestServer({ maxStreams: 2 });
    try {
      await seedTask(small.db, small.scope, { taskId: "hello" });
      const id = (await small.request("POST", "/sessions", { task_id: "hello" })).body.run.id;
      const open = () => openStream(`${small.url}/api/runs/${id}/events?follow=1`, small.key);
      const runs = async () => (await small.request("GET", "/runs")).body.runs.length;
      const startAndWait = () => small.request("POST", "/sessions/start-and-wait", { task_id: "hello" });

      // The waiting request holds one of the two places, the stream the other.
      const waiting = startAndWait();
      await vi.waitUntil(async () => (await runs()) === 2, { timeout: 30_000 });
      const stream = await open();
      expect(stream.response.status).toBe(200);
      expect((await open()).response.status).toBe(503);
      expect((await startAndWait()).status).toBe(503);
      expect(await runs()).toBe(2);

      await stream.close();
      const reopened = await vi.waitUntil(
        async () => {
          const again = await open();
          if (again.response.status === 200) return again;
          await again.close();
          return undefined;
        },
        { timeout: 30_000 },
      );
      expect((await take(reopened, 1))[0]?.data.kind).toBe("run.created");
      await small.close();
      expect(await takeAll(reopened)).toEqual([]);
      // The session was started: an error would say that it was not.
      expect(await waiting).toMatchObject({
        status: 200,
        body: { timed_out: true, run: { status: "queued" } },
      });
    } finally {
      await small.stop();
    }
  });
});
