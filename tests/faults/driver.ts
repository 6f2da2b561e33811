/**
 * One run of the harness: a cluster, the plan's operations and faults, quiet, and what must be true then.
 *
 *   1 start everything, deploy the project
 *   2 operations and faults at their moments
 *   3 all faults are over: every operation comes to its end, every run too
 *   4 read the database; read saved files again
 *   5 stop the workers: nothing of them is left; what nothing refers to goes from the object store
 *   6 check F1 to F13
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { remainsOf } from "./clean.ts";
import { deploy } from "./clients/deploy.ts";
import { operate } from "./clients/index.ts";
import { readBack } from "./clients/workspaces.ts";
import type { World } from "./clients/world.ts";
import { Cluster } from "./cluster.ts";
import { keepEvidence } from "./evidence.ts";
import { type DatabaseFacts, type Facts, readFacts, readReferenced, sampleLanes } from "./facts.ts";
import { injectFaults } from "./inject.ts";
import { noRunLost } from "./invariants/f01-no-run-lost.ts";
import { checkAll, type Violation } from "./invariants/index.ts";
import { Journal } from "./journal.ts";
import type { Plan } from "./plan.ts";
import { Seen } from "./seen.ts";

export interface DriverOptions {
  readonly echo: (line: string) => void;
  /** Ends it early; what was started is removed. */
  readonly signal: AbortSignal;
  /** After the last fault, for operations and runs to end. */
  readonly settleMs: number;
  /** How long the object store may take to be rid of what nothing refers to; with what was reserved for saves that died. */
  readonly collectMs: number;
}

export interface Outcome {
  readonly violations: readonly Violation[];
  readonly summary: string;
  /** Of a run that violated something. */
  readonly evidenceDir: string | undefined;
}

const sampleEveryMs = 250;
const quietPollMs = 1_000;

export async function runPlan(plan: Plan, options: DriverOptions): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), "helmr-faults-"));
  await chmod(folder, 0o711); // PostgreSQL is another user
  const journal = new Journal(options.echo);
  const seen = new Seen();
  const cluster = new Cluster({ folder, parkAfterSeconds: 1, store: plan.store });
  const giveUp = new AbortController();
  let facts: Facts | undefined;
  let violations: Violation[];
  try {
    facts = await drive(cluster, plan, { ...options, journal, seen, giveUp });
    violations = checkAll(facts);
  } catch (error) {
    options.signal.throwIfAborted();
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    violations = [{ number: "F0", text: `the harness could not go on: ${text}` }];
  } finally {
    giveUp.abort();
    const left = await cluster.stop();
    for (const what of left) journal.note(`could not be removed: ${what}`);
  }
  const isClean = violations.length === 0;
  const evidenceDir = isClean
    ? undefined
    : await keepEvidence({ plan, violations, journal, logsDir: cluster.logsDir, facts });
  await rm(folder, { recursive: true, force: true });
  return { violations, summary: summaryOf(plan, seen, facts), evidenceDir };
}

interface Drive extends DriverOptions {
  readonly journal: Journal;
  readonly seen: Seen;
  /** Ends operations that are still under way. */
  readonly giveUp: AbortController;
}

async function drive(cluster: Cluster, plan: Plan, options: Drive): Promise<Facts> {
  const { journal, seen, signal, giveUp, settleMs } = options;
  journal.note(`seed ${plan.seed}: ${plan.operations.length} operations, ${plan.faults.length} faults`);
  await cluster.start();
  const world: World = {
    client: cluster.client(),
    access: cluster.access,
    folder: cluster.folder,
    seen,
    signal: AbortSignal.any([signal, giveUp.signal]),
  };
  journal.note("everything is up");
  const problem = await deploy(world, "first");
  if (problem !== undefined) throw new Error(`the first deployment failed:\n${problem}`);
  journal.note("deployed");

  const sampling = sampleLoop(cluster, seen, world.signal);
  const operations = operateAll(world, plan, journal);
  await injectFaults(cluster, plan.faults, journal, signal);
  await sleep(1, undefined, { signal });
  await Promise.all([...cluster.parts.values()].map((part) => part.ready()));
  journal.note("all faults are over, all parts are ready");

  const late = sleep(plan.durationMs + settleMs, "late" as const, { signal, ref: false });
  if ((await Promise.race([operations.done, late])) === "late") {
    for (const id of operations.open) seen.problems.push(`operation ${id} did not come to its end`);
  } else journal.note("all operations are done");
  const database = await quiet(cluster, settleMs, signal);
  await readBack(world);
  giveUp.abort();
  await sampling;
  journal.note("reading is done");

  const tags = cluster.tags();
  const workers = [...cluster.parts.values()].filter(({ name }) => name.startsWith("worker"));
  for (const [index, code] of (await Promise.all(workers.map((worker) => worker.stop()))).entries())
    if (code !== 0) seen.problems.push(`${workers[index]?.name} stopped with ${code}`);
  const remains = remainsOf(cluster.folder, tags).filter((what) => isOfWorkers(what, cluster));
  journal.note("the workers have stopped");
  const objects = await collected(cluster, options.collectMs, signal);
  const ownEnds = [...cluster.parts.values()].flatMap((part) => part.ownEnds);
  return { ...database, objects, remains, ownEnds, seen };
}

/** Begins each at its moment; what it throws is a problem. */
function operateAll(world: World, plan: Plan, journal: Journal) {
  const open = new Set(plan.operations.map(({ id, kind }) => `${id} (${kind})`));
  const begun = Date.now();
  const one = async (operation: Plan["operations"][number]) => {
    const name = `${operation.id} (${operation.kind})`;
    try {
      await sleep(Math.max(0, begun + operation.at - Date.now()), undefined, { signal: world.signal });
      journal.note(`begins: ${name}`);
      await operate(world, operation);
      open.delete(name);
      journal.note(`done:   ${name}`);
    } catch (error) {
      if (world.signal.aborted) return;
      open.delete(name);
      const text = `operation ${name}: ${error instanceof Error ? `${error.name}: ${error.message}` : error}`;
      journal.note(text);
      world.seen.problems.push(text);
    }
  };
  return { open, done: Promise.all(plan.operations.map(one)) };
}

async function sampleLoop(cluster: Cluster, seen: Seen, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    // The driver's own connection breaks with the server.
    seen.samples.push(...(await sampleLanes(cluster.db).catch(() => [])));
    await sleep(sampleEveryMs, undefined, { signal }).catch(() => undefined);
  }
}

/** The database when every run has ended or waits for what is not there, or when that does not come. */
async function quiet(cluster: Cluster, limitMs: number, signal: AbortSignal): Promise<DatabaseFacts> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const facts = await readFacts(cluster.db);
    const { runs } = facts;
    const unended = { ...facts, runs: runs.filter(({ status }) => status !== "failed") };
    const busy = noRunLost.check({ ...unended, ...nothingElse });
    if (busy.length === 0 || Date.now() > deadline) return facts;
    await sleep(quietPollMs, undefined, { signal });
  }
}

const nothingElse = {
  objects: { referenced: [], stored: [] },
  remains: [],
  ownEnds: [],
  seen: new Seen(),
};

/** Redis, PostgreSQL and the other processes are there still, on purpose, and so is the store's mount. */
function isOfWorkers(what: string, cluster: Cluster): boolean {
  const names = [...cluster.parts.keys()].filter((name) => name.startsWith("worker"));
  if (what.startsWith("process ") || what.startsWith("mount "))
    return names.some((name) => what.includes(`${cluster.folder}/${name}/`));
  return true;
}

/** What is stored and what is referred to, when the two are the same, or when that does not come. */
async function collected(cluster: Cluster, limitMs: number, signal: AbortSignal): Promise<Facts["objects"]> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const [referenced, stored] = await Promise.all([readReferenced(cluster.db), cluster.store.stored()]);
    const isSame =
      new Set(referenced).size === stored.length && stored.every((digest) => referenced.includes(digest));
    if (isSame || Date.now() > deadline) return { referenced, stored };
    await sleep(quietPollMs, undefined, { signal });
  }
}

function summaryOf(plan: Plan, seen: Seen, facts: Facts | undefined): string {
  const count = (list: readonly { readonly kind: string }[]) =>
    [...Map.groupBy(list, ({ kind }) => kind)].map(([kind, some]) => `${kind} ${some.length}`).join(", ");
  const statuses = [...Map.groupBy(facts?.runs ?? [], ({ status }) => status)].map(
    ([status, some]) => `${some.length} ${status}`,
  );
  const kinds = Map.groupBy(facts?.events ?? [], ({ kind }) => kind);
  const times = (kind: string) => kinds.get(kind)?.length ?? 0;
  return [
    `seed ${plan.seed}, ${plan.durationMs / 1000} s, store ${plan.store}`,
    `faults: ${count(plan.faults) || "none"}`,
    `operations: ${count(plan.operations)}`,
    `requests: ${seen.counts.answered} answered, ${seen.counts.retried} repeated`,
    `runs: ${statuses.join(", ") || "none"}; ${facts?.events.length ?? 0} events`,
    `leases ${times("run_lease.leased")}, lost ${times("run_lease.lost_requeued") + times("run_lease.lost_failed") + times("run_lease.abandoned_requeued")}, parked ${times("run.parked")}`,
    `${seen.inputs.length} inputs, ${seen.completions.length} completions, ${seen.files.length} saved files, ${seen.follows.length} followers`,
  ].join("\n");
}
