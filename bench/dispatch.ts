/**
 * From an API call to a lease in another process, through three control planes, with Redis between them.
 *
 * The workers are stand-ins that speak the worker's protocol from processes of their own and execute nothing: no guest, no
 * materialization. All processes share the machine, so figures under load say what this machine gives, not what a part
 * of an installation can do on its own.
 *
 *   dispatch.lease        from before POST /sessions to the worker that has the run, one at a time, all workers waiting
 *   dispatch.runs         starts by 16 callers, leased, started and finished by 4 workers with 16 slots
 *   dispatch.sse          1,000 followers of 100 runs: a line's way from the worker's append to its readers
 *   dispatch.fire         schedules: from due (with its jitter) to the run's creation
 *   dispatch.idle         of one core, per process, when nothing is asked of them
 */
import { setTimeout as sleep } from "node:timers/promises";
import { uuidv7 } from "@helmr/store";
import { sql } from "kysely";
import { jitterOf } from "../packages/store/src/schedules/lifecycle.ts";
import { type Child, type Cluster, clockMs, startCluster } from "./cluster.ts";
import type { DelaysMessage, FollowersOptions } from "./cluster-followers.ts";
import type { FinishedMessage, LeasedMessage, WorkersOptions, WriteMessage } from "./cluster-workers.ts";
import { type BenchOptions, latencyRow, percentile, type Row, rateRow, timed } from "./measure.ts";

const controlPlanes = 3;
const dispatchers = 2;
const jitterMs = 30_000;

export async function benchDispatch({ quick }: BenchOptions): Promise<Row[]> {
  await using cluster = await startCluster({ controlPlanes, dispatchers });
  const apiKey = await cluster.makeKey();
  const rows: Row[] = [];
  rows.push(...(await idle(cluster, quick ? 10_000 : 30_000)));
  for (const workers of [1, 4, 16]) {
    rows.push(...(await leases(cluster, apiKey, { workers, runs: quick ? 60 : 300 })));
  }
  rows.push(
    ...(await throughput(cluster, apiKey, quick ? { runs: 1000, rounds: 2 } : { runs: 3000, rounds: 5 })),
  );
  rows.push(...(await followers(cluster, apiKey, { lines: quick ? 10 : 30 })));
  rows.push(...(await fires(cluster, { minutes: quick ? 1 : 5 })));
  return rows;
}

async function start(cluster: Cluster, apiKey: string, index: number): Promise<string> {
  const url = cluster.urls[index % cluster.urls.length];
  const response = await fetch(`${url}/api/sessions`, {
    method: "POST",
    headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({ task_id: cluster.task.taskId, payload: { index } }),
  });
  const body = (await response.json()) as { run?: { id: string } };
  if (body.run === undefined) throw new Error(`a start answered ${response.status}: ${JSON.stringify(body)}`);
  return body.run.id;
}

async function startWorkers(
  cluster: Cluster,
  options: Pick<WorkersOptions, "workers" | "slots" | "holds">,
): Promise<Child> {
  const { urls, bootstrapToken } = cluster;
  return await cluster.fork("cluster-workers.ts", {
    urls,
    bootstrapToken,
    ...options,
  } satisfies WorkersOptions);
}

async function leases(
  cluster: Cluster,
  apiKey: string,
  { workers, runs }: { readonly workers: number; readonly runs: number },
): Promise<Row[]> {
  const child = await startWorkers(cluster, { workers, slots: 4, holds: false });
  const leasedAt = new Map<string, number>();
  child.onMessage((message: Partial<LeasedMessage>) => {
    if (message.leased !== undefined) leasedAt.set(message.leased.runId, message.leased.atMs);
  });
  await sleep(500); // all are waiting
  const figures: number[] = [];
  const answers: number[] = [];
  for (let n = -20; n < runs; n += 1) {
    const fromMs = clockMs();
    const finished = child.receive((message: Partial<FinishedMessage>) => message.finished);
    const runId = await start(cluster, apiKey, n + 20);
    const answeredMs = clockMs();
    await finished;
    const atMs = leasedAt.get(runId);
    if (atMs === undefined) throw new Error("a run was finished that nobody leased");
    await sleep(20); // the worker waits again
    if (n < 0) continue;
    figures.push(atMs - fromMs);
    answers.push(answeredMs - fromMs);
  }
  await child.stop();
  const answer = percentile(answers, 0.5).toFixed(1);
  return [
    latencyRow(
      `dispatch.lease.${workers}`,
      figures,
      `${workers} waiting workers at three control planes (aim: p50 10 ms); the start itself was answered after ${answer} ms; not: a guest`,
    ),
  ];
}

async function throughput(
  cluster: Cluster,
  apiKey: string,
  { runs, rounds }: { readonly runs: number; readonly rounds: number },
): Promise<Row[]> {
  const child = await startWorkers(cluster, { workers: 4, slots: 16, holds: false });
  let finished = 0;
  child.onMessage((message: Partial<FinishedMessage>) => {
    if (message.finished !== undefined) finished += 1;
  });
  const round = async (count: number) => {
    finished = 0;
    let next = 0;
    const caller = async () => {
      while (next < count) await start(cluster, apiKey, next++);
    };
    return await timed(async () => {
      await Promise.all(Array.from({ length: 16 }, caller));
      while (finished < count) await sleep(5);
    });
  };
  await round(200);
  const before = await cluster.cpu();
  const rates: number[] = [];
  for (let n = 0; n < rounds; n += 1) rates.push(runs / ((await round(runs)) / 1000));
  const after = await cluster.cpu();
  await child.stop();
  const per1000 = (name: keyof typeof after) =>
    `${name} ${((after[name] - before[name]) / ((runs * rounds) / 1000)).toFixed(2)} s`;
  return [
    rateRow(
      "dispatch.runs",
      rates,
      `started, leased, started, finished, over HTTP, the callers and workers on the same cores; processor time per 1,000 runs: ${(["control", "dispatcher", "postgres", "redis"] as const).map(per1000).join(", ")}`,
    ),
  ];
}

async function followers(
  cluster: Cluster,
  apiKey: string,
  { lines }: { readonly lines: number },
): Promise<Row[]> {
  const [runs, perRun] = [100, 10];
  const workers = await startWorkers(cluster, { workers: 4, slots: 25, holds: true });
  const runIds = await Promise.all(Array.from({ length: runs }, (_, n) => start(cluster, apiKey, n)));
  const keys = await Promise.all(Array.from({ length: 5 }, () => cluster.makeKey()));
  const options: FollowersOptions = { urls: cluster.urls, keys, runIds, perRun };
  const readers = await cluster.fork("cluster-followers.ts", options);
  const measure = async (everyMs: number, count: number) => {
    const written = workers.receive((message: { written?: boolean }) => message.written);
    workers.send({ write: { lines: count, everyMs } } satisfies WriteMessage);
    await written;
    const arrived = { ms: [] as number[], fromMs: 0, toMs: 0 };
    for (const limit = performance.now() + 60_000; arrived.ms.length < runs * perRun * count; ) {
      if (performance.now() > limit)
        throw new Error(`${arrived.ms.length} of ${runs * perRun * count} lines arrived`);
      await sleep(200);
      const delays = readers.receive((message: Partial<DelaysMessage>) => message.delays);
      readers.send({});
      const { ms, fromMs, toMs } = await delays;
      arrived.ms.push(...ms);
      arrived.fromMs ||= fromMs;
      arrived.toMs = toMs;
    }
    return arrived;
  };
  await measure(1000, 2);
  const before = await cluster.cpu();
  const steady = await measure(1000, lines);
  const after = await cluster.cpu();
  const burst = await measure(0, lines);
  await readers.stop();
  await workers.stop();
  const used = (["control", "postgres", "redis"] as const)
    .map((name) => `${name} ${(((after[name] - before[name]) / (lines + 2)) * 100).toFixed(0)} %`)
    .join(", ");
  return [
    latencyRow(
      "dispatch.sse.delay",
      steady.ms,
      `1,000 followers of 100 runs that write a line a second each; of one core meanwhile: ${used}; the readers share the machine`,
    ),
    {
      ...rateRow(
        "dispatch.sse.lines",
        [burst.ms.length / ((burst.toMs - burst.fromMs) / 1000)],
        "the same followers, all runs writing as fast as their appends are acknowledged; lines delivered, all followers together",
      ),
      p50_ms: Math.round(percentile(burst.ms, 0.5)),
      p95_ms: Math.round(percentile(burst.ms, 0.95)),
    },
  ];
}

/** 10,000 schedules, each once an hour, so 167 a minute. */
async function fires(cluster: Cluster, { minutes }: { readonly minutes: number }): Promise<Row[]> {
  const { db, scope, task } = cluster;
  const ids = Array.from({ length: 10_000 }, () => uuidv7());
  const from = new Date(Math.ceil(Date.now() / 60_000) * 60_000);
  const slots = ids.map((_, n) => new Date(from.getTime() + (n % 60) * 60_000));
  const due = ids.map((id, n) => new Date((slots[n]?.getTime() ?? 0) + jitterOf(id, jitterMs)));
  await sql`insert into schedules (id, environment_id, project_id, type, task_id, deduplication_key, cron, timezone,
      next_fire_at, due_at)
    select s.id, ${scope.environmentId}, ${scope.projectId}, 'imperative', ${task.taskId}, 'k' || s.n,
      extract(minute from s.slot at time zone 'UTC')::text || ' * * * *', 'UTC', s.slot, s.due
    from unnest(${ids}::uuid[], ${slots}::timestamptz[], ${due}::timestamptz[]) with ordinality as s (id, slot, due, n)`.execute(
    db,
  );
  await sleep(from.getTime() + minutes * 60_000 + jitterMs + 5_000 - Date.now());
  const until = new Date(from.getTime() + minutes * 60_000);
  const { rows } = await sql<{
    id: string;
    created: Date;
  }>`select schedule_id as id, created_at as created from runs
    where schedule_id is not null`.execute(db);
  const dueOf = new Map(ids.map((id, n) => [id, due[n]?.getTime() ?? 0]));
  const expected = ids.filter((_, n) => (slots[n] ?? until) < until).length;
  await sql`delete from schedules`.execute(db);
  if (rows.length < expected) throw new Error(`${rows.length} of ${expected} schedules fired`);
  const lags = rows.map(({ id, created }) => created.getTime() - (dueOf.get(id) ?? 0));
  return [
    latencyRow(
      "dispatch.fire",
      lags,
      `two dispatchers, 10,000 schedules, ${expected} slots in ${minutes} min; p99 ${Math.round(percentile(lags, 0.99))} ms beyond the jitter (aim: 1,000)`,
    ),
  ];
}

async function idle(cluster: Cluster, measureMs: number): Promise<Row[]> {
  const child = await startWorkers(cluster, { workers: 4, slots: 4, holds: false });
  await sleep(5_000);
  const before = await cluster.cpu();
  await sleep(measureMs);
  const after = await cluster.cpu();
  await child.stop();
  const share = (name: keyof typeof after) =>
    ((after[name] - before[name]) / cluster.pids[name].length / (measureMs / 1000)) * 100;
  const text = (["control", "dispatcher", "postgres", "redis"] as const)
    .map((name) => `${name} ${share(name).toFixed(2)} %`)
    .join(", ");
  return [
    {
      name: "dispatch.idle",
      ratio: Math.round(Math.max(share("control"), share("dispatcher")) * 100) / 10_000,
      runs: 1,
      note: `of one core per process, PostgreSQL's together, with four workers that wait for work (aim: 1 % each): ${text}`,
    },
  ];
}
