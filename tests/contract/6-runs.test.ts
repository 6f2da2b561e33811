/** Contract 6: runs, their events and logs, as a strict client reads them. */
import { seedTask } from "@helmr/store/testing";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { leaseRun } from "../../packages/control-plane/test/support/runs.ts";
import { startTestServer, type TestServer } from "../../packages/control-plane/test/support/server.ts";
import { openStream, take, takeAll } from "../../packages/control-plane/test/support/sse.ts";
import * as shapes from "./support/shapes.ts";
import { expectList, expectShape } from "./support/shapes.ts";

let server: TestServer;
let runId: string;
let sessionId: string;
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope, { taskId: "hello" });
});
afterAll(() => server.stop());
beforeEach(async () => {
  const { body } = await server.request("POST", "/sessions", { task_id: "hello" });
  runId = body.run.id;
  sessionId = body.session.id;
});
const get = (path: string) => server.request("GET", path);
const follow = (path: string, headers?: Record<string, string>) =>
  openStream(`${server.url}/api${path}`, server.key, headers);

describe("§6 runs", () => {
  test("§6 GET /runs: live by default, newest first, limit 1..200, session_id", async () => {
    const newer = (await server.request("POST", "/sessions", { task_id: "hello" })).body.run.id;
    const { body } = await get("/runs");
    expectList(body, "runs", shapes.run);
    const ids = body.runs.map(({ id }: { id: string }) => id);
    expect(ids.slice(0, 2)).toEqual([newer, runId]);
    const statuses = new Set(body.runs.map(({ status }: { status: string }) => status));
    expect(["queued", "running", "waiting"]).toEqual(expect.arrayContaining([...statuses]));
    await server.request("POST", `/runs/${runId}/cancel`, {});
    expect((await get(`/runs?session_id=${sessionId}`)).body).toEqual({ runs: [] });
    expect((await get(`/runs?session_id=${sessionId}&status=all`)).body.runs).toHaveLength(1);
    expect((await get(`/runs?session_id=${sessionId}&status=cancelled`)).body.runs).toHaveLength(1);
    expect((await get("/runs?status=all&limit=1")).body.runs).toHaveLength(1);
    for (const query of ["status=open", "limit=0", "limit=201", "session_id=x"]) {
      expect((await get(`/runs?${query}`)).status).toBe(400);
    }
  });

  test("§6 GET /runs/counts: the seven statuses, always", async () => {
    const { body } = await get("/runs/counts");
    expectShape(body, shapes.runCounts);
    expect(body.queued).toBeGreaterThan(0);
  });

  test("§6 GET /runs/{id} is bare; not a UUID → 400; unknown → 404 run not found", async () => {
    expectShape((await get(`/runs/${runId}`)).body, shapes.run);
    for (const path of ["", "/events", "/logs"]) {
      expect((await get(`/runs/nope${path}`)).status).toBe(400);
      expect(await get(`/runs/${crypto.randomUUID()}${path}`)).toMatchObject({
        status: 404,
        body: { error: "run not found" },
      });
    }
  });

  test("§6 cancel: 200 {run, operation}; the same key and body once, another body → 409; terminal → rejected", async () => {
    const cancel = (body: object) => server.request("POST", `/runs/${runId}/cancel`, body);
    const first = await cancel({ reason: "why", force: false, idempotency_key: "k" });
    expect(first.status).toBe(200);
    expectShape(first.body, shapes.runCancel);
    expect(first.body).toMatchObject({
      run: { status: "cancelled" },
      operation: { run_id: runId, kind: "cancel", reason: "why" },
    });
    expect((await cancel({ reason: "why", idempotency_key: "k" })).body.operation).toEqual(
      first.body.operation,
    );
    expect((await cancel({ reason: "else", idempotency_key: "k" })).status).toBe(409);
    const late = await cancel({});
    expect([late.status, late.body.operation.status, late.body.run.status]).toEqual([
      200,
      "rejected",
      "cancelled",
    ]);
    expectShape(late.body, shapes.runCancel);
    for (const body of [{ unknown: 1 }, { force: "yes" }]) expect((await cancel(body)).status).toBe(400);
    expect((await server.request("POST", `/runs/${runId}/cancel`)).status).toBe(400);
  });
});

describe("§6.1 events", () => {
  test("§6 page: the request's cursor as a number, next_cursor only when more exist", async () => {
    const run = await leaseRun(server, runId);
    await run.log("stdout", "a");
    await run.finish();
    const all = (await get(`/runs/${runId}/events`)).body;
    expectShape(all, shapes.eventPage);
    expect([all.cursor, Object.hasOwn(all, "next_cursor")]).toEqual([0, false]);
    expect(all.events.map(({ id }: { id: string }) => id)).toEqual(
      all.events.map((_: unknown, index: number) => String(index + 1)),
    );
    const paged: unknown[] = [];
    let cursor: number | undefined = 0;
    while (cursor !== undefined) {
      const page: { events: { id: string }[]; cursor: number; next_cursor?: number } = (
        await get(`/runs/${runId}/events?cursor=${cursor}&limit=2`)
      ).body;
      expect(page.cursor).toBe(cursor);
      if (page.next_cursor !== undefined) expect(page.next_cursor).toBe(Number(page.events.at(-1)?.id));
      paged.push(...page.events);
      cursor = page.next_cursor;
    }
    expect(paged).toEqual(all.events);
    for (const query of ["cursor=-1", "cursor=x", "limit=0", "limit=201"]) {
      expect((await get(`/runs/${runId}/events?${query}`)).status).toBe(400);
    }
  });

  test("§6.1 §13.10 the message is the event's name, and each has what the SDK reads", async () => {
    const run = await leaseRun(server, runId);
    await run.log("stderr", "a");
    await run.finish({
      status: "failed",
      failureKind: "task_failed",
      message: "no",
      detail: { message: "no" },
      retryable: false,
    });
    const { events } = (await get(`/runs/${runId}/events`)).body;
    for (const event of events) {
      expect(event.message).toBe(event.kind);
      expect(event.run_id).toBe(runId);
      expect(event).not.toHaveProperty("deployment_id");
    }
    const byKind = new Map(
      events.map((event: { kind: string; attributes: object }) => [event.kind, event.attributes]),
    );
    expect([...byKind.keys()]).toEqual([
      "run.created",
      "run_lease.leased",
      "run_lease.started",
      "log.stderr",
      "run.failed",
    ]);
    expect(byKind.get("log.stderr")).toMatchObject({ bytes: 1, observed_seq: 1 });
    expect(byKind.get("run.failed")).toMatchObject({ failure_kind: "task_failed", detail: {} });
    // Payloads are not shown.
    const created = events[0];
    if (created.redaction_class === "sensitive") expect(created.attributes).toEqual({ redacted: true });
    else expect(created.attributes).toMatchObject({ task_id: "hello", reason: "initial" });
  });

  test.each([
    ["succeeded", { status: "succeeded", outputJson: "1" }, "run.completed", { exit_code: 0 }],
    ["cancelled", { status: "cancelled", reason: "why" }, "run.cancelled", { reason: "why" }],
  ] as const)("§6.1 the terminal event of a run that %s", async (_name, outcome, kind, attributes) => {
    const run = await leaseRun(server, runId);
    await run.finish(outcome);
    const last = (await get(`/runs/${runId}/events`)).body.events.at(-1);
    expect([last.kind, last.attributes]).toEqual([kind, expect.objectContaining(attributes)]);
  });
});

describe("§6.2 SSE", () => {
  test("§6.2 headers, frames byte by byte, replay after the cursor, end after the terminal event", async () => {
    const run = await leaseRun(server, runId);
    await run.finish();
    const response = await fetch(`${server.url}/api/runs/${runId}/events?follow=1`, {
      headers: { authorization: `Bearer ${server.key}` },
    });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    expect(response.headers.get("cache-control")).toBe("no-cache");
    expect(response.headers.get("helmr-api-version")).toBe("2026-06-06");
    const frames = (await response.text())
      .split("\n\n")
      .filter((frame) => frame !== "" && !frame.startsWith(":"));
    for (const [index, frame] of frames.entries()) {
      const [idLine, eventLine, dataLine, ...rest] = frame.split("\n");
      expect([idLine, eventLine, rest]).toEqual([`id: ${index + 1}`, "event: run_event", []]);
      expect(dataLine?.startsWith("data: ")).toBe(true);
      const data = JSON.parse(dataLine?.slice("data: ".length) ?? "");
      expectShape(data, shapes.event);
      expect(data.id).toBe(String(index + 1));
    }
    expect(frames.at(-1)).toContain("run.completed");
  });

  test("§6.2 Last-Event-ID wins over cursor; Accept asks for a stream", async () => {
    await server.request("POST", `/runs/${runId}/cancel`, {});
    const last = (await get(`/runs/${runId}/events`)).body.events.length;
    const ids = async (path: string, headers?: Record<string, string>) =>
      (await takeAll(await follow(path, headers))).map(({ id }) => Number(id));
    expect((await ids(`/runs/${runId}/events?follow=1&cursor=1`))[0]).toBe(2);
    expect(await ids(`/runs/${runId}/events?follow=1&cursor=${last}`, { "last-event-id": "0" })).toHaveLength(
      last,
    );
    expect(await ids(`/runs/${runId}/events`, { accept: "text/event-stream" })).toHaveLength(last);
    expect(await ids(`/runs/${runId}/events?follow=1&cursor=${last}`)).toEqual([]);
    const wrong = await follow(`/runs/${runId}/events?follow=1`, { "last-event-id": "x" });
    expect(wrong.response.status).toBe(400);
    await wrong.close();
  });

  test("§6.2 what happens later arrives on the open stream", async () => {
    const stream = await follow(`/runs/${runId}/events?follow=1`);
    expect((await take(stream, 1))[0]?.data.kind).toBe("run.created");
    await server.request("POST", `/runs/${runId}/cancel`, {});
    expect((await takeAll(stream)).at(-1)?.data.kind).toBe("run.cancelled");
  });
});

describe("§6.3 logs", () => {
  test('§6.3 none yet: empty strings and cursor "0"', async () => {
    const { body } = await get(`/runs/${runId}/logs`);
    expectShape(body, shapes.runLogs);
    expect(body).toEqual({
      stdout_base64: "",
      stderr_base64: "",
      cursor: "0",
      stdout_bytes: 0,
      stderr_bytes: 0,
      truncated: false,
    });
  });

  test("§6.3 the snapshot, and frames to follow from its cursor until the run has ended", async () => {
    const run = await leaseRun(server, runId);
    await run.log("stdout", Buffer.from([0xff, 0x00]));
    await run.log("stderr", "b");
    const { body } = await get(`/runs/${runId}/logs`);
    expectShape(body, shapes.runLogs);
    expect(body).toMatchObject({
      stdout_base64: "/wA=",
      stderr_base64: "Yg==",
      stdout_bytes: 2,
      stderr_bytes: 1,
    });
    const stream = await follow(`/runs/${runId}/logs?follow=1`);
    const rest = await follow(`/runs/${runId}/logs?follow=1&cursor=${body.cursor}`);
    await run.log("stdout", "c");
    await run.finish();
    const frames = await takeAll(stream);
    for (const frame of frames) {
      expect(frame.event).toBe("run_log");
      expectShape(frame.data, shapes.runLogFrame);
      expect(frame.data.id).toBe(frame.id);
    }
    expect(frames.map(({ data }) => [data.stream, data.content_base64])).toEqual([
      ["stdout", "/wA="],
      ["stderr", "Yg=="],
      ["stdout", "Yw=="],
    ]);
    expect((await takeAll(rest)).map(({ data }) => data.content_base64)).toEqual(["Yw=="]);
  });
});
