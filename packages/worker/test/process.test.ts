/** The process of `helmr-worker`: its commands, its signals, and one worker per folder. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { ensureBootstrapToken } from "@helmr/store";
import { execa } from "execa";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type WorkerStatus, workerStatus } from "../src/status.ts";
import { baseImage, cacheDir, installed } from "./support/bench.ts";
import { mountsBelow, processesNaming, System } from "./support/system.ts";
import { workspaceTasks } from "./support/workspace-tasks.ts";

const program = fileURLToPath(new URL("../bin/helmr-worker.mjs", import.meta.url));
const token = "p".repeat(64);
let system: System;
let dataDir: string;
let env: Record<string, string>;
const started = new Set<ChildProcess>();

beforeAll(async () => {
  system = await System.start();
  await ensureBootstrapToken(system.db, token);
  dataDir = join(await system.newDir(), "data");
  const runsc = process.env.HELMR_RUNSC ?? (await installed("runsc", "runsc"));
  env = {
    PATH: process.env.PATH ?? "",
    HOME: process.env.HOME ?? "/root",
    HELMR_CONTROL_PLANE_URL: system.url,
    HELMR_WORKER_BOOTSTRAP_TOKEN: token,
    HELMR_CAS_URI: pathToFileURL(system.artifactsDir).href,
    HELMR_WORKER_DATA_DIR: dataDir,
    HELMR_RUNSC_PATH: runsc ?? "",
    HELMR_IMAGES_DIR: join(cacheDir, "images"),
    HELMR_BASE_IMAGE: baseImage,
    HELMR_ARTIFACT_ENCRYPTION_KEY: Buffer.alloc(32, 5).toString("base64"),
    HELMR_CHECKPOINT_ENCRYPTION_KEY: system.key,
    HELMR_PARK_AFTER_SECONDS: "3600",
    HELMR_WORKER_NAME: "process",
    HELMR_WORKER_LABELS: "zone=a,disk=nvme",
    HELMR_WORKER_SLOTS: "3",
    HELMR_WORKER_MATERIALIZATIONS: "2",
    HELMR_WORKER_CPU: "16",
    HELMR_WORKER_MEMORY: "8GiB",
    HELMR_WORKER_DISK: "1TiB",
    HELMR_LOG_LEVEL: process.env.HELMR_TEST_LOG ?? "warn",
  };
});
afterAll(async () => {
  for (const child of started) {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
  await system.stop();
});

async function serve(more: Record<string, string> = {}) {
  const child = spawn(process.execPath, [program], {
    env: { ...env, ...more },
    stdio: ["ignore", "inherit", "inherit"],
  });
  started.add(child);
  const exited = once(child, "exit").then(([code, signal]) => {
    started.delete(child);
    return { code, signal };
  });
  await system.until(async () => {
    if (child.exitCode !== null) throw new Error(`the worker ended with ${child.exitCode}`);
    return (await command("status")).exitCode === 0;
  });
  return { child, exited };
}

const command = (...args: string[]) =>
  execa(process.execPath, [program, ...args], { env, extendEnv: false, reject: false, timeout: 120_000 });

async function status(): Promise<WorkerStatus> {
  return workerStatus.parse(JSON.parse((await command("status", "--json")).stdout));
}

it("says what it is and holds, is alone on its folder, and drains when told", async () => {
  expect(await command("status")).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining(`no worker runs on ${dataDir}`),
  });
  expect((await command("drain")).stderr).toContain(`no worker runs on ${dataDir}`);
  const { exited } = await serve();
  await system.deploy(workspaceTasks);
  expect((await stat(join(dataDir, "worker.sock"))).mode & 0o777).toBe(0o600);
  expect(await status()).toMatchObject({
    name: "process",
    state: "working",
    labels: { zone: "a", disk: "nvme" },
    drained_by_operator: false,
    capacity: { total: { slots: 5, cpu: 16, memory_mib: 8192, disk_mib: 1024 ** 2 }, free: { slots: 5 } },
    disk: { dir: dataDir, is_full: false },
    runs: [],
    copies: [],
  });
  const run = await system.run("stays");
  await system.until(async () => (await system.stdout(run)).includes("here"));
  const held = await status();
  expect(held.runs).toMatchObject([{ run_id: run.runId, phase: "running" }]);
  expect(held.capacity.free).toMatchObject({
    slots: 4,
    cpu: 15,
    memory_mib: 8192 - 512,
    disk_mib: 1024 ** 2 - 256,
  });
  const row = await system.db.selectFrom("worker_instances").selectAll().executeTakeFirstOrThrow();
  expect(row).toMatchObject({ name: "process", labels: { zone: "a", disk: "nvme" } });
  expect(row.capacity).toMatchObject({ slots: 5, cpu: 16, memory_mib: 8192, disk_mib: 1024 ** 2 });
  await system.until(async () => {
    const { capacity_free: free } = await system.db
      .selectFrom("worker_instances")
      .select("capacity_free")
      .executeTakeFirstOrThrow();
    return (free as { slots?: number } | null)?.slots === 4;
  });
  const table = (await command("status")).stdout;
  expect(table).toContain(run.runId);
  expect(table).toMatch(/^slots +1 of 5 held, 4 free; builds 0 of 1$/m);

  const second = await execa(process.execPath, [program], {
    env,
    extendEnv: false,
    reject: false,
    timeout: 60_000,
  });
  expect(second).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("another worker runs on") });
  expect((await status()).runs).toHaveLength(1);

  expect(await command("drain", "--timeout", "soon")).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("--timeout must be a duration"),
  });
  const drained = await command("drain", "--timeout", "200ms");
  expect(drained).toMatchObject({ exitCode: 3, stderr: "" });
  expect(drained.stdout).toMatch(/^draining: 1 run \(1 running\), 0 builds, 0 live copies; /);
  expect(drained.stdout).toContain("runs: 0 finished, 0 parked, 1 given back, 0 lost");
  expect(await exited).toEqual({ code: 0, signal: null });
  expect(await processesNaming(dataDir)).toEqual([]);
  expect((await system.row(run)).status).toBe("queued");
  const gone = await system.db.selectFrom("worker_instances").selectAll().executeTakeFirstOrThrow();
  expect(gone.state).toBe("draining");
});

it("drains at SIGTERM within its time, and ends at once at the second", async () => {
  const first = await serve({ HELMR_WORKER_DRAIN_TIMEOUT: "20s" });
  // What was given back above begins anew here.
  await system.until(async () => (await status()).runs.some(({ phase }) => phase === "running"));
  first.child.kill("SIGTERM");
  await system.until(async () => (await status()).state === "draining");
  expect((await status()).drain).toMatchObject({ phase: "draining", left_ms: expect.any(Number) });
  // Somebody wants it sooner than the signal's time allows.
  const drained = await command("drain", "--timeout", "100ms");
  expect(drained.stdout).toContain("1 given back");
  expect(await first.exited).toEqual({ code: 0, signal: null });

  const second = await serve({ HELMR_WORKER_DRAIN_TIMEOUT: "1h" });
  await system.until(async () => (await status()).runs.some(({ phase }) => phase === "running"));
  second.child.kill("SIGTERM");
  await system.until(async () => (await status()).state === "draining");
  second.child.kill("SIGTERM");
  expect(await second.exited).toEqual({ code: 143, signal: null });
  // It has left a guest, which the next one removes.
  const third = await serve({ HELMR_WORKER_DRAIN_TIMEOUT: "0s" });
  third.child.kill("SIGTERM");
  expect(await third.exited).toEqual({ code: 0, signal: null });
  expect(await processesNaming(dataDir)).toEqual([]);
  expect(await mountsBelow(dataDir)).toEqual([]);
});
