/**
 * noteWaitingForCapacity: queued runs that no worker of their group takes say why, in their events and for `helmr run get`.
 *
 *   no_workers        the group has no worker that takes work
 *   architecture      none has the processor that the images were built for
 *   too_large         none can ever have room for it
 *   busy              some can, none has room now; said of the first runs of each kind only, after a while
 *
 * Runs are looked at by what they need: all that need the same of the same group have the same reason, so the work grows with the
 * kinds of runs, not with their number (index runs_waiting). A reason is said again only after another one, or another attempt.
 * That no worker can restore a checkpoint is said by noteUnresumable (../waits/unresumable.ts).
 */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { appendRunEvents } from "../events.ts";
import type { RunRef } from "../runs/finish.ts";
import { freeOf, heldByWorker, unlimited } from "./capacity.ts";

export type WaitingReason = "no_workers" | "architecture" | "too_large" | "busy";

/** What runs of one group need alike. */
interface Need {
  readonly worker_group_id: string;
  readonly group_name: string;
  readonly cpu: number;
  readonly memory_mib: number;
  readonly disk_mib: number;
  /** Empty: any. */
  readonly architecture: string;
}

/** An active worker: all that it may hold, and what of it is free. */
interface Supply {
  readonly worker_group_id: string;
  readonly architecture: string | null;
  readonly cpu: number;
  readonly memory_mib: number;
  readonly disk_mib: number;
  readonly slots: number;
  readonly free_cpu: number;
  readonly free_memory_mib: number;
  readonly free_disk_mib: number;
  readonly free_slots: number;
}

export interface NoteWaiting {
  /** Runs noted at a time, and `busy` ones of each kind altogether. */
  readonly limit: number;
  /** Due for so long. */
  readonly afterMs: number;
  /** The same for `busy`. */
  readonly busyAfterMs: number;
}

/** Kinds of needs and workers looked at: more than that, and those beyond are not explained. */
const maxNeeds = 1000;
const maxWorkers = 10_000;

/** Returns the runs that were noted, for hints. */
export async function noteWaitingForCapacity(db: Queryable, input: NoteWaiting): Promise<RunRef[]> {
  const needs = await readNeeds(db);
  if (needs.length === 0) return [];
  const supplies = await readSupplies(db, [...new Set(needs.map((need) => need.worker_group_id))]);
  const noted: RunRef[] = [];
  for (const need of needs) {
    if (noted.length >= input.limit) break;
    const ofGroup = supplies.filter((supply) => supply.worker_group_id === need.worker_group_id);
    const reason = reasonOf(need, ofGroup);
    if (reason === undefined) continue;
    noted.push(...(await note(db, input, need, reason, ofGroup)));
  }
  return noted;
}

/** Undefined: some worker has room now, and it is something else that the runs wait for. */
function reasonOf(need: Need, supplies: readonly Supply[]): WaitingReason | undefined {
  if (supplies.length === 0) return "no_workers";
  const able = supplies.filter((each) => need.architecture === "" || each.architecture === need.architecture);
  if (able.length === 0) return "architecture";
  const large = able.filter(
    (each) => each.cpu >= need.cpu && each.memory_mib >= need.memory_mib && each.disk_mib >= need.disk_mib,
  );
  if (large.length === 0) return "too_large";
  const hasRoom = large.some(
    (each) =>
      each.free_slots > 0 &&
      each.free_cpu >= need.cpu &&
      each.free_memory_mib >= need.memory_mib &&
      each.free_disk_mib >= need.disk_mib,
  );
  return hasRoom ? undefined : "busy";
}

async function readNeeds(db: Queryable): Promise<Need[]> {
  const key = sql`r.worker_group_id, r.needs_cpu, r.needs_memory_mib, r.needs_disk_mib, coalesce(r.needs_architecture, '')`;
  const { rows } = await sql<Need>`
    with recursive needs as (
      (select ${key}, 1 as n from runs r where r.status = 'queued' order by ${key} limit 1)
      union all
      select f.*, l.n + 1 from needs l (worker_group_id, cpu, memory_mib, disk_mib, architecture, n) cross join lateral (
        select ${key} from runs r where r.status = 'queued'
          and (${key}) > (l.worker_group_id, l.cpu, l.memory_mib, l.disk_mib, l.architecture)
        order by ${key} limit 1) f
      where l.n < ${sql.lit(maxNeeds)}
    )
    select l.worker_group_id, l.cpu, l.memory_mib, l.disk_mib, l.architecture, g.name as group_name
    from needs l (worker_group_id, cpu, memory_mib, disk_mib, architecture, n)
    join worker_groups g on g.id = l.worker_group_id`.execute(db);
  return rows;
}

async function readSupplies(db: Queryable, groupIds: readonly string[]): Promise<Supply[]> {
  const none = sql`(select 0 as cpu, 0 as memory_mib, 0 as disk_mib, 0 as slots)`;
  const all = (name: Parameters<typeof freeOf>[0]) => sql`(select ${freeOf(name)} from ${none} h)`;
  const { rows } = await sql<Supply>`
    select i.worker_group_id, i.capabilities->>'architecture' as architecture, ${all("cpu")} as cpu,
      ${all("memory_mib")} as memory_mib, ${all("disk_mib")} as disk_mib, ${all("slots")} as slots,
      ${freeOf("cpu")} as free_cpu, ${freeOf("memory_mib")} as free_memory_mib, ${freeOf("disk_mib")} as free_disk_mib,
      case when i.capacity ? 'slots' then ${freeOf("slots")}
        else greatest(0, coalesce((i.capacity->>'runs')::bigint, 1) - h.slots) end as free_slots
    from worker_instances i cross join lateral ${heldByWorker} h
    where i.worker_group_id = any (${groupIds}::uuid[]) and i.state = 'active' limit ${sql.lit(maxWorkers)}`.execute(
    db,
  );
  return rows;
}

async function note(
  db: Queryable,
  { limit, afterMs, busyAfterMs }: NoteWaiting,
  need: Need,
  reason: WaitingReason,
  supplies: readonly Supply[],
): Promise<RunRef[]> {
  const since = reason === "busy" ? busyAfterMs : afterMs;
  const same = sql`r.status = 'queued' and r.worker_group_id = ${need.worker_group_id} and r.needs_cpu = ${need.cpu}
    and r.needs_memory_mib = ${need.memory_mib} and r.needs_disk_mib = ${need.disk_mib}
    and coalesce(r.needs_architecture, '') = ${need.architecture}
    and r.available_at <= now() - ${since}::float8 * interval '1 millisecond'`;
  // Of a backlog that only waits for its turn not every run gets an event.
  const room = reason === "busy" ? await countFree(db, need, limit) : limit;
  if (room === 0) return [];
  const attributes = attributesOf(need, reason, supplies);
  return await transaction(db, async (tx) => {
    const { rows } = await sql<RunRef>`
      select r.id as "runId", r.environment_id as "environmentId", r.session_id as "sessionId" from runs r
      where ${same} and r.waiting_reason is distinct from ${reason}
      order by r.available_at, r.id limit ${room}::integer for update skip locked`.execute(tx);
    for (const { runId } of rows) {
      await sql`update runs set waiting_reason = ${reason} where id = ${runId}`.execute(tx);
      const severity = reason === "busy" ? "info" : "warn";
      await appendRunEvents(tx, runId, [{ kind: "run.waiting_for_capacity", severity, attributes }]);
    }
    return rows;
  });
}

/** How many more of these runs may say that all workers are busy. */
async function countFree(db: Queryable, need: Need, limit: number): Promise<number> {
  const { rows } = await sql<{ noted: number }>`
    select count(*) as noted from (select from runs r where r.status = 'queued'
      and r.worker_group_id = ${need.worker_group_id} and r.needs_cpu = ${need.cpu}
      and r.needs_memory_mib = ${need.memory_mib} and r.needs_disk_mib = ${need.disk_mib}
      and coalesce(r.needs_architecture, '') = ${need.architecture} and r.waiting_reason = 'busy'
      limit ${limit}::integer) n`.execute(db);
  return Math.max(0, limit - (rows[0]?.noted ?? 0));
}

const resources = ["cpu", "memory_mib", "disk_mib"] as const;

function attributesOf(
  need: Need,
  reason: WaitingReason,
  supplies: readonly Supply[],
): Record<string, unknown> {
  const group = need.group_name;
  const needed = {
    cpu: need.cpu,
    memory_mib: need.memory_mib,
    disk_mib: need.disk_mib,
    ...(need.architecture === "" ? {} : { architecture: need.architecture }),
  };
  // What no worker limits is not said.
  const best = (prefix: "" | "free_") =>
    Object.fromEntries(
      resources
        .map((name) => [name, Math.max(...supplies.map((each) => each[`${prefix}${name}`]))] as const)
        .filter(([, amount]) => amount < unlimited),
    );
  const messages: Record<WaitingReason, string> = {
    no_workers: `the worker group ${group} has no active worker; start one, or undrain one`,
    architecture: `no active worker of the group ${group} is ${need.architecture}, for which the deployment's images were built`,
    too_large: `no active worker of the group ${group} can have room for the run's sandbox: ask for less, or add a larger worker`,
    busy: `no worker of the group ${group} has room for the run now; it starts when one has`,
  };
  return {
    message: messages[reason],
    reason,
    worker_group: group,
    needed,
    ...(supplies.length === 0 ? {} : { best_available: best(reason === "busy" ? "free_" : "") }),
  };
}
