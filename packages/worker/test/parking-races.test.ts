/** What ends a wait or a run in the middle of saving and restoring, and an object store or control plane that fails then. */
import { PassThrough } from "node:stream";
import type { ArtifactStore } from "@helmr/artifacts";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { DebugPoint } from "../src/index.ts";
import { type StartedRun, System } from "./support/system.ts";
import { waitingTasks } from "./support/waiting-tasks.ts";

let system: System;
let before: string[];
/** What happens at a point; each is used once. */
const actions = new Map<DebugPoint, (runId: string) => Promise<void>>();
let stored: Pick<ArtifactStore, "put" | "get"> | undefined;

beforeAll(async () => {
  system = await System.start();
  await system.worker({
    transferStallMs: 1_500,
    onDebugPoint: async (point, runId) => {
      const action = actions.get(point);
      actions.delete(point);
      await action?.(runId);
    },
    wrapArtifacts: (artifacts) => ({
      put: (source, options) => (stored ?? artifacts).put(source, options),
      get: (digest) => (stored ?? artifacts).get(digest),
      has: (digest) => artifacts.has(digest),
      delete: (digest) => artifacts.delete(digest),
    }),
  });
  await system.deploy(waitingTasks);
  before = (await system.stored()).sort();
});
afterEach(async () => {
  actions.clear();
  stored = undefined;
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
    "resume.prepared",
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

describe("an object store that", () => {
  const failing: ArtifactStore["put"] = async (source) => {
    source.destroy();
    throw new Error("503 slow down");
  };
  const puts: [string, ArtifactStore["put"]][] = [
    ["refuses a checkpoint", failing],
    ["never answers", () => new Promise(() => undefined)],
    [
      "stops reading half-way",
      (source) =>
        new Promise(() => {
          source.once("data", () => source.pause());
        }),
    ],
  ];
  it.each(puts)("%s: the run goes on hot, says so, and is parked later", async (_, put) => {
    stored = { put, get: (digest) => system.artifacts.get(digest) };
    const run = await system.run("asks");
    await system.until(async () => (await system.kinds(run)).includes("worker.park_failed"));
    expect((await system.row(run)).execution_status).toBe("waiting");
    stored = undefined;
    await system.parked(run);
    await complete(run, "yes");
    expect(await system.finished(run)).toEqual({ status: "succeeded", output: "yes", failure: null });
  });

  const gets: [string, ArtifactStore["get"]][] = [
    ["fails a read", () => Promise.reject(new Error("503 slow down"))],
    ["never answers a read", () => new Promise(() => undefined)],
    ["stops sending", async () => new PassThrough()],
  ];
  it.each(gets)("%s: the restore is tried again", async (_, get) => {
    const run = await system.run("asks");
    await system.parked(run);
    stored = {
      put: (source, options) => system.artifacts.put(source, options),
      get: (digest) => {
        stored = undefined;
        return get(digest);
      },
    };
    await complete(run, "yes");
    expect(await system.finished(run)).toEqual({ status: "succeeded", output: "yes", failure: null });
    expect((await system.kinds(run)).filter((kind) => kind === "run.restore_failed")).toHaveLength(1);
  });
});
