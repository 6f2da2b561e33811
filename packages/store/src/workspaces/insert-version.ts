/** The rows of a new version, which becomes the workspace's current one. */
import { sql } from "kysely";
import type { Queryable, Tx } from "../database.ts";
import { discardArtifacts, isReferredTo, lockArtifacts } from "../deletion/artifacts.ts";
import { uuidv7 } from "../ids.ts";
import type { WorkspaceVersionReason } from "../schema-workspaces.ts";
import { type SavedTree, type VersionRow, versionColumns, versionKind } from "./lifecycle.ts";
import { takeReservations } from "./reservations.ts";

/** Artifacts that are neither reserved by the lease nor referred to by anything: they may be gone already (W2). */
export class ArtifactsNotReservedError extends Error {
  override readonly name = "ArtifactsNotReservedError";
  readonly digests: readonly string[];
  constructor(digests: readonly string[]) {
    super(
      `${digests.length} artifacts of the version are not reserved and nothing refers to them, the first is ` +
        `${digests[0]}: reserve them, make sure that they are stored, and record the version again`,
    );
    this.digests = digests;
  }
}

/** For `catch`: they are noted, so that what of them is stored does not stay forever, and the error goes on. */
export function noteUnreserved(db: Queryable): (error: unknown) => Promise<never> {
  return async (error) => {
    if (error instanceof ArtifactsNotReservedError) {
      await discardArtifacts(sql`select d from unnest(${[...error.digests].sort()}::text[]) d`).execute(db);
    }
    throw error;
  };
}

/** Looked at one by one, each with a place in the server's table of locks: who names more has to reserve them, in pages. */
const maxLooked = 100;

export interface NewVersion {
  readonly workspaceId: string;
  readonly environmentId: string;
  readonly parentVersionId: string | undefined;
  readonly reason: WorkspaceVersionReason;
  readonly runId?: string | undefined;
  readonly message?: string | undefined;
  readonly tree: Omit<SavedTree, "artifacts">;
}

/** W2: of a locked workspace; `inherit` is a version of a locked workspace. Throws `ArtifactsNotReservedError`. */
export async function takeArtifacts(
  tx: Tx,
  digests: readonly string[],
  { leaseId, inherit }: { readonly leaseId: string; readonly inherit: string | undefined },
): Promise<void> {
  const reserved = await takeReservations(tx, leaseId, digests);
  const left = new Set(digests.filter((digest) => !reserved.has(digest)));
  if (left.size > 0 && inherit !== undefined) {
    const { rows } = await sql<{ digest: string }>`select digest from workspace_version_artifacts
      where version_id = ${inherit} and digest = any (${[...left]}::text[])`.execute(tx);
    for (const { digest } of rows) left.delete(digest);
  }
  if (left.size === 0) return;
  const sorted = [...left].sort();
  if (sorted.length > maxLooked) throw new ArtifactsNotReservedError(sorted);
  await lockArtifacts(tx, sorted);
  const missing: string[] = [];
  for (const digest of sorted) if (!(await isReferredTo(tx, digest))) missing.push(digest);
  if (missing.length > 0) throw new ArtifactsNotReservedError(missing);
}

/** `artifacts`: their digests, or the version that has the same. The workspace's row is locked (W1), and they are kept (W2). */
export async function insertVersion(
  tx: Tx,
  version: NewVersion,
  artifacts: readonly string[] | { readonly of: string },
): Promise<VersionRow> {
  const { tree } = version;
  const digests =
    "of" in artifacts
      ? sql`select digest from workspace_version_artifacts where version_id = ${artifacts.of}`
      : sql`select distinct d from unnest(${artifacts}::text[]) d`;
  // The time is that of the statement: versions of one workspace are in the order of its lock, not of their transactions.
  const { rows } = await sql<VersionRow>`
    with v as (
      insert into workspace_versions (id, environment_id, workspace_id, parent_version_id, kind, reason, run_id,
        manifest_digest, content_digest, artifact_encoding, artifact_entry_count, size_bytes, message, promoted_at,
        created_at)
      values (${uuidv7()}, ${version.environmentId}, ${version.workspaceId}, ${version.parentVersionId ?? null},
        ${versionKind(version.reason)}, ${version.reason}, ${version.runId ?? null}, ${tree.manifestDigest},
        ${tree.contentDigest}, ${tree.artifactEncoding}, ${tree.entryCount}, ${tree.sizeBytes},
        ${version.message ?? null}, clock_timestamp(), clock_timestamp())
      returning *
    ), kept as (
      insert into workspace_version_artifacts (version_id, digest) select v.id, d.digest from v, (${digests}) d (digest)
    ), promoted as (
      update workspaces set current_version_id = (select id from v), dirty_state = 'clean', last_activity_at = now(),
        updated_at = now() where id = ${version.workspaceId}
    )
    select ${versionColumns} from v`.execute(tx);
  const row = rows[0];
  if (row === undefined) throw new Error("a version was inserted and is not there");
  return row;
}
