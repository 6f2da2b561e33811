/** recordVersion: a worker has saved the files that it holds. */
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { appendRunEvents } from "../events.ts";
import { jsonbText } from "../json.ts";
import type { LeaseRef } from "../runs/finish.ts";
import { insertVersion, noteUnreserved, takeArtifacts } from "./insert-version.ts";
import type { SavedTree } from "./lifecycle.ts";
import { pruneVersions } from "./prune-versions.ts";
import { takeReservations } from "./reservations.ts";

export interface RecordVersion extends LeaseRef {
  readonly reason: "run" | "stop" | "checkpoint" | "request";
  readonly tree: SavedTree;
  /** What the files were restored from, or saved as before. */
  readonly parentVersionId?: string | undefined;
  /** The question that this answers. */
  readonly requestId?: string | undefined;
  /** For the run's event. */
  readonly skipped: readonly { readonly path: string; readonly kind: string }[];
  readonly timings: Readonly<Record<string, number>>;
  /** System versions that the workspace keeps. */
  readonly keepSystemVersions: number;
}

export type RecordedVersion =
  | { readonly status: "lost" }
  | {
      readonly status: "recorded" | "unchanged";
      readonly versionId: string;
      readonly manifestDigest: string;
      readonly workspaceId: string;
      /** Of a run's lease: it has a new event. */
      readonly runId?: string;
    };

interface Holder {
  readonly workspaceId: string;
  readonly runId?: string;
}

interface LockedWorkspace {
  readonly environment_id: string;
  readonly current_version_id: string | null;
  readonly content_digest: string | null;
  readonly manifest_digest: string | null;
  readonly has_parent: boolean;
}

/**
 * Record the saved tree as the workspace's current version, or answer the current one when it has the same content: so does
 * a repeated request. Throws `ArtifactsNotReservedError`.
 */
export async function recordVersion(db: Queryable, input: RecordVersion): Promise<RecordedVersion> {
  return await transaction(db, async (tx): Promise<RecordedVersion> => {
    const holder = await lockHolder(tx, input); // W4
    if (holder === undefined) return { status: "lost" };
    const workspace = await lockWorkspace(tx, holder.workspaceId, input.parentVersionId);
    if (workspace === undefined || !(await isStillHeld(tx, holder, input))) return { status: "lost" };
    const { current_version_id: current, manifest_digest: manifest } = workspace;
    const isSame =
      current !== null && manifest !== null && workspace.content_digest === input.tree.contentDigest;
    const saved = isSame
      ? { versionId: current, manifestDigest: manifest }
      : await insert(tx, holder, workspace, input);
    if (isSame) await keepCurrent(tx, holder.workspaceId, saved.versionId, input);
    if (input.requestId !== undefined) await answerRequest(tx, holder, input.requestId, saved.versionId);
    return { status: isSame ? "unchanged" : "recorded", ...saved, ...holder };
  }).catch(noteUnreserved(db));
}

/** The run stays locked; a live copy's row is locked after its workspace (W1), by `isStillHeld`. */
async function lockHolder(tx: Tx, lease: LeaseRef): Promise<Holder | undefined> {
  const { rows } = await sql<{ id: string; workspace_id: string }>`select r.id, r.workspace_id from runs r
    where r.lease_id = ${lease.leaseId} and r.fencing = ${lease.fencing}
      and r.worker_instance_id = ${lease.workerInstanceId} for no key update`.execute(tx);
  const run = rows[0];
  if (run !== undefined) return { workspaceId: run.workspace_id, runId: run.id };
  const { rows: copies } = await sql<{ workspace_id: string }>`select m.workspace_id
    from workspace_materializations m where m.lease_id = ${lease.leaseId} and m.ended_at is null and m.run_id is null`.execute(
    tx,
  );
  return copies[0] && { workspaceId: copies[0].workspace_id };
}

async function lockWorkspace(
  tx: Tx,
  id: string,
  parentVersionId: string | undefined,
): Promise<LockedWorkspace | undefined> {
  // First the lock, then what it protects: a statement that waited for it would see what was before.
  await sql`select from workspaces where id = ${id} for no key update`.execute(tx);
  const { rows } = await sql<LockedWorkspace>`
    select w.environment_id, w.current_version_id, v.content_digest, v.manifest_digest,
      exists (select from workspace_versions p where p.id = ${parentVersionId ?? null}::uuid and p.workspace_id = w.id)
        as has_parent
    from workspaces w left join workspace_versions v on v.id = w.current_version_id where w.id = ${id}`.execute(
    tx,
  );
  return rows[0];
}

/** Locks the live copy that has the workspace, if there is one, and counts the save. */
async function isStillHeld(tx: Tx, holder: Holder, lease: LeaseRef): Promise<boolean> {
  const counted = sql`update workspace_materializations set dirty_generation = dirty_generation + 1, updated_at = now()
    where workspace_id = ${holder.workspaceId} and ended_at is null`;
  if (holder.runId !== undefined) {
    await sql`${counted} and run_id = ${holder.runId}`.execute(tx);
    return true;
  }
  const { numAffectedRows = 0n } = await sql`${counted} and run_id is null and lease_id = ${lease.leaseId}
    and fencing_generation = ${lease.fencing} and worker_instance_id = ${lease.workerInstanceId}`.execute(tx);
  return numAffectedRows > 0n;
}

async function insert(tx: Tx, holder: Holder, workspace: LockedWorkspace, input: RecordVersion) {
  const { tree } = input;
  const current = workspace.current_version_id ?? undefined;
  const parentVersionId = workspace.has_parent ? input.parentVersionId : current;
  const artifacts = [...new Set([tree.manifestDigest, ...tree.artifacts])];
  await takeArtifacts(tx, artifacts, { leaseId: input.leaseId, inherit: parentVersionId });
  const version = await insertVersion(
    tx,
    {
      workspaceId: holder.workspaceId,
      environmentId: workspace.environment_id,
      parentVersionId,
      reason: input.reason,
      runId: holder.runId,
      message: await messageOf(tx, holder, input.requestId),
      tree,
    },
    artifacts,
  );
  await pruneVersions(tx, holder.workspaceId, input.keepSystemVersions);
  if (holder.runId !== undefined) await appendRunEvents(tx, holder.runId, [savedEvent(version.id, input)]);
  return { versionId: version.id, manifestDigest: version.manifest_digest };
}

function savedEvent(versionId: string, { reason, tree, skipped, timings }: RecordVersion) {
  const attributes = {
    workspace_version_id: versionId,
    reason,
    entry_count: tree.entryCount,
    size_bytes: tree.sizeBytes,
    ...(skipped.length === 0 ? {} : { skipped }),
    timings_ms: timings,
  };
  return { kind: "run.workspace_saved", attributes };
}

/** Saved already. What was reserved to save it again is given back; what somebody asked to save is theirs from now on. */
async function keepCurrent(tx: Tx, workspaceId: string, versionId: string, input: RecordVersion) {
  await takeReservations(tx, input.leaseId, []);
  await sql`update workspaces set dirty_state = 'clean', last_activity_at = now(), updated_at = now()
    where id = ${workspaceId}`.execute(tx);
  if (input.reason !== "request") return;
  const message = await messageOf(tx, { workspaceId }, input.requestId);
  await sql`update workspace_versions set kind = 'user', message = coalesce(${message ?? null}, message)
    where id = ${versionId}`.execute(tx);
}

/** What the one who asked said about it. */
async function messageOf(
  tx: Tx,
  { workspaceId }: Holder,
  requestId: string | undefined,
): Promise<string | undefined> {
  if (requestId === undefined) return undefined;
  const { rows } = await sql<{ message: string | null }>`select q.params->>'message' as message
    from workspace_requests q join workspace_materializations m on m.id = q.materialization_id
    where q.id = ${requestId} and m.workspace_id = ${workspaceId}`.execute(tx);
  return rows[0]?.message ?? undefined;
}

async function answerRequest(tx: Tx, { workspaceId }: Holder, requestId: string, versionId: string) {
  await sql`update workspace_requests q set status = 'done', result = ${jsonbText({ version_id: versionId })}::jsonb
    from workspace_materializations m where q.id = ${requestId} and q.status = 'pending'
      and m.id = q.materialization_id and m.workspace_id = ${workspaceId}`.execute(tx);
}
