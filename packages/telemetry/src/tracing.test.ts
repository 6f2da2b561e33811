import { pino } from "pino";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type OtlpReceiver, startOtlpReceiver } from "../test-support/otlp-receiver.ts";
import {
  leaseTrace,
  normalTraceparent,
  parseTraceparent,
  runTrace,
  spanIdOf,
  traceparentOf,
} from "./trace-context.ts";
import { startTracing, type TracingConfig } from "./tracing.ts";

const logger = pino({ level: "silent" });
const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const parent = `00-${traceId}-00f067aa0ba902b7-01`;

let receiver: OtlpReceiver;
beforeEach(async () => {
  receiver = await startOtlpReceiver();
  vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await receiver.stop();
});

const start = (config: Partial<TracingConfig> = {}) =>
  startTracing(
    "helmr-test",
    {
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
      OTEL_TRACES_SAMPLER: "parentbased_always_on",
      OTEL_TRACES_SAMPLER_ARG: 1,
      OTEL_BSP_SCHEDULE_DELAY: 10,
      ...config,
    },
    logger,
  );

test("spans of a caller's trace reach the collector, with their parents, links, times, attributes and errors", async () => {
  const tracing = await start();
  const outer = tracing.start("outer", {
    parent,
    kind: "server",
    attributes: { n: 3, on: true, gone: undefined },
  });
  const lease = spanIdOf("a lease");
  const inner = tracing.start("inner", {
    parent: outer.traceparent,
    spanId: lease,
    startedAt: new Date(1_000_000),
    links: [parent, "nonsense"],
  });
  inner.set({ why: "test" });
  inner.fail("it broke");
  inner.end(new Date(1_002_000));
  inner.end();
  outer.end();
  expect(tracing.start("root").traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  await tracing.close();
  const [first, second] = receiver.spans;
  expect(receiver.spans).toHaveLength(2);
  expect(first).toEqual({
    service: "helmr-test",
    traceId,
    spanId: lease,
    parentSpanId: second?.spanId,
    name: "inner",
    startMs: 1_000_000,
    endMs: 1_002_000,
    attributes: { why: "test" },
    links: [{ traceId, spanId: "00f067aa0ba902b7" }],
    status: 2,
  });
  expect(second).toMatchObject({
    traceId,
    parentSpanId: "00f067aa0ba902b7",
    attributes: { n: 3, on: true },
    status: 0,
  });
  expect(outer.traceparent).toBe(`00-${traceId}-${second?.spanId}-01`);
  expect([...receiver.paths]).toEqual(["POST /v1/traces application/x-protobuf"]);
});

test("what a caller does not sample is not sent, and its context is handed on", async () => {
  const tracing = await start();
  const span = tracing.start("quiet", { parent: parent.replace(/01$/, "00") });
  expect(span.traceparent).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-00$`));
  span.end();
  await tracing.close();
  expect(receiver.spans).toEqual([]);
});

test("the share of traces that is kept", async () => {
  const tracing = await start({
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: 0,
  });
  tracing.start("root").end();
  tracing.start("child", { parent }).end();
  await tracing.close();
  expect(receiver.spans.map(({ name }) => name)).toEqual(["child"]);
});

test("without a collector a span hands its parent on and costs nothing", async () => {
  for (const config of [{ OTEL_EXPORTER_OTLP_ENDPOINT: undefined }, { OTEL_SDK_DISABLED: true }]) {
    const tracing = await start(config);
    expect(tracing.isOn).toBe(false);
    const span = tracing.start("none", { parent });
    expect(span.traceparent).toBe(parent);
    span.end();
    expect(tracing.start("none").traceparent).toBeUndefined();
    await tracing.close();
  }
  expect(receiver.spans).toEqual([]);
});

test("a collector that is away neither fails nor holds up", async () => {
  await receiver.stop();
  const tracing = await start();
  tracing.start("lost").end();
  await tracing.close();
});

test("trace contexts: what is valid, and what is not", () => {
  expect(parseTraceparent(parent)).toEqual({ traceId, spanId: "00f067aa0ba902b7", flags: 1 });
  expect(normalTraceparent(`cc-${traceId}-00f067aa0ba902b7-ff-more`)).toBe(
    `00-${traceId}-00f067aa0ba902b7-03`,
  );
  for (const bad of [
    undefined,
    [parent],
    "",
    parent.toUpperCase(),
    `${parent}-more`,
    `${parent} `,
    parent.replace("00-", "ff-"),
    `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `cc-${traceId}-00f067aa0ba902b7-01-${"x".repeat(600)}`,
  ])
    expect(normalTraceparent(bad)).toBeUndefined();
});

test("a run is in the trace of who started it, else in one of its own; a lease is a span there", () => {
  const runId = "019abcde-0000-7000-8000-000000000001";
  expect(traceparentOf(runTrace(runId, parent))).toBe(parent);
  expect(runTrace(runId, null)).toEqual({
    traceId: runId.replaceAll("-", ""),
    spanId: spanIdOf(runId),
    flags: 1,
  });
  expect(leaseTrace(runId, parent, "lease")).toEqual({ traceId, spanId: spanIdOf("lease"), flags: 1 });
  expect(spanIdOf("lease")).toMatch(/^[0-9a-f]{16}$/);
});
