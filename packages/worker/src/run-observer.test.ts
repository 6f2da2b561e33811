import type { RunAssignment } from "@helmr/api";
import {
  createWorkerMetrics,
  type Span,
  type SpanOptions,
  type Tracing,
  unreadRegistry,
} from "@helmr/telemetry";
import { beforeEach, expect, test } from "vitest";
import { RunObserver } from "./run-observer.ts";

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const run = {
  run_id: "019abcde-0000-7000-8000-000000000001",
  session_id: "019abcde-0000-7000-8000-000000000002",
  lease_id: "019abcde-0000-7000-8000-000000000003",
  environment_id: "019abcde-0000-7000-8000-000000000004",
  attempt_number: 1,
  task: { id: "hello" },
  traceparent: `00-${traceId}-00f067aa0ba902b7-01`,
} as RunAssignment;
const resume = { size_bytes: 4096, manifest: { compatibility: "x", lease_id: "earlier" } };
const resumed = { ...run, resume } as unknown as RunAssignment;

let said: string[];
let options: (SpanOptions & { readonly name: string })[];
let registry = unreadRegistry();
const tracing: Tracing = {
  isOn: true,
  start: (name, more = {}): Span => {
    options.push({ ...more, name });
    return {
      traceparent: `00-${traceId}-${(more.spanId ?? "").padEnd(16, "1")}-01`,
      set: () => undefined,
      fail: (message) => said.push(`${name}: ${message}`),
      end: () => said.push(`${name} ends`),
    };
  },
  close: async () => undefined,
};
beforeEach(() => {
  said = [];
  options = [];
  registry = unreadRegistry();
});
const observe = (of: RunAssignment) => new RunObserver(of, createWorkerMetrics(registry), tracing);
const figures = async () => (await registry.metrics()).split("\n").filter((line) => !line.startsWith("#"));

test("a run that fails while it waits: every span ends with the lease, and its failure's kind is told, not its words", async () => {
  const observer = observe(run);
  observer.guestTaken(true);
  observer.taskStarts();
  observer.taskStarted();
  observer.waits({ waitId: "w" });
  observer.outcome({
    status: "failed",
    failure_kind: "task_error",
    message: "secret",
    detail: {},
    retryable: false,
  });
  await observer.savingFiles(async () => undefined);
  observer.ended("finished");
  expect(options.map(({ name }) => name)).toEqual([
    "run lease",
    "guest start",
    "task",
    "wait",
    "workspace save",
  ]);
  expect(options[0]).toMatchObject({ parent: run.traceparent, links: [] });
  expect(said).toEqual([
    "guest start ends",
    "run lease: task_error",
    "task: task_error",
    "task ends",
    "workspace save ends",
    "wait ends",
    "run lease ends",
  ]);
  const text = await figures();
  expect(text).toContain('helmr_worker_runs_total{outcome="finished"} 1');
  expect(text).toContain('helmr_run_start_seconds_count{guest="pooled"} 1');
  expect(text).toContain("helmr_guest_pool_hits_total 1");
  expect(text).toContain("helmr_wait_hot_seconds_count 0");
});

test("what is parked ends there; a save that was given up, or a wait that was over before, is none of it", async () => {
  const observer = observe(run);
  observer.guestTaken(false);
  observer.taskStarts();
  observer.waits({ waitId: "first" });
  observer.reached("park.suspended");
  observer.waits(undefined);
  observer.waits({ waitId: "second" });
  observer.reached("park.suspended");
  observer.reached("park.recorded");
  observer.parked();
  const spans = said.filter((line) => line === "run lease ends");
  expect(spans).toHaveLength(1);
  expect(said).toContain("task ends");
  observer.ended("parked");
  const text = await figures();
  expect(text).toContain("helmr_wait_hot_seconds_count 1");
  expect(text).toContain("helmr_checkpoint_seconds_count 1");
  expect(text).toContain("helmr_guest_pool_misses_total 1");
});

test("a lease that resumes is linked to the one before; a restore that fails is counted", async () => {
  const observer = observe(resumed);
  expect(options[0]?.links).toHaveLength(1);
  expect(options[0]?.links?.[0]).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
  observer.restoreFailed("the checkpoint was not restored");
  observer.ended("lost");
  expect(said).toEqual([
    "guest restore: the checkpoint was not restored",
    "guest restore ends",
    "run lease ends",
  ]);
  expect(await figures()).toContain("helmr_restore_errors_total 1");
  expect(await figures()).toContain("helmr_restore_seconds_count 0");
});

test("the task's spans belong to the task's, else to the lease's, which the run's events name", () => {
  const observer = observe(run);
  expect(observer.taskTraceparent.slice(0, 36)).toBe(`00-${traceId}-`);
  expect(observer.taskTraceparent).toBe(options[0]?.spanId && `00-${traceId}-${options[0].spanId}-01`);
  observer.taskStarts();
  expect(observer.taskTraceparent).toBe(`00-${traceId}-${"1".repeat(16)}-01`);
});
