/** An installation of separate processes: control plane, dispatcher and worker build a deployment and execute a run. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiKeyScopes } from "@helmr/api";
import { HelmrClient } from "@helmr/sdk";
import { createApiKey } from "@helmr/store";
import { seedEnvironment, startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { type ServingControl, startControl } from "../packages/control-plane/test/support/control-process.ts";
import { ensureRuntime } from "../packages/dev/src/runtime/index.ts";
import { helmr, repositoryRoot } from "./support/cli.ts";
import { makeProject } from "./support/project.ts";

let database: TestDatabase;
let folder: string;
let control: ServingControl | undefined;
const children: ChildProcess[] = [];

beforeEach(async () => {
  database = await startTestDatabase();
  folder = await mkdtemp(join(tmpdir(), "helmr-hosted-"));
});
afterEach(async () => {
  for (const child of children.splice(0).reverse()) await end(child);
  control?.signal("SIGKILL");
  await control?.ended;
  control = undefined;
  await database.stop();
  await rm(folder, { recursive: true, force: true });
}, 120_000);

/** The process's exit code; killed when it does not stop. */
async function end(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  await exited;
  clearTimeout(timer);
  return child.exitCode;
}

/** Wait until it says that it is ready. */
async function start(program: "dispatcher" | "worker", variables: Record<string, string>) {
  const { PATH, HOME, TMPDIR, NODE_EXTRA_CA_CERTS } = process.env;
  const child = spawn(
    process.execPath,
    [join(repositoryRoot, `packages/${program}/bin/helmr-${program}.mjs`)],
    { env: { PATH, HOME, TMPDIR, NODE_EXTRA_CA_CERTS, ...variables }, stdio: ["ignore", "pipe", "pipe"] },
  );
  children.push(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data: Buffer) => {
      output = (output + data.toString()).slice(-64 * 1024);
    });
  }
  await vi.waitUntil(
    () => {
      if (child.exitCode !== null) throw new Error(`helmr-${program} ended:\n${output}`);
      return output.includes(`helmr-${program} is ready`);
    },
    { timeout: 120_000, interval: 50 },
  );
  return child;
}

it("says what is missing in their configuration", async () => {
  await expect(start("dispatcher", {})).rejects.toThrow(
    /HELMR_DATABASE_URL: is required[\s\S]*HELMR_CAS_URI/,
  );
  await expect(start("worker", { HELMR_CONTROL_PLANE_URL: "x" })).rejects.toThrow(
    /HELMR_CONTROL_PLANE_URL: must look like[\s\S]*HELMR_WORKER_BOOTSTRAP_TOKEN: is required/,
  );
});

it("builds a deployment and executes a run, and each process stops cleanly", async () => {
  const runtime = await ensureRuntime();
  const shared = {
    HELMR_CAS_URI: `file://${folder}/artifacts`,
    HELMR_ARTIFACT_ENCRYPTION_KEY: randomBytes(32).toString("base64"),
    HELMR_WORKER_BOOTSTRAP_TOKEN: randomBytes(32).toString("hex"),
  };
  const db = { HELMR_DATABASE_URL: database.url };
  control = await startControl({
    ...shared,
    ...db,
    HELMR_PUBLIC_URL: "http://127.0.0.1:4747",
    HELMR_LISTEN: "127.0.0.1:0",
    HELMR_SECRET_ENCRYPTION_KEY: randomBytes(32).toString("base64"),
    HELMR_AUTH_SECRET: randomBytes(32).toString("base64"),
  });
  const dispatcher = await start("dispatcher", { ...shared, ...db });
  const extraCa = process.env.NODE_EXTRA_CA_CERTS;
  const worker = await start("worker", {
    ...shared,
    HELMR_CONTROL_PLANE_URL: control.url,
    HELMR_WORKER_DATA_DIR: join(folder, "worker"),
    HELMR_CHECKPOINT_ENCRYPTION_KEY: randomBytes(32).toString("base64"),
    HELMR_RUNSC_PATH: runtime.runscPath,
    HELMR_IMAGES_DIR: runtime.imagesDir,
    ...(extraCa && { HELMR_GUEST_EXTRA_CA_CERTS: extraCa }),
  });

  const { scope } = await seedEnvironment(database.db);
  const { rawKey } = await createApiKey(database.db, scope, { name: "test", scopes: apiKeyScopes });
  const dir = await makeProject();
  const env = { HELMR_API_URL: control.url, HELMR_API_KEY: rawKey };
  const deployed = await helmr(["deploy", dir], { env, timeoutMs: 300_000 });
  await rm(dir, { recursive: true, force: true });
  expect(deployed.exitCode, `${deployed.stdout}\n${deployed.stderr}`).toBe(0);
  const client = new HelmrClient({ url: control.url, apiKey: rawKey });
  const { run } = await client.sessions.startAndWait("hello", {}, { timeoutSeconds: 180 });
  expect(run).toMatchObject({ status: "succeeded", output: "hello" });

  expect(await end(worker)).toBe(0);
  expect(await end(dispatcher)).toBe(0);
  await control.stop();
}, 600_000);
