/**
 * Reservations: artifacts that somebody is about to store, or found stored and is about to refer to (W2).
 *
 *   -         -> reserved   reserveArtifacts, before the look whether it is stored
 *   reserved  -> -          the version that has it is recorded; releaseReservations; sweepReservations, when the lease is
 *                           over and the reservation is old
 *
 * A reservation keeps its artifact (deletion/artifacts.ts): it is made under the lock that a removal holds, so a holder that
 * finds the artifact stored afterwards finds it stored until it gives the reservation back.
 */
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { discardArtifacts, lockArtifacts } from "../deletion/artifacts.ts";
import type { LeaseRef } from "../runs/finish.ts";

/** Each takes a place in the server's table of locks until the transaction ends. */
const digestsPerTransaction = 100;

/**
 * Reserve for `leaseId`: of a run, a live copy, or a random one of an upload or a download of this process. Already
 * reserved ones stay so.
 */
export async function reserveArtifacts(
  db: Queryable,
  leaseId: string,
  digests: readonly string[],
): Promise<void> {
  const sorted = [...new Set(digests)].sort();
  for (let at = 0; at < sorted.length; at += digestsPerTransaction) {
    const page = sorted.slice(at, at + digestsPerTransaction);
    await transaction(db, async (tx) => {
      await lockArtifacts(tx, page);
      await sql`insert into artifact_reservations (lease_id, digest)
        select ${leaseId}::uuid, d from unnest(${page}::text[]) d on conflict do nothing`.execute(tx);
    });
  }
}

/** Whether the worker has this lease: a run's, or a live copy's. */
export async function isLeaseHeld(db: Queryable, lease: LeaseRef): Promise<boolean> {
  const { rows } = await sql`
    select from runs where lease_id = ${lease.leaseId} and fencing = ${lease.fencing}
      and worker_instance_id = ${lease.workerInstanceId}
    union all
    select from workspace_materializations where lease_id = ${lease.leaseId} and ended_at is null and run_id is null
      and fencing_generation = ${lease.fencing} and worker_instance_id = ${lease.workerInstanceId}`.execute(
    db,
  );
  return rows.length > 0;
}

/** The lease needs them no more; what nothing else refers to is removed later. */
export async function releaseReservations(db: Queryable, leaseId: string): Promise<void> {
  await sql`with gone as (
      delete from artifact_reservations where lease_id = ${leaseId} returning digest
    ) ${discardArtifacts(sql`select digest from gone order by digest`)}`.execute(db);
}

/**
 * Those of `digests` that the lease had reserved: what refers to them comes in the same transaction. The others that it had
 * reserved (of an earlier version, of a save that failed) it needs no more.
 */
export async function takeReservations(
  tx: Tx,
  leaseId: string,
  digests: readonly string[],
): Promise<Set<string>> {
  const { rows } = await sql<{ digest: string }>`
    with gone as (
      delete from artifact_reservations where lease_id = ${leaseId} returning digest
    ), noted as (${discardArtifacts(sql`select digest from gone where digest <> all (${digests}::text[]) order by digest`)})
    select digest from gone where digest = any (${digests}::text[])`.execute(tx);
  return new Set(rows.map(({ digest }) => digest));
}

export interface SweepReservations {
  readonly limit: number;
  /** Younger ones stay: an upload or a download of a control plane has a lease that nobody else knows. */
  readonly olderThanMs: number;
}

/** Give back up to `limit` reservations of leases that are over; returns how many. */
export async function sweepReservations(
  db: Queryable,
  { limit, olderThanMs }: SweepReservations,
): Promise<number> {
  const { rows } = await sql<{ gone: number }>`
    with gone as (
      delete from artifact_reservations where ctid = any (array(
        select r.ctid from artifact_reservations r
        where r.created_at <= now() - ${olderThanMs}::float8 * interval '1 millisecond'
          and (select a.id from runs a where a.lease_id = r.lease_id) is null
          and (select m.id from workspace_materializations m where m.lease_id = r.lease_id and m.ended_at is null
            and m.run_id is null) is null
        limit ${limit}::integer for update skip locked))
      returning digest
    ), noted as (${discardArtifacts(sql`select distinct digest from gone order by digest`)})
    select count(*) as gone from gone`.execute(db);
  return rows[0]?.gone ?? 0;
}
