/**
 * What each thing that an installation does costs, in processor time of control plane, PostgreSQL, Redis and dispatcher: the
 * figures that the simulation of a large installation goes by (simulate/).
 *
 * Processor time, not elapsed time, so callers on the same machine do not count; but a busy machine's caches do. One control plane,
 * one dispatcher; workers are stand-ins of this process. Not measured: what it costs a worker, the object store, WAL and
 * vacuum that come later, and what grows with the tables.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { uuidv7 } from "@helmr/store";
import { sql } from "kysely";
import { ControlPlaneClient, type LeasedWork } from "../packages/worker/src/control-plane-client.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import type { BenchOptions, Row } from "./measure.ts";

const callers = 16;
const compatibility = "gvisor bench x64";
type Run = LeasedWork["runs"][number];

export async function benchCosts({ quick }: BenchOptions): Promise<Row[]> {
  await using cluster = await startCluster({
    controlPlanes: 1,
    dispatchers: 1,
    control: { HELMR_WORKER_LEASE: "20m" },
  });
  const apiKey = await cluster.makeKey();
  const client = await registerWorker(cluster);
  const count = quick ? 300 : 3000;
  const idleSeconds = quick ? 10 : 30;
  const rows: Row[] = [];
  const base = await costOf(cluster, idleSeconds, () => sleep(idleSeconds * 1000));
  const measure = async (name: string, times: number, note: string, work: () => Promise<unknown>) => {
    const from = performance.now();
    const cost = await costOf(cluster, times, work);
    const seconds = (performance.now() - from) / 1000;
    // What goes on anyway, loops and probes, is not this work's.
    const own = (part: keyof Cost) => Math.max(0, cost[part] - (base[part] * seconds) / times);
    rows.push(costRow(name, own, times, note));
  };
  rows.push(costRow("costs.idle", (part) => base[part], idleSeconds, "a second of all loops, nothing to do"));

  await measure("costs.start", count, "POST /sessions: session, workspace, run, audit record", () =>
    eachOf(count, (n) => start(cluster, apiKey, n)),
  );
  let runs: Run[] = [];
  await measure("costs.lease", count, "leased 100 a request and started one by one", async () => {
    runs = await leaseAll(client, count);
    await eachOf(count, (n) => startLease(client, runs[n]));
  });
  await measure("costs.log", count, "an append of one line", () =>
    eachOf(count, (n) => appendLine(client, runs[n], 1)),
  );
  await measure("costs.wait", count, "a token is created, waited for, and the run parked", () =>
    eachOf(count, (n) => park(client, runs[n])),
  );
  await measure("costs.resume", count, "its token completed, the run leased and started again", async () => {
    const { rows: tokens } = await sql<{
      id: string;
    }>`select id from tokens where status = 'pending'`.execute(cluster.db);
    await eachOf(tokens.length, (n) => complete(cluster, apiKey, tokens[n]?.id ?? ""));
    runs = await leaseAll(client, count);
    await eachOf(count, (n) => startLease(client, runs[n]));
  });
  await measure("costs.finish", count, "the run ends", () => eachOf(count, (n) => finish(client, runs[n])));

  const beats = idleSeconds * 10;
  const held = await leaseForBeats(cluster, apiKey, client);
  const leases = held.map((run) => ({ lease_id: run.lease_id, fencing: run.fencing }));
  await measure(
    "costs.heartbeat",
    beats,
    `one of a worker with ${held.length} leases, held for its four seconds`,
    () => eachOf(beats, () => client.heartbeat(leases).then(() => undefined), beats),
  );
  const waiting = await Promise.all(Array.from({ length: 50 }, () => registerWorker(cluster)));
  const workerSeconds = waiting.length * idleSeconds;
  await measure("costs.waiting", workerSeconds, "a second of a worker that waits for work, 50 of them", () =>
    Promise.all(
      waiting.map((each) => each.lease({ max_runs: 1, max_builds: 0, wait_ms: idleSeconds * 1000 })),
    ),
  );
  const fires = Math.min(count, 1000);
  await measure("costs.fire", fires, "a schedule's fire, with the session that it starts", () =>
    fireAll(cluster, fires),
  );
  return rows;
}

type Cost = Awaited<ReturnType<Cluster["cpu"]>>;

/** Seconds for each of `times`. */
async function costOf(cluster: Cluster, times: number, work: () => Promise<unknown>): Promise<Cost> {
  const before = await cluster.cpu();
  await work();
  const after = await cluster.cpu();
  const per = (part: keyof Cost) => (after[part] - before[part]) / times;
  return {
    control: per("control"),
    dispatcher: per("dispatcher"),
    postgres: per("postgres"),
    redis: per("redis"),
  };
}

function costRow(name: string, cost: (part: keyof Cost) => number, runs: number, note: string): Row {
  const parts = (["control", "postgres", "redis", "dispatcher"] as const).map(
    (part) => `${part} ${(cost(part) * 1000).toFixed(3)} ms`,
  );
  return { name, runs, note: `${note}: ${parts.join(", ")} of processor time` };
}

async function registerWorker({ urls, bootstrapToken }: Cluster): Promise<ControlPlaneClient> {
  const client = new ControlPlaneClient(urls[0] ?? "");
  await client.register(bootstrapToken, {
    protocol: "helmr.worker.v1",
    worker_instance_id: randomUUID(),
    name: "stand-in",
    version: "0.0.0",
    capacity: { runs: 100, builds: 1, cpu: 64, memory_mib: 2 ** 20 },
    capabilities: {
      driver: "gvisor",
      driver_version: "none",
      architecture: "x64",
      limits: { cpu: true, memory: true, disk: true },
      network: true,
      checkpoint_compatibility: compatibility,
    },
  });
  return client;
}

async function post(cluster: Cluster, apiKey: string, path: string, body: unknown): Promise<void> {
  const response = await fetch(`${cluster.urls[0]}/api/${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
  await response.arrayBuffer();
}

const start = (cluster: Cluster, apiKey: string, index: number) =>
  post(cluster, apiKey, "sessions", { task_id: cluster.task.taskId, payload: { index } });

const complete = (cluster: Cluster, apiKey: string, token: string) =>
  post(cluster, apiKey, `tokens/${token}/complete`, { data: true });

async function leaseAll(client: ControlPlaneClient, count: number): Promise<Run[]> {
  const runs: Run[] = [];
  while (runs.length < count) {
    const work = await client.lease({
      max_runs: Math.min(100, count - runs.length),
      max_builds: 0,
      wait_ms: 5_000,
    });
    if (work.runs.length === 0) throw new Error(`${runs.length} of ${count} runs were leased`);
    runs.push(...work.runs);
  }
  return runs;
}

async function leaseForBeats(cluster: Cluster, apiKey: string, client: ControlPlaneClient): Promise<Run[]> {
  await eachOf(4, (n) => start(cluster, apiKey, n));
  return await leaseAll(client, 4);
}

function startLease(client: ControlPlaneClient, run: Run | undefined): Promise<void> {
  const { lease_id, fencing } = required(run);
  return client.startLease(lease_id, { fencing, guest: { pooled: true, start_ms: 0 } });
}

async function appendLine(client: ControlPlaneClient, run: Run | undefined, number: number): Promise<void> {
  const { lease_id, fencing } = required(run);
  const content_base64 = Buffer.from("a line of a task that says what it does\n").toString("base64");
  await client.append(lease_id, fencing, [
    { kind: "log", number, stream: "stdout", content_base64, occurred_at: new Date().toISOString() },
  ]);
}

async function park(client: ControlPlaneClient, run: Run | undefined): Promise<void> {
  const { lease_id, fencing } = required(run);
  const { token } = await client.createToken(lease_id, { fencing, number: 1, metadata: {}, tags: [] });
  const wait = await client.createWait(lease_id, {
    fencing,
    number: 1,
    wait_for: { kind: "token", token_id: token.id },
    metadata: {},
    tags: [],
  });
  const parked = await client.park(lease_id, {
    fencing,
    wait_id: wait.wait_id,
    manifest: { compatibility },
    artifact_digest: `sha256:${randomBytes(32).toString("hex")}`,
    size_bytes: 1,
    timings_ms: {},
  });
  if (parked.status !== "parked") throw new Error(`a run was not parked: ${parked.status}`);
}

function finish(client: ControlPlaneClient, run: Run | undefined): Promise<void> {
  const { lease_id, fencing } = required(run);
  return client.finishRun(lease_id, { fencing, outcome: { status: "succeeded", output_json: "{}" } });
}

/** All due at once. */
async function fireAll({ db, scope, task }: Cluster, count: number): Promise<void> {
  const ids = Array.from({ length: count }, () => uuidv7());
  await sql`insert into schedules (id, environment_id, project_id, type, task_id, deduplication_key, cron, timezone,
      next_fire_at, due_at)
    select s.id, ${scope.environmentId}, ${scope.projectId}, 'imperative', ${task.taskId}, 'k' || s.n, '0 0 1 1 *', 'UTC',
      now(), now() from unnest(${ids}::uuid[]) with ordinality as s (id, n)`.execute(db);
  for (const limit = performance.now() + 300_000; ; ) {
    const { rows } = await sql<{
      n: number;
    }>`select count(*)::integer as n from schedules where last_fire_at is not null`.execute(db);
    if (rows[0]?.n === count) break;
    if (performance.now() > limit) throw new Error(`${rows[0]?.n} of ${count} schedules fired`);
    await sleep(500);
  }
  await sql`delete from schedules`.execute(db);
}

async function eachOf(
  count: number,
  work: (index: number) => Promise<void>,
  atOnce = callers,
): Promise<void> {
  let next = 0;
  const caller = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, caller));
}

function required(run: Run | undefined): Run {
  if (run === undefined) throw new Error("a run is missing");
  return run;
}
