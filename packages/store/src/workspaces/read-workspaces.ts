/** Reading workspaces and their versions (contract 7.1, 7.7). */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import type { WorkspaceState, WorkspaceVersionKind } from "../schema-workspaces.ts";
import type { Scope } from "../scope.ts";
import { type VersionRow, versionColumns, type WorkspaceRow, workspaceColumns } from "./lifecycle.ts";

/** Undefined when the scope has no such workspace. */
export async function getWorkspace(
  db: Queryable,
  scope: Scope,
  id: string,
): Promise<WorkspaceRow | undefined> {
  const { rows } = await sql<WorkspaceRow>`select ${workspaceColumns} from workspaces w
    where w.id = ${id} and w.environment_id = ${scope.environmentId}`.execute(db);
  return rows[0];
}

export interface WorkspaceFilter {
  /** Default: all but deleted ones. */
  readonly state?: WorkspaceState | undefined;
  readonly externalId?: string | undefined;
  readonly tag?: string | undefined;
  readonly limit: number;
}

/** Newest first. */
export async function listWorkspaces(
  db: Queryable,
  scope: Scope,
  filter: WorkspaceFilter,
): Promise<WorkspaceRow[]> {
  const conditions = [
    sql`w.environment_id = ${scope.environmentId}`,
    filter.state === undefined ? sql`w.state <> 'deleted'` : sql`w.state = ${filter.state}`,
    ...(filter.externalId === undefined ? [] : [sql`w.external_id = ${filter.externalId}`]),
    ...(filter.tag === undefined ? [] : [sql`w.tags @> ${[filter.tag]}::text[]`]),
  ];
  const { rows } = await sql<WorkspaceRow>`select ${workspaceColumns} from workspaces w
    where ${sql.join(conditions, sql` and `)}
    order by w.created_at desc, w.id desc limit ${filter.limit}::integer`.execute(db);
  return rows;
}

/** Undefined when the scope has no such version of that workspace. */
export async function getVersion(
  db: Queryable,
  scope: Scope,
  workspaceId: string,
  versionId: string,
): Promise<VersionRow | undefined> {
  const { rows } = await sql<VersionRow>`select ${versionColumns} from workspace_versions v
    where v.id = ${versionId} and v.workspace_id = ${workspaceId} and v.environment_id = ${scope.environmentId}`.execute(
    db,
  );
  return rows[0];
}

/** Of a version that a claim named; undefined when there is no such version. */
export async function readManifestDigest(db: Queryable, versionId: string): Promise<string | undefined> {
  const { rows } = await sql<{ manifest_digest: string }>`select manifest_digest from workspace_versions
    where id = ${versionId}`.execute(db);
  return rows[0]?.manifest_digest;
}

export interface VersionFilter {
  readonly kind?: WorkspaceVersionKind | undefined;
  readonly limit: number;
}

/** Newest first. */
export async function listVersions(
  db: Queryable,
  scope: Scope,
  workspaceId: string,
  { kind, limit }: VersionFilter,
): Promise<VersionRow[]> {
  const ofKind = kind === undefined ? sql`` : sql`and v.kind = ${kind}`;
  const { rows } = await sql<VersionRow>`select ${versionColumns} from workspace_versions v
    where v.workspace_id = ${workspaceId} and v.environment_id = ${scope.environmentId} ${ofKind}
    order by v.created_at desc, v.id desc limit ${limit}::integer`.execute(db);
  return rows;
}

/**
 * Keep what the version has until `releaseReservations`, for who reads it for longer than the grace period of removed
 * artifacts. False when it is gone.
 */
export async function reserveVersion(db: Queryable, versionId: string, leaseId: string): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql`select from workspace_versions where id = ${versionId} for key share`.execute(
      tx,
    );
    if (rows.length === 0) return false;
    await sql`insert into artifact_reservations (lease_id, digest)
      select ${leaseId}::uuid, digest from workspace_version_artifacts where version_id = ${versionId}
      on conflict do nothing`.execute(tx);
    return true;
  });
}
