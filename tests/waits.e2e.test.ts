/** Runs that wait: timers, tokens and streams, inside a real guest and from outside. */
import { beforeAll, describe, expect, it } from "vitest";
import { deployBehaviours, runTask } from "./support/behaviours.ts";
import { api } from "./support/client.ts";

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
    const kinds = (
      await api<{ events: { kind: string }[] }>("GET", `/runs/${result.run.id}/events`)
    ).body.events.map((event) => event.kind);
    expect(kinds).toEqual([
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

describe("tokens", () => {
  it("that nobody completes time out", async () => {
    const result = await runTask("asks", { timeout: "1s" });
    expect(result.run.output).toEqual({ error: "WaitTimeoutError" });
  });
});
