/** Runs that wait: timers, tokens and streams, inside a real guest and from outside. */
import { beforeAll, describe, expect, it } from "vitest";
import { deployBehaviours, runTask } from "./support/behaviours.ts";

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
