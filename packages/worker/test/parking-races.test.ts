/** What ends a wait or a run in the middle of saving and restoring. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { DebugPoint } from "../src/index.ts";
import { type StartedRun, System } from "./support/system.ts";
import { waitingTasks } from "./support/waiting-tasks.ts";

let system: System;
let before: string[];
/** What happens at a point; each is used once. */
const actions = new Map<DebugPoint, (runId: string) => Promise<void>>();

beforeAll(async () => {
  system = await System.start();
  await system.worker({
    onDebugPoint: async (point, runId) => {
      const action = actions.get(point);
      actions.delete(point);
      await action?.(runId);
    },
  });
  await system.deploy(waitingTasks);
  before = (await system.stored()).sort();
});
afterEach(async () => {
  actions.clear();
  // Whatever happened, no checkpoint is left when no run is.
  await expect.poll(async () => (await system.stored()).sort(), { timeout: 60_000 }).toEqual(before);
});
afterAll(() => system.stop());

const complete = async (run: StartedRun, value: unknown) =>
  system.complete(await system.awaitedToken(run), value);
const cancel = (runId: string) => system.request("POST", `/runs/${runId}/cancel`, { reason: "enough" });

const saving: DebugPoint[] = ["park.suspended", "park.held", "park.saved", "park.sealed", "park.stored"];

describe("a token that is completed at", () => {
  it.each(saving)("%s ends the wait where the guest is", async (point) => {
    actions.set(point, async (runId) => complete({ runId, sessionId: "" }, "early"));
    const run = await system.run("asks");
    expect(await system.finished(run)).toEqual({ status: "succeeded", output: "early", failure: null });
    const kinds = await system.kinds(run);
    expect(kinds).not.toContain("run.parked");
    expect(kinds).not.toContain("worker.park_failed");
    expect(kinds.filter((kind) => kind === "run_lease.leased")).toHaveLength(1);
    expect(await system.stdout(run)).toBe("asking\nanswered\n");
  });

  it.each(["park.recorded", "park.guest-gone"] as const)("%s resumes the run", async (point) => {
    actions.set(point, async (runId) => complete({ runId, sessionId: "" }, "late"));
    const run = await system.run("asks");
    expect(await system.finished(run)).toEqual({ status: "succeeded", output: "late", failure: null });
    expect(await system.stdout(run)).toBe("asking\nanswered\n");
  });
});

describe("a cancel at", () => {
  it.each([...saving, "park.recorded"] as const)("%s ends the run", async (point) => {
    actions.set(point, cancel);
    const run = await system.run("asks");
    expect((await system.finished(run)).status).toBe("cancelled");
    expect((await system.kinds(run)).at(-1)).toBe("run.cancelled");
  });

  it.each([
    "resume.leased",
    "resume.opened",
    "resume.restored",
    "resume.answered",
    "resume.started",
  ] as const)("%s ends the run", async (point) => {
    actions.set(point, cancel);
    const run = await system.run("works", { beforeMs: 0, afterMs: 120_000 });
    await system.parked(run);
    await complete(run, 1);
    expect((await system.finished(run)).status).toBe("cancelled");
    expect((await system.kinds(run)).at(-1)).toBe("run.cancelled");
  });
});
