/**
 * Artifacts that something referred to that is gone: sources of deployments, checkpoints of runs, versions of workspaces.
 *
 *   -         -> noted   with what referred to it, in its transaction
 *   noted     -> -       when the grace period is over: removed from the store unless something refers to it again
 *
 * S1 An artifact is removed only while its digest's lock is held and nothing refers to it; who makes a deployment takes the
 *    same lock and makes sure under it that the source is still stored. A checkpoint's digest never comes again: it is
 *    encrypted with a nonce of its own. Who saves a workspace reserves what it is about to store or to refer to, under the
 *    shared lock (../workspaces/reservations.ts).
 * S2 The note goes after the artifact: a crash in between removes it once more, which changes nothing. Only the note that
 *    was there before the look for references goes: one that was made since may be of a reference that was still seen.
 * S3 The grace period is for who reads it just now: a worker that fetches a checkpoint or a source.
 */
import { type RawBuilder, sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";

/** The insert as a fragment; `digests` is a select of one column. */
export function discardArtifacts(digests: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`insert into discarded_artifacts (digest) ${digests}
    on conflict (digest) do update set discarded_at = clock_timestamp()`;
}

export interface RemoveDiscarded {
  readonly limit: number;
  /** S3 */
  readonly graceMs: number;
  /** Deletes from the store; must succeed for what is not there. */
  readonly remove: (digest: string) => Promise<void>;
}

/** Remove up to `limit` noted artifacts that nothing refers to; resolves to how many notes were dealt with. */
export async function removeDiscardedArtifacts(
  db: Queryable,
  { limit, graceMs, remove }: RemoveDiscarded,
): Promise<number> {
  const { rows } = await sql<{ digest: string; noted: string }>`select digest, discarded_at::text as noted
    from discarded_artifacts
    where discarded_at <= now() - ${graceMs}::float8 * interval '1 millisecond'
    order by discarded_at limit ${limit}::integer`.execute(db);
  for (const { digest, noted } of rows) {
    await transaction(db, async (tx) => {
      await lockArtifact(tx, digest);
      if (!(await isReferredTo(tx, digest))) await remove(digest);
      await sql`delete from discarded_artifacts where digest = ${digest} and discarded_at = ${noted}::timestamptz`.execute(
        tx,
      );
    });
  }
  return rows.length;
}

/** Runs the work while nobody removes the artifact, or waits for whoever does (S1). */
export async function withArtifactLock(
  db: Queryable,
  digest: string,
  work: () => Promise<void>,
): Promise<void> {
  await transaction(db, async (tx) => {
    await lockArtifact(tx, digest);
    await work();
  });
}

/** One snapshot: what gives up one reference for another in one transaction is always found. */
export async function isReferredTo(tx: Tx, digest: string): Promise<boolean> {
  const { rows } = await sql`select from deployments where source_digest = ${digest}
    union all select from run_checkpoints where artifact_digest = ${digest}
    union all select from workspace_version_artifacts where digest = ${digest}
    union all select from artifact_reservations where digest = ${digest} limit 1`.execute(tx);
  return rows.length > 0;
}

/** S1: until the transaction ends, and not while another one removes it. */
export async function lockArtifacts(tx: Tx, sortedDigests: readonly string[]): Promise<void> {
  await sql`select pg_advisory_xact_lock_shared(hashtextextended('artifact ' || d, 0))
    from unnest(${sortedDigests}::text[]) d`.execute(tx);
}

/** S1: until the transaction ends. */
export async function lockArtifact(tx: Tx, digest: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`artifact ${digest}`}, 0))`.execute(tx);
}
