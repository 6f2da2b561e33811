/**
 * The contract's clauses that need a build and a guest, over raw HTTP: what a deployment, a run, its events and logs look
 * like when they are real. Everything that needs no guest is in tests/contract/.
 */
import { beforeAll, describe, expect, inject, it } from "vitest";
import { openStream, takeAll } from "../packages/control-plane/test/support/sse.ts";
import * as shapes from "./contract/support/shapes.ts";
import { expectList, expectShape } from "./contract/support/shapes.ts";
import { deployBehaviours } from "./support/behaviours.ts";
import { api as call } from "./support/client.ts";

// biome-ignore lint/suspicious/noExplicitAny: answers of any shape, each held to the contract's below
const api = (method: string, path: string, body?: unknown) => call<any>(method, path, body);

beforeAll(deployBehaviours, 300_000);

/** Start the task and wait, as often as one wait is long, for the run's end (5 minutes at most). */
async function run(task_id: string, payload: unknown = {}) {
  const start = { task_id, payload, idempotency_key: crypto.randomUUID(), timeout_seconds: 60 };
  for (let waits = 0; waits < 5; waits += 1) {
    const { status, body } = await api("POST", "/sessions/start-and-wait", start);
    expect(status).toBe(200);
    expectShape(body, shapes.sessionStart);
    if (body.timed_out !== true) return body;
  }
  throw new Error(`${task_id} did not end`);
}
const eventsOf = async (runId: string) => {
  const { body } = await api("GET", `/runs/${runId}/events`);
  expectShape(body, shapes.eventPage);
  return body.events;
};

describe("§9 a deployment that was built", () => {
  it("§9.2 deployment, tasks and sandboxes have exactly the contract's fields", async () => {
    const { deployment } = (await api("GET", "/deployments/current")).body;
    expectShape(deployment, shapes.deployment);
    expect(deployment).toMatchObject({ status: "deployed", failed_at: null });
    for (const time of ["building_at", "built_at", "deployed_at"]) expect(deployment[time]).not.toBeNull();
    const tasks = (await api("GET", "/tasks")).body;
    expectList(tasks, "tasks", shapes.task);
    expect(deployment.tasks).toEqual(tasks.tasks);
    expectList((await api("GET", "/sandboxes")).body, "sandboxes", shapes.sandbox);
  });

  it("§9.3 its events in order, to the terminal one, which ends the stream", async () => {
    const { deployment } = (await api("GET", "/deployments/current")).body;
    const stream = await openStream(
      `${inject("stackUrl")}/api/deployments/${deployment.id}/events?follow=1`,
      inject("stackApiKey"),
      { "last-event-id": "0" },
    );
    const frames = await takeAll(stream);
    expect(frames.map(({ id }) => Number(id))).toEqual(frames.map((_, index) => index + 1));
    for (const { event, data } of frames) {
      expect(event).toBe("deployment_event");
      expectShape(data, shapes.event);
      expect([data.deployment_id, Object.hasOwn(data, "run_id")]).toEqual([deployment.id, false]);
    }
    const lifecycle = frames.map(({ data }) => data).filter(({ category }) => category === "lifecycle");
    expect(lifecycle.map(({ kind }) => kind)).toEqual([
      "deployment.queued",
      "deployment.building",
      "deployment.deployed",
    ]);
    expect(lifecycle.map(({ attributes }) => attributes.status)).toEqual(["queued", "building", "deployed"]);
    expect(frames.at(-1)?.data.kind).toBe("deployment.deployed");
  });
});

describe("§2.2 §6 a run in a guest", () => {
  it("§2.1 §2.2 its output and metadata are the run's; the session stays open, without a result", async () => {
    const { session, run: ended } = await run("returns-value");
    expect(ended).toMatchObject({
      status: "succeeded",
      exit_code: 0,
      attempt_number: 1,
      metadata: { stage: "done", count: 2 },
      output: { cwd: "/workspace" },
    });
    const read = (await api("GET", `/sessions/${session.id}`)).body;
    expectShape(read, shapes.session);
    expect(read).toMatchObject({
      status: "open",
      activity: "idle",
      can_close: true,
      current_run_id: ended.id,
    });
    for (const absent of ["result", "error", "terminal_reason"]) expect(read).not.toHaveProperty(absent);
    const runs = (await api("GET", `/sessions/${session.id}/runs`)).body;
    expectList(runs, "runs", shapes.sessionRun);
    expect(runs.runs).toMatchObject([{ turn_index: 0, terminal_outcome: "succeeded" }]);
  });

  it("§2.2 output is absent for a task that returns nothing", async () => {
    expect((await run("returns-nothing")).run).not.toHaveProperty("output");
  });

  it("§6.1 §13.10 its events: numbered from 1, the message the kind, one terminal one at the end", async () => {
    const { run: ended } = await run("returns-value");
    const events = await eventsOf(ended.id);
    expect(events.map(({ id }: { id: string }) => Number(id))).toEqual(
      events.map((_: unknown, index: number) => index + 1),
    );
    const kinds = events.map(({ kind }: { kind: string }) => kind);
    for (const event of events) expect([event.message, event.run_id]).toEqual([event.kind, ended.id]);
    expect(kinds.slice(0, 3)).toEqual(["run.created", "run_lease.leased", "run_lease.started"]);
    expect(kinds).toEqual(expect.arrayContaining(["log.stdout", "log.stderr", "run.metadata.updated"]));
    expect(kinds.filter((kind: string) => /^run\.(completed|failed|cancelled|expired)$/.test(kind))).toEqual([
      "run.completed",
    ]);
    expect(events.at(-1)).toMatchObject({ kind: "run.completed", attributes: { exit_code: 0 } });
  });

  it("§6.3 its logs, byte by byte, in the snapshot and in the frames", async () => {
    const { run: ended } = await run("prints-bytes");
    const logs = (await api("GET", `/runs/${ended.id}/logs`)).body;
    expectShape(logs, shapes.runLogs);
    const stdout = Buffer.from(logs.stdout_base64, "base64");
    expect([...stdout.subarray(0, 5)]).toEqual([0xff, 0xfe, 0x00, 0x80, 0x0a]);
    expect([stdout.length, logs.truncated]).toEqual([logs.stdout_bytes, false]);
    const stream = await openStream(
      `${inject("stackUrl")}/api/runs/${ended.id}/logs?follow=1`,
      inject("stackApiKey"),
    );
    const frames = await takeAll(stream);
    for (const { event, data } of frames) {
      expect(event).toBe("run_log");
      expectShape(data, shapes.runLogFrame);
    }
    const chunks = frames.filter(({ data }) => data.stream === "stdout");
    const content = Buffer.concat(chunks.map(({ data }) => Buffer.from(data.content_base64, "base64")));
    expect(content.equals(stdout)).toBe(true);
    expect(frames.at(-1)?.id).toBe(logs.cursor);
  });

  it("§6.1 §13.10 failures: failure_kind, and the detail that the kind promises", async () => {
    const failureOf = async (task: string) => {
      const { run: ended } = await run(task);
      expect(ended.status).toBe("failed");
      expect(ended).not.toHaveProperty("output");
      const last = (await eventsOf(ended.id)).at(-1);
      expect(last.kind).toBe("run.failed");
      return [ended.exit_code, last.attributes.failure_kind, last.attributes.detail];
    };
    expect(await failureOf("exits-three")).toEqual([
      3,
      "task_failed",
      expect.objectContaining({ exit_code: 3 }),
    ]);
    const [, kind, detail] = await failureOf("never-returns");
    expect([kind, detail.limit_seconds]).toEqual(["max_duration", 5]);
  });

  it("§13.4 a retry is an attempt of the same run", async () => {
    const { run: ended } = await run("fails-twice");
    expect(ended).toMatchObject({ status: "succeeded", attempt_number: 3 });
    const kinds = (await eventsOf(ended.id)).map(({ kind }: { kind: string }) => kind);
    expect(kinds.filter((kind: string) => kind === "run.retry_scheduled")).toHaveLength(2);
  });
});
