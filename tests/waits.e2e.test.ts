/** Runs that wait: timers, tokens and streams, inside a real guest and from outside. */
import { beforeAll, describe, expect, it, vi } from "vitest";
import { deployBehaviours, finished, runTask } from "./support/behaviours.ts";
import { api, stackClient } from "./support/client.ts";

beforeAll(deployBehaviours, 300_000);

describe("timers", () => {
  it("wait for their time, and the run shows it", async () => {
    const result = await runTask("sleeps", { seconds: 1 });
    expect(result.run.output).toMatchObject({ ok: true, samePid: true });
    expect((result.run.output as { ms: number }).ms).toBeGreaterThanOrEqual(1000);
    expect(result.events.map((event) => event.type)).toEqual([
      "timer_wait",
      "timer_wait_completed",
      "task_result",
    ]);
  });

  it("park the run when they are long: another guest goes on with the same process and memory", async () => {
    const result = await runTask("sleeps", { seconds: 12 });
    expect(result.run.output).toMatchObject({ ok: true, samePid: true });
    expect(await kindsOf(result.run.id)).toEqual([
      "run.created",
      "run_lease.leased",
      "run_lease.started",
      "run_wait.created",
      "run.parked",
      "run_wait.completed",
      "run_lease.leased",
      "run_lease.started",
      "run.completed",
    ]);
  });

  it("one at a time", async () => {
    const result = await runTask("waits-twice");
    expect(result.run.output).toEqual(["fulfilled", "ConcurrentWaitError"]);
  });
});

const kindsOf = async (runId: string) =>
  (await api<{ events: { kind: string }[] }>("GET", `/runs/${runId}/events`)).body.events.map(
    (event) => event.kind,
  );
const parked = (runId: string) =>
  vi.waitUntil(async () => (await kindsOf(runId)).at(-1) === "run.parked", {
    timeout: 60_000,
    interval: 200,
  });

describe("a parked run", () => {
  it("goes on with the version that it began with, whatever is deployed meanwhile", async () => {
    const client = stackClient();
    const { run, session } = await client.sessions.start("sleeps", { seconds: 25 });
    await parked(run.id);
    expect((await client.runs.retrieve(run.id)).status).toBe("waiting");
    const { deploymentVersion } = await client.runs.retrieve(run.id);
    await deployBehaviours();
    const done = await finished(run.id, session.id);
    expect(done.run.output).toMatchObject({ ok: true, samePid: true });
    expect(done.run.deploymentVersion).toBe(deploymentVersion);
  });

  it("is cancelled at once", async () => {
    const client = stackClient();
    const { run } = await client.sessions.start("sleeps", { seconds: 600 });
    await parked(run.id);
    expect((await client.runs.cancel(run.id, { reason: "enough" })).status).toBe("cancelled");
    expect((await kindsOf(run.id)).at(-1)).toBe("run.cancelled");
  });

  it("that fails after it went on is tried again from the start", async () => {
    const result = await runTask("fails-after-park");
    expect(result.run.output).toBe(2);
    expect((await kindsOf(result.run.id)).filter((kind) => /parked|retry/.test(kind))).toEqual([
      "run.parked",
      "run.retry_scheduled",
    ]);
  });
});

describe("tokens", () => {
  it("that nobody completes time out", async () => {
    const result = await runTask("asks", { timeout: "1s" });
    expect(result.run.output).toEqual({ error: "WaitTimeoutError" });
  });
});
