/**
 * The queue alone beside graphile-worker and pg-boss: enqueue, lease, finish, all records written, no guest, on one
 * PostgreSQL server that syncs every commit, in this process.
 *
 * A round enqueues jobs one by one from 16 callers, then drains them with 16 in work at once; its rate is jobs by the time
 * of both. Rounds of the contenders take turns, the median counts. Each has a database of its own. In vs_graphile_worker and
 * vs_pg_boss each job is taken and finished on its own, as runs are on Helmr's side of the wire (its control plane batches
 * what arrives together); the _batching rows switch on what the other queue has for handlers that take many jobs at once.
 *
 * Not measured: HTTP between worker and control plane, the session and workspace that a start creates with its run, waiting
 * workers (the backlog is always there), several worker processes, a history of millions of rows. Helmr keeps every run with
 * its four events (created, leased, started, completed) and its counters; graphile-worker deletes a finished job, pg-boss
 * keeps its row: the same rate would not be the same work.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { databaseUrl, startEmbeddedPostgres } from "@helmr/store";
import pg from "pg";
import { hold } from "./leftovers.ts";
import { type BenchOptions, percentile, type Row, timed } from "./measure.ts";
import { type Contender, concurrency, graphileWorker, helmr, pgBoss } from "./queue-contenders.ts";

export async function benchQueue({ quick }: BenchOptions): Promise<Row[]> {
  const [jobs, rounds] = quick ? [1_000, 3] : [4_000, 5];
  const cleanup = new AsyncDisposableStack();
  await using _held = { [Symbol.asyncDispose]: hold(() => cleanup.disposeAsync()) };
  const folder = await mkdtemp(join(tmpdir(), "helmr-bench-queue-"));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const server = await startEmbeddedPostgres({ dataDir: join(folder, "postgres"), durable: true });
  cleanup.defer(() => server.stop());

  const contenders: Contender[] = [];
  cleanup.defer(async () => {
    for (const contender of contenders) await contender.close();
  });
  contenders.push(await helmr(await createDatabase(server.url, "bench_helmr")));
  contenders.push(await graphileWorker(await createDatabase(server.url, "bench_graphile"), false));
  contenders.push(await graphileWorker(await createDatabase(server.url, "bench_graphile_batching"), true));
  contenders.push(await pgBoss(await createDatabase(server.url, "bench_pgboss"), false));
  contenders.push(await pgBoss(await createDatabase(server.url, "bench_pgboss_batching"), true));

  for (const contender of contenders) await round(contender, 200); // warm-up: plans, caches, connections
  const results = new Map<string, Round[]>(contenders.map((contender) => [contender.name, []]));
  for (let n = 0; n < rounds; n += 1) {
    for (const contender of contenders) results.get(contender.name)?.push(await round(contender, jobs));
  }
  return rows(results, jobs);
}

interface Round {
  readonly enqueueMs: number;
  readonly drainMs: number;
}

async function round(contender: Contender, jobs: number): Promise<Round> {
  await contender.prepare(jobs);
  let next = 0;
  const caller = async () => {
    while (next < jobs) await contender.enqueueOne(next++);
  };
  const enqueueMs = await timed(() => Promise.all(Array.from({ length: concurrency }, caller)));
  const drainMs = await timed(() => contender.drain(jobs));
  return { enqueueMs, drainMs };
}

function rows(results: ReadonlyMap<string, readonly Round[]>, jobs: number): Row[] {
  const rate = (name: string, ms: (round: Round) => number) =>
    percentile(
      (results.get(name) ?? []).map((each) => jobs / (ms(each) / 1000)),
      0.5,
    );
  const total = (name: string) => rate(name, (each) => each.enqueueMs + each.drainMs);
  const round2 = (value: number) => Math.round(value * 100) / 100;
  const runs = results.get("helmr")?.length ?? 0;
  const parts = (name: string) =>
    `enqueue ${Math.round(rate(name, (each) => each.enqueueMs))}/s, drain ${Math.round(rate(name, (each) => each.drainMs))}/s`;
  const versus = (rowName: string, other: string): Row => ({
    name: rowName,
    per_second: round2(total("helmr")),
    ratio: round2(total("helmr") / total(other)),
    runs,
    note: `Helmr: ${parts("helmr")}; ${other}: ${Math.round(total(other))}/s, ${parts(other)}; ${jobs} jobs a round; not: HTTP, sessions, guests`,
  });
  return [
    versus("queue.vs_graphile_worker", "graphile-worker"),
    versus("queue.vs_graphile_worker_batching", "graphile-worker, batching"),
    versus("queue.vs_pg_boss", "pg-boss"),
    versus("queue.vs_pg_boss_batching", "pg-boss, batching"),
  ];
}

async function createDatabase(serverUrl: string, name: string): Promise<string> {
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  try {
    await client.query(`create database ${name}`);
  } finally {
    await client.end();
  }
  return databaseUrl(serverUrl, name);
}
