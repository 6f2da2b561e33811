/** Checkpoints that are damaged, gone, under another key or of another kind of worker: never a wrong restore, never stuck. */
import { randomBytes } from "node:crypto";
import { open, readdir, readFile, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { Isolation } from "@helmr/isolation";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type StartedRun, System, type SystemWorker } from "./support/system.ts";
import { waitingTasks } from "./support/waiting-tasks.ts";

let system: System;
let worker: SystemWorker;

beforeAll(async () => {
  system = await System.start();
  worker = await system.worker();
  await system.deploy(waitingTasks);
});
afterAll(() => system.stop());

async function artifactOf({ runId }: StartedRun): Promise<string> {
  const { artifact_digest: digest } = await system.db
    .selectFrom("run_checkpoints")
    .select("artifact_digest")
    .where("run_id", "=", runId)
    .executeTakeFirstOrThrow();
  const hex = digest.slice("sha256:".length);
  return join(system.artifactsDir, "sha256", hex.slice(0, 2), hex);
}

async function parked(options: Record<string, unknown> = {}): Promise<StartedRun> {
  const run = await system.run("asks", {}, options);
  await system.parked(run);
  return run;
}

async function flipByte(path: string, share: number): Promise<void> {
  const at = Math.floor((await stat(path)).size * share);
  const file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  await file.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, at);
  await file.close();
}

const damages: [string, (path: string) => Promise<unknown>][] = [
  ["a flipped bit at its begin", (path) => flipByte(path, 0)],
  ["a flipped bit in its middle", (path) => flipByte(path, 0.5)],
  ["a flipped bit near its end", (path) => flipByte(path, 0.999)],
  ["its last byte missing", async (path) => truncate(path, (await stat(path)).size - 1)],
  ["its half missing", async (path) => truncate(path, Math.floor((await stat(path)).size / 2))],
  ["nothing in it", (path) => truncate(path, 0)],
  ["no object at all", (path) => rm(path)],
];

describe("a checkpoint with", () => {
  it.each(damages)("%s fails the run, and says which layer failed", async (_, damage) => {
    const run = await parked();
    await damage(await artifactOf(run));
    await system.complete(await system.awaitedToken(run), 1);
    const { status, failure } = await system.finished(run);
    expect(status).toBe("failed");
    expect(failure.kind).toBe("restore_failed");
    expect(failure.message).toMatch(/^parked wait: /);
    expect((await system.kinds(run)).slice(-2)).toEqual(["run.restore_failed", "run.failed"]);
    expect(await system.stdout(run)).toBe("asking\n");
  });

  it("damage starts again by the retry policy", async () => {
    const run = await parked({
      retry: { enabled: true, maxAttempts: 2, backoff: { minMs: 100, maxMs: 100 } },
    });
    await flipByte(await artifactOf(run), 0.5);
    await system.complete(await system.awaitedToken(run), 1);
    await system.complete(await system.awaitedToken(run, 2), "again");
    expect(await system.finished(run)).toEqual({ status: "succeeded", output: "again", failure: null });
    expect(await system.kinds(run)).toEqual(
      expect.arrayContaining(["run.restore_failed", "run.retry_scheduled"]),
    );
    expect(await system.stdout(run)).toBe("asking\nasking\nanswered\n");
  });
});

describe("a worker", () => {
  it("with another key fails, and the run goes to one that has the key", async () => {
    const run = await parked();
    await worker.stop();
    const isThere = Promise.withResolvers<void>();
    const stranger = await system.worker({
      key: randomBytes(32).toString("base64"),
      onDebugPoint: (point) => (point === "resume.leased" ? isThere.promise : undefined),
    });
    await system.complete(await system.awaitedToken(run), "yes");
    const failures = async () =>
      (await system.events(run)).filter(({ kind }) => kind === "run.restore_failed");
    await expect
      .poll(async () => (await system.row(run)).execution_status, { timeout: 60_000 })
      .toBe("leased");
    worker = await system.worker();
    isThere.resolve();
    expect(await system.finished(run)).toEqual({ status: "succeeded", output: "yes", failure: null });
    expect(await failures()).toHaveLength(1);
    expect((await failures())[0]?.attributes.message).toMatch(/key/);
    await stranger.stop();
  });

  it("of another driver version is not asked; the run says what it needs", async () => {
    const run = await parked();
    const needs = (await system.db
      .selectFrom("run_checkpoints")
      .select("manifest")
      .where("run_id", "=", run.runId)
      .executeTakeFirstOrThrow()) as { manifest: { compatibility: string } };
    await worker.stop();
    const other = await system.worker({ wrapIsolation: otherVersion });
    await system.complete(await system.awaitedToken(run), "yes");
    await system.db
      .updateTable("worker_instances")
      .set({ state: "gone" })
      .where("id", "!=", await instanceOf(other))
      .execute();
    const waiting = async () =>
      (await system.events(run)).filter(({ kind }) => kind === "run.resume_waiting");
    await expect.poll(async () => (await waiting()).length, { timeout: 60_000 }).toBe(1);
    expect((await waiting())[0]?.attributes.compatibility).toBe(needs.manifest.compatibility);
    worker = await system.worker();
    expect(await system.finished(run)).toEqual({ status: "succeeded", output: "yes", failure: null });
    expect(await waiting()).toHaveLength(1);
    await other.stop();
  });
});

async function instanceOf({ dir }: SystemWorker): Promise<string> {
  const text = await readFile(join(dir, "worker/instance.json"), "utf8");
  return (JSON.parse(text) as { worker_instance_id: string }).worker_instance_id;
}

function otherVersion(isolation: Isolation): Isolation {
  return new Proxy(isolation, {
    get(target, name) {
      if (name === "checkpointHost")
        return async () => ({ ...(await target.checkpointHost()), driverVersion: "another" });
      const value = Reflect.get(target, name) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

it("leaves no byte of the task's memory in plain on any disk", async () => {
  // A new one: on its disks is nothing but this run.
  await worker.stop();
  worker = await system.worker();
  const marker = Buffer.from(["plant", "ed-", "mark", "er"].join(""));
  const run = await system.run("remembers");
  await system.parked(run);
  const folders = [system.artifactsDir, join(worker.dir, "worker"), join(worker.dir, "isolation")];
  let bytes = 0;
  for (const folder of folders) {
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const file = await open(join(entry.parentPath, entry.name), "r").catch(() => undefined);
      if (file === undefined) continue;
      let tail = Buffer.alloc(0);
      for await (const chunk of file.createReadStream({ highWaterMark: 4 << 20 })) {
        const window = Buffer.concat([tail, chunk as Buffer]);
        bytes += (chunk as Buffer).length;
        expect(window.includes(marker), `the marker is in ${entry.parentPath}/${entry.name}`).toBe(false);
        tail = window.subarray(-marker.length);
      }
    }
  }
  expect(bytes).toBeGreaterThan(1 << 20);
  await system.complete(await system.awaitedToken(run), 1);
  expect(await system.finished(run)).toMatchObject({ status: "succeeded", output: 1 << 20 });
});
