/**
 * Many parked runs: what they take while nothing happens, and how fast they are given out again when all of them may go on at
 * once.
 *
 * Each run goes through the store's own transitions, as the control plane calls them: created, leased, started, given a token,
 * waiting, parked; each has a sealed archive of its own in the artifact store. Only the guests are left out: the archives
 * hold 16 KiB of random bytes in place of a guest's memory, and no workspace. So the figures are those of control plane,
 * dispatcher, PostgreSQL and object store.
 *
 * At rest: an installation of separate processes (installation.ts) on a PostgreSQL that was just started, once before there is
 * a parked run and once with all of them. The worker had none of them in its guests: one that has parked a run forgets it.
 * The processes at work hold more for a while, heap that was not returned and pages that PostgreSQL keeps in its
 * cache; what is measured is what has to be held.
 *
 * Going on: all tokens completed over HTTP by 16 callers, then the queue emptied by one worker's lease requests over HTTP,
 * with everything an assignment carries. Not measured: restoring, which is the workers' (`restore.small`), and a network.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ArtifactStore, createFolderStore } from "@helmr/artifacts";
import { type ArchiveKeys, parseArchiveKeys, sealArchive } from "@helmr/artifacts/archive";
import { createDispatcher } from "@helmr/dispatcher";
import {
  type ClaimedRun,
  claimRuns,
  createRuns,
  createToken,
  createWait,
  ensureBootstrapToken,
  parkRun,
  startRuns,
  systemActor,
} from "@helmr/store";
import { type SeededTask, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { pino } from "pino";
import { ControlPlaneClient } from "../packages/worker/src/control-plane-client.ts";
import { type ApiFixture, startApiOnly } from "./api-fixture.ts";
import { type AtRest, measureAtRest } from "./installation.ts";
import { hold } from "./leftovers.ts";
import { type BenchOptions, type Row, timed } from "./measure.ts";
import { seedSessions } from "./queue-contenders.ts";

const callers = 16;
const batch = 100;
const compatibility = "gvisor bench x64";
const stays = "not: guests, restoring, a network; the archives hold 16 KiB in place of a guest";

export async function benchParkedRuns({ quick }: BenchOptions): Promise<Row[]> {
  const count = quick ? 1_000 : 10_000;
  const cleanup = new AsyncDisposableStack();
  await using _held = { [Symbol.asyncDispose]: hold(() => cleanup.disposeAsync()) };
  const folder = await mkdtemp(join(tmpdir(), "helmr-bench-parked-"));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const fixture = await startApiOnly();
  cleanup.use(fixture);
  const bootstrapToken = randomBytes(32).toString("hex");
  await ensureBootstrapToken(fixture.db, bootstrapToken);
  const artifactsDir = join(folder, "artifacts");
  const rest = async () => {
    const postgresPid = await fixture.restartPostgres();
    const { databaseUrl } = fixture;
    return await measureAtRest(
      { databaseUrl, postgresPid, artifactsDir, folder, bootstrapToken },
      quick ? 5_000 : 30_000,
    );
  };
  const empty = { rest: await rest(), database: await databaseBytes(fixture) };

  const parking = await prepare(fixture, folder, bootstrapToken, createFolderStore(artifactsDir));
  const dispatcher = createDispatcher({ ...fixture, artifacts: parking.artifacts, logger: quietly() });
  dispatcher.start();
  cleanup.defer(() => dispatcher.stop());
  const tokens: string[] = [];
  const parkedMs = await timed(async () => tokens.push(...(await park(parking, count))));
  await dispatcher.stop(); // Another one is measured, and nobody heartbeats for the leases below.
  const full = { rest: await rest(), database: await databaseBytes(fixture) };

  const resolveMs = await timed(() => completeAll(fixture, tokens));
  const claimMs = await timed(() => claimAll(parking, tokens.length));
  const rate = (total: number, ms: number) => Math.round((total / (ms / 1000)) * 100) / 100;
  return [
    ...restRows(empty.rest, full.rest, count),
    {
      name: "waits.parked.database_per_run_bytes",
      bytes: Math.round((full.database - empty.database) / count),
      runs: 1,
      note: `on disk, with indexes; ${count} runs made and parked at ${rate(count, parkedMs)}/s; ${stays}`,
    },
    {
      name: "parked.resolve",
      per_second: rate(tokens.length, resolveMs),
      runs: 1,
      note: `tokens of ${tokens.length} parked runs completed over HTTP, ${callers} callers; ${stays}`,
    },
    {
      name: "parked.claim",
      per_second: rate(tokens.length, claimMs),
      runs: 1,
      note: `${tokens.length} runs to resume leased over HTTP, ${batch} a request of one worker; ${stays}`,
    },
  ];
}

function restRows(empty: AtRest, full: AtRest, count: number): Row[] {
  const total = ({ memoryBytes }: AtRest) =>
    Object.values(memoryBytes).reduce((sum, bytes) => sum + bytes, 0);
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
  const programs = ["control", "dispatcher", "worker", "postgres"] as const;
  const memory = programs.map(
    (program) =>
      `${program} ${megabytes(empty.memoryBytes[program])} -> ${megabytes(full.memoryBytes[program])}`,
  );
  const things = (["processes", "sockets", "mounts", "namespaces"] as const).map(
    (thing) => `${thing} ${empty[thing]} -> ${full[thing]}`,
  );
  const percent = ({ cpu }: AtRest) => `${(cpu * 100).toFixed(1)} %`;
  return [
    {
      name: "waits.parked.memory_per_run_bytes",
      bytes: Math.round((total(full) - total(empty)) / count),
      runs: 1,
      note: `an installation at rest, just started, 0 -> ${count} parked runs: MB of ${memory.join(", ")}; ${things.join(", ")}`,
    },
    {
      name: "waits.parked.idle_cores",
      ratio: Math.round(full.cpu * 1000) / 1000,
      runs: 1,
      note: `cores used at rest by all processes: ${percent(empty)} of one without, ${percent(full)} with ${count} parked runs`,
    },
  ];
}

async function databaseBytes({ db }: ApiFixture): Promise<number> {
  const { rows } = await sql<{ bytes: number }>`select pg_database_size(current_database()) as bytes`.execute(
    db,
  );
  return rows[0]?.bytes ?? Number.NaN;
}

interface ParkingLot {
  readonly fixture: ApiFixture;
  readonly task: SeededTask;
  readonly workerInstanceId: string;
  readonly client: ControlPlaneClient;
  readonly artifacts: ArtifactStore;
  readonly keys: ArchiveKeys;
  readonly memoryFolder: string;
}

async function prepare(
  fixture: ApiFixture,
  folder: string,
  bootstrapToken: string,
  artifacts: ArtifactStore,
): Promise<ParkingLot> {
  const client = new ControlPlaneClient(fixture.url);
  const workerInstanceId = randomUUID();
  await client.register(bootstrapToken, {
    protocol: "helmr.worker.v1",
    worker_instance_id: workerInstanceId,
    name: "bench",
    version: "0.0.0",
    capacity: { runs: batch, builds: 1, cpu: 1, memory_mib: 1024 },
    capabilities: {
      driver: "gvisor",
      driver_version: "bench",
      architecture: "x64",
      limits: { cpu: true, memory: true, disk: true },
      network: true,
      checkpoint_compatibility: compatibility,
    },
  });
  const memoryFolder = await mkdtemp(join(folder, "memory-"));
  return {
    fixture,
    task: await seedTask(fixture.db, fixture.scope, { taskId: "waits" }),
    workerInstanceId,
    client,
    artifacts,
    keys: parseArchiveKeys({ current: randomBytes(32).toString("base64") }),
    memoryFolder,
  };
}

/** Parks `count` new runs; the ids of their tokens. */
async function park(lot: ParkingLot, count: number): Promise<string[]> {
  const tokens: string[] = [];
  for (let done = 0; done < count; done += batch) {
    const claimed = await startBatch(lot);
    await writeFile(join(lot.memoryFolder, "pages.img"), randomBytes(16 * 1024));
    await eachOf(claimed, async (run) => {
      tokens.push(await parkOne(lot, run));
    });
  }
  return tokens;
}

async function startBatch({ fixture, task, workerInstanceId }: ParkingLot): Promise<ClaimedRun[]> {
  const { db, scope } = fixture;
  const sessions = await seedSessions(db, scope, task, batch);
  await createRuns(
    db,
    scope,
    sessions.map((session) => ({
      ...session,
      deploymentId: task.deploymentId,
      deploymentTaskId: task.deploymentTaskId,
      deploymentVersion: "20260606.1",
      taskId: task.taskId,
      queueName: task.queueName,
      payloadJson: "{}",
      retryPolicy: { enabled: false },
      maxDurationSeconds: 900,
      apiVersion: "2026-06-06",
    })),
  );
  const claimed = await claimRuns(db, { workerInstanceId, limit: batch, leaseDurationMs: 300_000 });
  if (claimed.length !== batch) throw new Error(`${claimed.length} of ${batch} runs were claimed`);
  await startRuns(
    db,
    claimed.map((run) => ({
      ...leaseOf(workerInstanceId, run),
      notes: [],
      guest: { pooled: true, startMs: 0 },
    })),
  );
  return claimed;
}

const leaseOf = (workerInstanceId: string, run: ClaimedRun) => ({
  workerInstanceId,
  leaseId: run.lease_id,
  fencing: run.fencing,
});

async function parkOne(lot: ParkingLot, run: ClaimedRun): Promise<string> {
  const { db, scope } = lot.fixture;
  const lease = leaseOf(lot.workerInstanceId, run);
  const acting = { ...scope, actor: systemActor("bench") };
  const { token } = await createToken(db, acting, { timeoutMs: 86_400_000, tags: [], metadata: {} });
  const waitFor = { kind: "token", tokenId: token.id } as const;
  const made = await createWait(db, { ...lease, number: 1, waitFor, metadata: {}, tags: [] });
  if (made.status === "lost") throw new Error("a lease of the benchmark is lost");
  // Each is sealed under a key of its own, so no two are the same object.
  const archive = sealArchive(
    [
      { name: "state", kind: "json", value: { run: run.id } },
      { name: "memory", kind: "files", folder: lot.memoryFolder },
    ],
    { keys: lot.keys },
  );
  const stored = await lot.artifacts.put(archive.stream, { maxBytes: 1024 ** 2 });
  const { keyId, contentBytes, durationMs } = archive.stats();
  const { status } = await parkRun(db, {
    ...lease,
    waitId: made.wait.id,
    manifest: { compatibility, driver: "gvisor", key_id: keyId, content_bytes: contentBytes },
    artifactDigest: stored.digest,
    sizeBytes: stored.sizeBytes,
    timings: { store: Math.round(durationMs) },
  });
  if (status !== "parked") throw new Error(`a run was not parked: ${status}`);
  return token.id;
}

async function completeAll({ url, apiKey }: ApiFixture, tokens: readonly string[]): Promise<void> {
  const complete = async (id: string) => {
    const response = await fetch(`${url}/api/tokens/${id}/complete`, {
      method: "POST",
      headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
      body: '{"data":true}',
    });
    if (!response.ok) throw new Error(`completing a token: ${response.status} ${await response.text()}`);
    await response.arrayBuffer();
  };
  await eachOf(tokens, complete);
}

/** `callers` at a time. */
async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  const caller = async () => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: callers }, caller));
}

/** Every run is leased, each with its checkpoint and the result of its wait. */
async function claimAll({ client }: ParkingLot, count: number): Promise<void> {
  for (let claimed = 0; claimed < count; ) {
    const { runs } = await client.lease({ max_runs: batch, max_builds: 0, wait_ms: 5_000 });
    if (runs.length === 0) throw new Error(`${claimed} of ${count} parked runs were leased`);
    for (const run of runs) {
      if (run.resume?.wait.status !== "completed") throw new Error("a run was leased without its checkpoint");
    }
    claimed += runs.length;
  }
}

function quietly() {
  return pino({ level: "error" }, pino.destination(2));
}
