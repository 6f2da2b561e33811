/**
 * What of a worker is free, and how claims keep to it (W5 of lifecycle.ts).
 *
 * A claim reads the worker's offer, looks for work that fits, and takes it in one statement that also counts up the worker's
 * `claim_seq`, if that is still what the offer said: two claims that count on the same free capacity exclude each other, without
 * a lock that is held meanwhile. The one that comes second takes nothing, reads the offer again and tries anew.
 *
 * Beside it (strategies that lost): a sum in the claim's own statement sees the snapshot of its start, and two claims at once
 * give the last slot twice; a lock of the worker's row before it makes every claim a transaction of four round trips.
 */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "../database.ts";

/** What a worker can take now. */
export interface WorkerOffer {
  readonly workerGroupId: string;
  readonly architecture: string | null;
  readonly freeCpu: number;
  readonly freeMemoryMib: number;
  readonly freeDiskMib: number;
  readonly freeSlots: number;
  readonly claimSeq: number;
}

/** Where nothing is enforced: more than any sandbox may ask for (catalog.ts), and an integer. */
export const unlimited = 2_000_000_000;

/**
 * Of worker `i`: what its leased runs and its live copies of their own hold. Copies that are guests of runs are those runs'.
 */
export const heldByWorker = sql`(
  select coalesce(sum(n.needs_cpu), 0)::bigint as cpu, coalesce(sum(n.needs_memory_mib), 0)::bigint as memory_mib,
    coalesce(sum(n.needs_disk_mib), 0)::bigint as disk_mib, count(*) as slots
  from (
    select r.needs_cpu, r.needs_memory_mib, r.needs_disk_mib from runs r
    where r.worker_instance_id = i.id and r.lease_id is not null
    union all
    select m.needs_cpu, m.needs_memory_mib, m.needs_disk_mib from workspace_materializations m
    where m.worker_instance_id = i.id and m.ended_at is null and m.run_id is null and m.state <> 'requested') n)`;

/** Of worker `i`, with what it holds as `h`: one of its numbers, as far as it is enforced. */
export function freeOf(name: "cpu" | "memory_mib" | "disk_mib" | "slots"): RawBuilder<number> {
  const total = sql`(i.capacity->>${sql.lit(name)})::bigint`;
  return sql<number>`case when i.capacity ? 'slots' and ${total} is not null
    then greatest(0, ${total} - h.${sql.ref(name)}) else ${sql.lit(unlimited)} end`;
}

/** Undefined when the worker takes nothing: it is draining, or not there. */
export async function readOffer(db: Queryable, workerInstanceId: string): Promise<WorkerOffer | undefined> {
  const { rows } = await sql<WorkerOffer>`
    select i.worker_group_id as "workerGroupId", i.capabilities->>'architecture' as architecture,
      i.claim_seq as "claimSeq", ${freeOf("cpu")} as "freeCpu", ${freeOf("memory_mib")} as "freeMemoryMib",
      ${freeOf("disk_mib")} as "freeDiskMib", ${freeOf("slots")} as "freeSlots"
    from worker_instances i cross join lateral ${heldByWorker} h
    where i.id = ${workerInstanceId} and i.state <> 'draining'`.execute(db);
  return rows[0];
}

/** An offer as parts of a claim's statement: its parameters, or values written into it. */
export type OfferSql = { readonly [Name in keyof WorkerOffer]: RawBuilder<unknown> };

export function offerSql(offer: WorkerOffer): OfferSql {
  return offerParameters((name) => sql`${offer[name]}`);
}

/** The same of a statement's named parameters. */
export function offerParameters(p: (name: keyof WorkerOffer) => RawBuilder<unknown>): OfferSql {
  return {
    workerGroupId: sql`${p("workerGroupId")}::uuid`,
    architecture: sql`${p("architecture")}::text`,
    freeCpu: sql`${p("freeCpu")}::bigint`,
    freeMemoryMib: sql`${p("freeMemoryMib")}::bigint`,
    freeDiskMib: sql`${p("freeDiskMib")}::bigint`,
    freeSlots: sql`${p("freeSlots")}::bigint`,
    claimSeq: sql`${p("claimSeq")}::bigint`,
  };
}

/** The run or live copy `alias` is of the offer's group, and would fit alone. */
export function fitsOffer(alias: "r" | "m", offer: OfferSql): RawBuilder<boolean> {
  const column = (name: string) => sql.ref(`${alias}.${name}`);
  return sql<boolean>`${column("worker_group_id")} = ${offer.workerGroupId}
    and ${column("needs_cpu")} <= ${offer.freeCpu} and ${column("needs_memory_mib")} <= ${offer.freeMemoryMib}
    and ${column("needs_disk_mib")} <= ${offer.freeDiskMib}
    and (${column("needs_architecture")} is null or ${column("needs_architecture")} = ${offer.architecture})`;
}

/**
 * Of CTE `from`, with id and needs: the ids of the first rows in `order` that fit together. The first one does (fitsOffer), so
 * that a large one is not passed over for ever.
 */
export function fittingTogether(
  from: string,
  order: RawBuilder<unknown>,
  offer: OfferSql,
): RawBuilder<unknown> {
  return sql`select f.id from (
      select x.id, sum(x.needs_cpu) over w as cpu, sum(x.needs_memory_mib) over w as memory_mib,
        sum(x.needs_disk_mib) over w as disk_mib, row_number() over w as slots
      from ${sql.ref(from)} x window w as (order by ${order} rows unbounded preceding)) f
    where f.cpu <= ${offer.freeCpu} and f.memory_mib <= ${offer.freeMemoryMib} and f.disk_mib <= ${offer.freeDiskMib}
      and f.slots <= ${offer.freeSlots}`;
}

/** The update that makes a claim the only one of its offer, when CTE `chosen` has rows. Returns a row when it is. */
export function countClaim(workerInstanceId: RawBuilder<unknown>, offer: OfferSql): RawBuilder<unknown> {
  return sql`update worker_instances set claim_seq = claim_seq + 1
    where id = ${workerInstanceId} and claim_seq = ${offer.claimSeq} and exists (select from chosen) returning id`;
}

/** Whether work was found and the offer did not count any more. */
export const claimLost = sql<boolean>`exists (select from chosen) and not exists (select from counted)`;

/** Nothing, when other claims of the worker came first again and again: they took what there was. */
export function noneWhenLost<T>(error: unknown): T[] {
  if (error instanceof ClaimLostError) return [];
  throw error;
}

export class ClaimLostError extends Error {
  constructor() {
    super("another claim of the same worker came first");
    this.name = "ClaimLostError";
  }
}

export function isClaimLost(error: unknown): boolean {
  return error instanceof ClaimLostError;
}
