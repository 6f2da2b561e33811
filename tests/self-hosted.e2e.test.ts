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
import { type OtlpReceiver, startOtlpReceiver } from "@helmr/telemetry/testing";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { type ServingControl, startControl } from "../packages/control-plane/test/support/control-process.ts";
import { ensureRuntime } from "../packages/dev/src/runtime/index.ts";
import { helmr, repositoryRoot } from "./support/cli.ts";
import { metricsUrl, pathOf, scrape, waitingTask } from "./support/observed.ts";
import { makeProject } from "./support/project.ts";

const limit = { timeout: 120_000, interval: 200 };
let database: TestDatabase;
let folder: string;
let collector: OtlpReceiver;
let control: ServingControl | undefined;
const children: ChildProcess[] = [];

beforeEach(async () => {
  database = await startTestDatabase();
  folder = await mkdtemp(join(tmpdir(), "helmr-hosted-"));
  collector = await startOtlpReceiver();
});
afterEach(async () => {
  for (const child of children.splice(0).reverse()) await end(child);
  control?.signal("SIGKILL");
  await control?.ended;
  control = undefined;
  await collector.stop();
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
  return Object.assign(child, { metricsUrl: /metrics are served/.test(output) ? metricsUrl(output) : "" });
}

it("says what is missing in their configuration", async () => {
  await expect(start("dispatcher", {})).rejects.toThrow(
    /HELMR_DATABASE_URL: is required[\s\S]*HELMR_CAS_URI/,
  );
  await expect(start("worker", { HELMR_CONTROL_PLANE_URL: "x" })).rejects.toThrow(
    /HELMR_CONTROL_PLANE_URL: must look like[\s\S]*HELMR_WORKER_BOOTSTRAP_TOKEN: is required/,
  );
});

const traceId = randomBytes(16).toString("hex");
const callerSpan = randomBytes(8).toString("hex");

/** From its caller through every process to its end, over a park: one trace, in its spans, its events and its environment. */
async function tracesOneRun(client: HelmrClient, { url, key }: { url: string; key: string }): Promise<void> {
  const response = await fetch(`${url}/api/sessions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, traceparent: `00-${traceId}-${callerSpan}-01` },
    body: JSON.stringify({ task_id: "waits" }),
  });
  const started = (await response.json()) as { run: { id: string }; session: { id: string } };
  expect(response.status, JSON.stringify(started)).toBe(201);
  const events = async () => {
    const answer = await fetch(`${url}/api/runs/${started.run.id}/events`, {
      headers: { authorization: `Bearer ${key}` },
    });
    return ((await answer.json()) as { events: RunEvent[] }).events;
  };
  await vi.waitUntil(async () => (await events()).at(-1)?.kind === "run.parked", limit);
  await client.sessions.open(started.session.id).input("go").send({});
  const run = await client.runs.wait(started.run.id, { timeoutMs: 120_000 });
  expect(run).toMatchObject({ status: "succeeded", output: { ok: true } });

  const told = await events();
  for (const { trace } of told) expect(trace.trace_id).toBe(traceId);
  expect(told[0]?.attributes.trace_id).toBe(traceId);
  const ofRun = () => collector.spans.filter((span) => span.traceId === traceId);
  const leases = () => ofRun().filter(({ name }) => name === "run lease");
  await vi.waitUntil(() => leases().length === 2, limit);
  const spans = ofRun();
  expect(spans.map((span) => `${span.service}: ${pathOf(spans, span)}`).sort()).toEqual(
    [
      "helmr-control: POST /api/sessions",
      "helmr-control: POST /api/sessions > run queued",
      "helmr-control: POST /api/sessions > run queued",
      "helmr-worker: POST /api/sessions > run lease",
      "helmr-worker: POST /api/sessions > run lease",
      "helmr-worker: POST /api/sessions > run lease > checkpoint",
      "helmr-worker: POST /api/sessions > run lease > guest restore",
      "helmr-worker: POST /api/sessions > run lease > guest start",
      "helmr-worker: POST /api/sessions > run lease > task",
      "helmr-worker: POST /api/sessions > run lease > task",
      "helmr-worker: POST /api/sessions > run lease > task > wait",
      "helmr-worker: POST /api/sessions > run lease > workspace save",
    ].sort(),
  );
  expect(spans.find(({ name }) => name.startsWith("POST"))?.parentSpanId).toBe(callerSpan);
  const [parked, resumed] = leases().toSorted((a, b) => a.startMs - b.startMs);
  expect(parked?.attributes).toMatchObject({ "helmr.run_id": run.id, "helmr.lease_end": "parked" });
  expect(resumed?.attributes).toMatchObject({ "helmr.outcome": "succeeded" });
  expect(resumed?.links).toEqual([{ traceId, spanId: parked?.spanId }]);
  // An event of a lease names that lease's span; the task had the first one's.
  const ofLeases = told.filter(({ kind }) => kind === "run_lease.started");
  expect(ofLeases.map(({ trace }) => trace.span_id)).toEqual([parked?.spanId, resumed?.spanId]);
  const task = spans.find(({ name, parentSpanId }) => name === "task" && parentSpanId === parked?.spanId);
  expect(run.output).toMatchObject({ traceparent: `00-${traceId}-${task?.spanId}-01` });
}

interface RunEvent {
  readonly kind: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly trace: { readonly trace_id: string; readonly span_id: string };
}

async function countsWhatWasDone(processes: {
  readonly control: string;
  readonly dispatcher: { readonly metricsUrl: string };
  readonly worker: { readonly metricsUrl: string };
}): Promise<void> {
  const urls = [processes.control, processes.dispatcher.metricsUrl, processes.worker.metricsUrl];
  for (const url of urls) expect((await fetch(`${url}/readyz`)).status).toBe(200);
  const [ofControl, ofDispatcher] = [await scrape(urls[0] ?? ""), await scrape(urls[1] ?? "")];
  expect(ofControl('helmr_http_requests_total{method="POST",route="/api/sessions",status="2xx"}')).toBe(1);
  expect(ofControl('helmr_run_lease_latency_seconds_count{lease="first"}')).toBe(2);
  expect(ofControl('helmr_run_lease_latency_seconds_count{lease="resume"}')).toBe(1);
  expect(ofControl("helmr_wait_parked_seconds_count")).toBe(1);
  expect(ofControl("helmr_database_connections_max")).toBeGreaterThan(0);
  expect(ofDispatcher('helmr_queue_depth{kind="run",worker_group="default"}')).toBe(0);
  expect(ofDispatcher('helmr_workers{state="active"}')).toBe(1);
  expect(ofDispatcher('helmr_dispatcher_pages_total{loop="reconcile"}')).toBeGreaterThan(0);
  // A lease is counted when all of it is cleaned up.
  await expect
    .poll(async () => (await scrape(urls[2] ?? ""))('helmr_worker_runs_total{outcome="finished"}'), limit)
    .toBe(2);
  const ofWorker = await scrape(urls[2] ?? "");
  expect(ofWorker('helmr_worker_runs_total{outcome="parked"}')).toBe(1);
  expect(ofWorker("helmr_build_seconds_count")).toBe(1);
  expect(ofWorker("helmr_guest_pool_hits_total") + ofWorker("helmr_guest_pool_misses_total")).toBe(2);
  for (const what of ["checkpoint", "restore"]) {
    expect(ofWorker(`helmr_${what}_seconds_count`)).toBe(1);
    expect(ofWorker(`helmr_${what}_bytes_sum`)).toBeGreaterThan(100_000);
    expect(ofWorker(`helmr_${what}_errors_total`)).toBe(0);
  }
  expect(ofWorker('helmr_worker_slots{kind="run"}')).toBeGreaterThan(0);
  expect(ofWorker('helmr_worker_requests_total{kind="leases/park",result="ok"}')).toBe(1);
}

it("builds a deployment, executes runs that it measures and traces, and each process stops cleanly", async () => {
  const runtime = await ensureRuntime();
  const shared = {
    HELMR_METRICS_LISTEN: "127.0.0.1:0",
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_BSP_SCHEDULE_DELAY: "100",
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
    HELMR_PARK_AFTER_SECONDS: "0",
    HELMR_RUNSC_PATH: runtime.runscPath,
    HELMR_IMAGES_DIR: runtime.imagesDir,
    ...(extraCa && { HELMR_GUEST_EXTRA_CA_CERTS: extraCa }),
  });

  const { scope } = await seedEnvironment(database.db);
  const { rawKey } = await createApiKey(database.db, scope, { name: "test", scopes: apiKeyScopes });
  const dir = await makeProject({ "tasks/waits.ts": waitingTask });
  const env = { HELMR_API_URL: control.url, HELMR_API_KEY: rawKey };
  const deployed = await helmr(["deploy", dir], { env, timeoutMs: 300_000 });
  await rm(dir, { recursive: true, force: true });
  expect(deployed.exitCode, `${deployed.stdout}\n${deployed.stderr}`).toBe(0);
  const client = new HelmrClient({ url: control.url, apiKey: rawKey });
  const { run } = await client.sessions.startAndWait("hello", {}, { timeoutSeconds: 180 });
  expect(run).toMatchObject({ status: "succeeded", output: "hello" });
  await tracesOneRun(client, { url: control.url, key: rawKey });
  await countsWhatWasDone({ control: metricsUrl(control.output()), dispatcher, worker });

  expect(await end(worker)).toBe(0);
  expect(await end(dispatcher)).toBe(0);
  await control.stop();
}, 600_000);
