/**
 * The worker is killed at every step of restoring and saving a workspace and of a live copy: the version before stays
 * current until the next is recorded, everything that was saved is there for the next worker, and nothing is stuck.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createSecretCipher, putSecret } from "@helmr/store";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type DebugPoint, debugPoints } from "../src/index.ts";
import { mountsBelow, processesNaming, System } from "./support/system.ts";
import { TestWorkspace } from "./support/workspace.ts";
import { workspaceTasks } from "./support/workspace-tasks.ts";

let system: System;

beforeAll(async () => {
  system = await System.start({ leaseDurationMs: 5_000 });
  const cipher = createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") });
  await putSecret(system.db, cipher, system.environment.scope, "KEY", "the-secret-value");
  const builder = await system.worker();
  await system.deploy(workspaceTasks);
  await builder.stop();
});
afterEach(() => system.stopWorkers());
afterAll(() => system.stop());

const ofRuns = debugPoints.filter((point) => /^(workspace|save)\./.test(point));
const ofCopies = debugPoints.filter((point) => point.startsWith("copy."));

/** A workspace that has `a` with "1", saved by a worker that is gone. */
async function savedWorkspace(): Promise<TestWorkspace> {
  const workspace = await TestWorkspace.create(system);
  const worker = await system.worker();
  await system.finished(await workspace.run("writes", { files: { a: "1" } }));
  await worker.stop();
  await othersAreGone();
  return workspace;
}

/** Else a workspace waits for the worker that has it on its disk. */
async function othersAreGone(): Promise<void> {
  await system.db.updateTable("worker_instances").set({ state: "gone" }).execute();
}

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

async function dies(child: { readonly died: Promise<unknown>; kill(): void }): Promise<void> {
  try {
    expect(await child.died).toEqual([null, "SIGKILL"]);
  } finally {
    child.kill();
  }
}

/** The dead worker's copy is over; a heartbeat that was under way may extend it once more. */
async function expire(workspace: TestWorkspace): Promise<void> {
  await system.until(async () => {
    await system.db
      .updateTable("workspace_materializations")
      .set({ reservation_expires_at: new Date(0) })
      .where("workspace_id", "=", workspace.id)
      .where("ended_at", "is", null)
      .execute();
    return (await workspace.copy())?.ended_at !== null;
  });
}

/** A worker on the dead one's folder finds nothing of it but disks that count. */
async function leavesNothing(dir: string): Promise<void> {
  const again = await system.worker({ dir });
  expect(await mountsBelow(join(dir, "worker"))).toEqual([join(dir, "worker/staging")]);
  expect(await readdir(join(dir, "worker/workspaces/mounts"))).toEqual([]);
  const disks = await readdir(join(dir, "worker/workspaces/disks"));
  expect(disks.filter((name) => name.startsWith("fresh-"))).toEqual([]);
  expect(await processesNaming(`${dir}/isolation`)).toEqual([]);
  await again.stop();
}

describe("a run's worker killed at", () => {
  it.each(ofRuns)("%s", async (point) => {
    const workspace = await savedWorkspace();
    const dir = await system.newDir();
    const child = await startDying(dir, point);
    const run = await workspace.run("writes", { reads: ["a"], files: { b: "2" } });
    await dies(child);
    const isRecorded = point === "save.recorded" || point === "save.noted";
    expect(await workspace.files()).toEqual(isRecorded ? { a: "1", b: "2" } : { a: "1" });
    await othersAreGone();
    const other = await system.worker();
    expect((await system.finished(run)).output).toMatchObject({ found: { a: "1" }, names: ["a", "b"] });
    expect(await workspace.files()).toEqual({ a: "1", b: "2" });
    const next = await workspace.run("writes", { reads: ["a", "b"] });
    expect((await system.finished(next)).output.found).toEqual({ a: "1", b: "2" });
    await other.stop();
    await leavesNothing(dir);
  });
});

describe("a live copy's worker killed at", () => {
  it.each(ofCopies)("%s", async (point) => {
    const workspace = await savedWorkspace();
    const dir = await system.newDir();
    const child = await startDying(dir, point);
    const isEnding = ["copy.stopping", "copy.saved", "copy.finished"].includes(point);
    const exec = await workspace.start("echo 2 > b");
    if (isEnding) {
      expect(await workspace.ended(exec)).toMatchObject({ exit_code: 0 });
      await workspace.post("stop");
    }
    await dies(child);
    await expire(workspace);
    if (!isEnding) expect(["lost", "exited"]).toContain((await workspace.ended(exec)).state);
    const isSaved = point === "copy.saved" || point === "copy.finished";
    expect(await workspace.files()).toEqual(isSaved ? { a: "1", b: "2\n" } : { a: "1" });
    await othersAreGone();
    const other = await system.worker();
    expect(await workspace.sh("cat a; ls")).toBe(isSaved ? "1a\nb\n" : "1a\n");
    await workspace.stop();
    await other.stop();
    await leavesNothing(dir);
  });
});
