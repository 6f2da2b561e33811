/** What the control plane tells of its requests: figures by route template, and traces that begin with the caller's. */
import { claimRuns } from "@helmr/store";
import { seedTask, seedWorker } from "@helmr/store/testing";
import {
  createControlMetrics,
  type Span,
  type SpanAttributes,
  type Tracing,
  unreadRegistry,
} from "@helmr/telemetry";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { leaseRun } from "./support/runs.ts";
import { startTestServer, type TestServer } from "./support/server.ts";
import { openStream, takeAll } from "./support/sse.ts";

const limit = { timeout: 20_000, interval: 20 };
const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
const registry = unreadRegistry();
interface Kept {
  readonly name: string;
  readonly parent: string | undefined;
  attributes: SpanAttributes;
  isEnded: boolean;
}
const kept: Kept[] = [];
/** Keeps what was started; each span's id is its number. */
const tracing: Tracing = {
  isOn: true,
  start: (name, { parent, attributes = {} } = {}): Span => {
    const span: Kept = { name, parent, attributes, isEnded: false };
    kept.push(span);
    return {
      traceparent: `00-${parent?.slice(3, 35) ?? "f".repeat(32)}-${String(kept.length).padStart(16, "0")}-01`,
      set: (more) => {
        span.attributes = { ...span.attributes, ...more };
      },
      fail: () => undefined,
      end: () => {
        span.isEnded = true;
      },
    };
  },
  close: async () => undefined,
};

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ metrics: createControlMetrics(registry), tracing });
  await seedTask(server.db, server.scope, { taskId: "hello" });
});
afterAll(() => server.stop());

const start = (headers: Record<string, string> = {}) =>
  server.request("POST", "/sessions", { task_id: "hello" }, { headers });
const figures = async () => await registry.metrics();

test("requests are counted by route template and class of status, never by path", async () => {
  const { body } = await start();
  await server.request("GET", `/runs/${body.run.id}`);
  await server.request("GET", `/runs/${crypto.randomUUID()}`);
  await fetch(`${server.url}/${crypto.randomUUID()}?secret=1`);
  // Counted when the connection has taken the answer.
  await vi.waitUntil(async () => /route="none",status="4xx"\} 1/.test(await figures()), limit);
  const text = await figures();
  expect(text).toContain('helmr_http_requests_total{method="POST",route="/api/sessions",status="2xx"} 1\n');
  expect(text).toContain('helmr_http_requests_total{method="GET",route="/api/runs/:runID",status="2xx"} 1\n');
  expect(text).toContain('helmr_http_requests_total{method="GET",route="/api/runs/:runID",status="4xx"} 1\n');
  expect(text).toContain('helmr_http_request_seconds_count{method="GET",route="/api/runs/:runID"} 2\n');
  expect(text).not.toContain(body.run.id);
  expect(text).not.toContain("secret");
});

test("an event stream is a follower while it is open, and not timed", async () => {
  const { body } = await start();
  const stream = await openStream(`${server.url}/api/runs/${body.run.id}/events?follow=1`, server.key, {});
  await vi.waitUntil(async () => (await figures()).includes("helmr_sse_followers 1\n"), limit);
  expect(await figures()).toContain("helmr_http_requests_in_flight 1\n");
  await (await leaseRun(server, body.run.id)).finish();
  await vi.waitUntil(async () => (await figures()).includes("helmr_sse_followers 0\n"), limit);
  await takeAll(stream);
  await vi.waitUntil(async () => (await figures()).includes("helmr_http_requests_in_flight 0\n"), limit);
  const text = await figures();
  expect(text).toMatch(
    /helmr_http_requests_total\{method="GET",route="\/api\/runs\/:runID\/events",status="2xx"\} 1\n/,
  );
  expect(text).not.toContain(
    'helmr_http_request_seconds_count{method="GET",route="/api/runs/:runID/events"}',
  );
});

test("a start joins its caller's trace: the request's span, the run and its events are of it", async () => {
  const { body } = await start({ traceparent });
  const span = kept.find(({ attributes }) => attributes["helmr.run_id"] === body.run.id);
  await vi.waitUntil(() => span?.isEnded, limit);
  expect(span).toMatchObject({ name: "POST /api/sessions", parent: traceparent });
  expect(span?.attributes).toMatchObject({
    "http.response.status_code": 201,
    "helmr.session_id": body.session.id,
  });
  const events = (await server.request("GET", `/runs/${body.run.id}/events`)).body.events;
  expect(events[0].attributes.trace_id).toBe(traceId);
  expect(events[0].trace.trace_id).toBe(traceId);
  expect(events[0].trace.traceparent).toBe(`00-${traceId}-${events[0].trace.span_id}-01`);
  await leaseRun(server, body.run.id);
  const later = (await server.request("GET", `/runs/${body.run.id}/events`)).body.events;
  const leased = later.find((each: { message: string }) => each.message === "run_lease.leased");
  expect(leased.trace.trace_id).toBe(traceId);
  expect(leased.trace.span_id).not.toBe(events[0].trace.span_id);
});

test("a traceparent that is none is no error, and starts no trace of its caller's choice", async () => {
  for (const bad of ["nonsense", `00-${"0".repeat(32)}-00f067aa0ba902b7-01`, `${traceparent}-more`]) {
    const { status, body } = await start({ traceparent: bad });
    expect(status).toBe(201);
    const span = kept.find(({ attributes }) => attributes["helmr.run_id"] === body.run.id);
    expect(span?.parent).toBeUndefined();
  }
});

test("an installation that does not trace hands its caller's context to the run; without one the run is a trace of its own", async () => {
  const plain = await startTestServer();
  try {
    await seedTask(plain.db, plain.scope, { taskId: "hello" });
    const send = (headers: Record<string, string>) =>
      plain.request("POST", "/sessions", { task_id: "hello" }, { headers });
    const joined = (await send({ traceparent })).body.run.id;
    const alone = (await send({})).body.run.id;
    const first = async (id: string) => (await plain.request("GET", `/runs/${id}/events`)).body.events[0];
    expect((await first(joined)).trace.traceparent).toBe(traceparent);
    expect((await first(alone)).trace.trace_id).toBe(alone.replaceAll("-", ""));
    expect((await first(alone)).attributes).not.toHaveProperty("trace_id");
    const worker = await seedWorker(plain.db, plain.environment.workerGroupId);
    const claimed = await claimRuns(plain.db, {
      workerInstanceId: worker,
      limit: 5,
      leaseDurationMs: 60_000,
    });
    expect(claimed.map(({ id, trace_context }) => [id, trace_context]).sort()).toEqual(
      [
        [joined, traceparent],
        [alone, null],
      ].sort(),
    );
    for (const { waited_seconds } of claimed) expect(waited_seconds).toBeGreaterThanOrEqual(0);
  } finally {
    await plain.stop();
  }
});
