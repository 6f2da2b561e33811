/**
 * The worker is killed at every step of parking and resuming: another one brings the run to its end, once, and when the
 * dead one's folder is used again nothing of it is left.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type DebugPoint, debugPoints } from "../src/index.ts";
import { mountsBelow, processesNaming, System } from "./support/system.ts";
import { waitingTasks } from "./support/waiting-tasks.ts";

let system: System;
let before: string[];

beforeAll(async () => {
  // Each case waits for it once; a busy host must not lose a living one.
  system = await System.start({ leaseDurationMs: 8_000 });
  const builder = await system.worker();
  await system.deploy(waitingTasks);
  await builder.stop();
  before = (await system.stored()).sort();
});
// One that a failed case left would take the next case's run from the worker that is to die.
afterEach(() => system.stopWorkers());
afterAll(() => system.stop());

/** The worker in a process of its own; `died` resolves when it is gone. */
async function startDying(dir: string, point: DebugPoint): Promise<{ died: Promise<unknown>; kill(): void }> {
  const program = fileURLToPath(new URL("./support/dying-worker.ts", import.meta.url));
  const settings = JSON.stringify(system.settings(dir, 100));
  const child = spawn(process.execPath, [program, settings, point], { stdio: ["ignore", "pipe", "inherit"] });
  const died = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  const [line] = await Promise.race([once(lines, "line"), died]);
  expect(line).toBe("ready");
  return { died, kill: () => child.kill("SIGKILL") };
}

const isRecorded = (point: DebugPoint) =>
  point === "park.recorded" || point === "park.guest-gone" || point.startsWith("resume.");

describe("killed at", () => {
  it.each(debugPoints.filter((point) => /^(park|resume)\./.test(point)))("%s", async (point) => {
    const dir = await system.newDir();
    const child = await startDying(dir, point);
    const run = await system.run("asks");
    try {
      if (point.startsWith("resume.")) {
        await system.parked(run);
        await system.complete(await system.awaitedToken(run), "yes");
      }
      expect(await child.died).toEqual([null, "SIGKILL"]);
    } finally {
      child.kill();
    }
    // Else a run that starts again waits a minute for the worker that has its workspace on its disk.
    await system.db.updateTable("worker_instances").set({ state: "gone" }).execute();
    const other = await system.worker();
    if (!point.startsWith("resume.")) {
      // One that was not recorded starts again, with a token of its own.
      const number = isRecorded(point) ? 1 : 2;
      await system.complete(await system.awaitedToken(run, number), "yes");
    }
    expect(await system.finished(run)).toEqual({ status: "succeeded", output: "yes", failure: null });
    const row = await system.row(run);
    expect(row.attempt_number).toBe(isRecorded(point) ? 1 : 2);

    const events = await system.events(run);
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
    const kinds = events.map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === "run.completed")).toHaveLength(1);
    expect(kinds.at(-1)).toBe("run.completed");
    // Nothing of an earlier lease comes after the next one has begun.
    const leases = events.flatMap(({ lease }) => lease ?? []);
    expect(leases.filter((lease, index) => lease !== leases[index - 1])).toHaveLength(new Set(leases).size);
    const lines = (await system.stdout(run)).trim().split("\n");
    expect(lines.filter((line) => line === "answered").length).toBeLessThanOrEqual(
      point === "resume.started" ? 2 : 1,
    );
    expect(lines.filter((line) => line === "asking")).toHaveLength(isRecorded(point) ? 1 : 2);
    await other.stop();

    const again = await system.worker({ dir });
    expect(await mountsBelow(join(dir, "worker"))).toEqual([join(dir, "worker/staging")]);
    expect(await readdir(join(dir, "worker/staging"))).toEqual([]);
    expect(await readdir(join(dir, "worker/uploads")).catch(() => [])).toEqual([]);
    expect(await processesNaming(dir)).toEqual([]);
    await expect.poll(async () => (await system.stored()).sort(), { timeout: 30_000 }).toEqual(before);
    await again.stop();
  });
});
