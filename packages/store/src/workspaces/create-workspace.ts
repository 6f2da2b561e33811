/**
 * Making workspaces: of a deployed sandbox, or with the files of another one's version.
 *
 *   N1 One workspace per (environment, external id): the unique index decides.
 *   N2 One per idempotency key while the key lives: a try-lock on the key makes the second of two concurrent requests answer
 *      "pending" at once; the primary key decides what slips past it.
 *   N3 A cached answer needs the same parameters.
 */
import { createHash } from "node:crypto";
import { ApiError, canonicalJson, codedError } from "@helmr/api";
import { sql } from "kysely";
import { auditInsert, scopeIds } from "../audit.ts";
import { type Queryable, type Tx, transaction, violatedConstraint } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import type { ActingScope, Scope } from "../scope.ts";
import { insertVersion } from "./insert-version.ts";
import { type VersionRow, versionColumns, type WorkspaceRow, workspaceColumns } from "./lifecycle.ts";

export interface CreateWorkspace {
  readonly sandboxId: string;
  /** Default: the current deployment. */
  readonly deploymentId?: string | undefined;
  readonly externalId?: string | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tags: readonly string[];
  readonly idempotencyKey?: string | undefined;
  readonly idempotencyKeyTtlMs: number;
}

export interface CreatedWorkspace {
  readonly workspace: WorkspaceRow;
  /** An earlier request made it. */
  readonly cached: boolean;
}

const keyScopeName = "workspace.create";
const maxTries = 3;

/** The other of two requests took the key between our look-up and our insert. */
class KeyTakenError extends Error {
  override readonly name = "KeyTakenError";
}

/** Throws sandbox_not_deployed, idempotency_pending, idempotency_fingerprint_mismatch; 409 for a taken external id. */
export async function createWorkspace(
  db: Queryable,
  scope: ActingScope,
  request: CreateWorkspace,
): Promise<CreatedWorkspace> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await transaction(db, (tx) => createOnce(tx, scope, request)).catch(asAnswer);
    } catch (error) {
      if (!(error instanceof KeyTakenError) || tries >= maxTries) throw error;
    }
  }
}

interface CreateFacts {
  readonly environment_open: boolean;
  readonly locked: boolean;
  readonly key_fingerprint: Buffer | null;
  readonly key_workspace_id: string | null;
  readonly deployment_sandbox_id: string | null;
  readonly sandbox_fingerprint: string | null;
}

async function createOnce(tx: Tx, scope: ActingScope, request: CreateWorkspace): Promise<CreatedWorkspace> {
  const facts = await lookUp(tx, scope, request);
  if (!facts.environment_open) throw new ApiError(404, "environment not found");
  if (!facts.locked) throw codedError("idempotency_pending", "workspace_create_pending");
  const fingerprint = fingerprintOf(request);
  if (facts.key_workspace_id !== null) {
    if (facts.key_fingerprint?.equals(fingerprint) !== true) {
      throw codedError("idempotency_fingerprint_mismatch");
    }
    const { rows } = await sql<WorkspaceRow>`select ${workspaceColumns} from workspaces w
      where w.id = ${facts.key_workspace_id} and w.environment_id = ${scope.environmentId}`.execute(tx);
    if (rows[0] !== undefined) return { workspace: rows[0], cached: true };
  }
  if (facts.deployment_sandbox_id === null || facts.sandbox_fingerprint === null) {
    const where = request.deploymentId === undefined ? "the current deployment" : "that deployment";
    const message = `the sandbox is not in ${where}; deploy the project with it and promote the deployment`;
    throw codedError("sandbox_not_deployed", message);
  }
  const id = uuidv7();
  if (request.idempotencyKey !== undefined) await takeKey(tx, scope, request, fingerprint, id);
  const workspace = await insertWorkspace(tx, scope, {
    ...request,
    id,
    sandbox: {
      rowId: facts.deployment_sandbox_id,
      sandboxId: request.sandboxId,
      fingerprint: facts.sandbox_fingerprint,
    },
    audit: { action: "workspace.create", attributes: { sandbox_id: request.sandboxId } },
  });
  return { workspace, cached: false };
}

/** The environment's lock is the one that references to it take: a deletion waits for it, and is seen by what comes later. */
async function lookUp(tx: Tx, scope: Scope, request: CreateWorkspace): Promise<CreateFacts> {
  const env = scope.environmentId;
  const key = request.idempotencyKey ?? null;
  const lockName = key === null ? null : `${env} ${keyScopeName} ${key}`;
  const { rows } = await sql<CreateFacts>`
    select case when ${lockName}::text is null then true
        else pg_try_advisory_xact_lock(hashtextextended(${lockName}::text, 0)) end as locked,
      here.id is not null as environment_open, k.fingerprint as key_fingerprint, k.resource_id as key_workspace_id,
      b.id as deployment_sandbox_id, b.fingerprint as sandbox_fingerprint
    from (select 1) as always
    left join (select id from environments where id = ${env} and deleting_at is null for key share) here on true
    left join idempotency_keys k on k.environment_id = ${env} and k.scope_name = ${keyScopeName} and k.key = ${key}
      and k.expires_at > now()
    left join deployments d on d.environment_id = ${env} and d.status = 'deployed' and d.id = coalesce(
      ${request.deploymentId ?? null}::uuid,
      (select c.deployment_id from current_deployments c where c.environment_id = ${env}))
    left join deployment_sandboxes b on b.deployment_id = d.id and b.sandbox_id = ${request.sandboxId}`.execute(
    tx,
  );
  if (rows[0] === undefined) throw new Error("the look-up returned no row");
  return rows[0];
}

async function takeKey(
  tx: Tx,
  scope: Scope,
  request: CreateWorkspace,
  fingerprint: Buffer,
  workspaceId: string,
): Promise<void> {
  const { rows } = await sql`
    insert into idempotency_keys (environment_id, scope_name, key, fingerprint, resource_id, expires_at)
    values (${scope.environmentId}, ${keyScopeName}, ${request.idempotencyKey}, ${fingerprint}, ${workspaceId},
      now() + make_interval(secs => ${request.idempotencyKeyTtlMs / 1000}::float8))
    on conflict (environment_id, scope_name, key) do update set fingerprint = excluded.fingerprint,
      resource_id = excluded.resource_id, expires_at = excluded.expires_at, created_at = now()
      where idempotency_keys.expires_at <= now()
    returning 1`.execute(tx);
  if (rows.length === 0) throw new KeyTakenError("another request took the key");
}

function fingerprintOf(request: CreateWorkspace): Buffer {
  const parts = {
    sandbox_id: request.sandboxId,
    deployment_id: request.deploymentId,
    external_id: request.externalId,
    metadata: request.metadata,
    tags: request.tags,
  };
  return createHash("sha256").update(canonicalJson(parts)).digest();
}

interface NewWorkspace {
  readonly id: string;
  readonly sandbox: { readonly rowId: string; readonly sandboxId: string; readonly fingerprint: string };
  readonly externalId?: string | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tags: readonly string[];
  readonly audit: {
    readonly action: "workspace.create" | "workspace.fork";
    readonly attributes: Readonly<Record<string, unknown>>;
  };
}

async function insertWorkspace(
  tx: Tx,
  scope: ActingScope,
  { id, sandbox, externalId, metadata, tags, audit }: NewWorkspace,
): Promise<WorkspaceRow> {
  const audited = auditInsert(scope.actor, { ...scopeIds(scope), resourceId: id, ...audit });
  const { rows } = await sql<WorkspaceRow>`
    with w as (
      insert into workspaces (id, environment_id, project_id, deployment_sandbox_id, sandbox_id, sandbox_fingerprint,
        external_id, state, desired_state, dirty_state, metadata, tags)
      values (${id}, ${scope.environmentId}, ${scope.projectId}, ${sandbox.rowId}, ${sandbox.sandboxId},
        ${sandbox.fingerprint}, ${externalId ?? null}, 'active', 'active', 'clean', ${jsonbText(metadata)}::jsonb,
        ${[...tags]}::text[])
      returning *
    ), audit as (${audited})
    select ${workspaceColumns} from w`.execute(tx);
  if (rows[0] === undefined) throw new Error("a workspace was inserted and is not there");
  return rows[0];
}

export interface ForkWorkspace {
  /** Default: the current one. */
  readonly versionId?: string | undefined;
  readonly externalId?: string | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  readonly tags?: readonly string[] | undefined;
}

interface ForkSource {
  readonly state: string;
  readonly current_version_id: string | null;
  readonly deployment_sandbox_id: string;
  readonly sandbox_id: string;
  readonly sandbox_fingerprint: string;
  readonly metadata: Record<string, unknown>;
  readonly tags: string[];
}

/**
 * A new workspace of the same sandbox with the files of a version: nothing is copied but the references. Undefined when the
 * scope has no such workspace; throws ApiError 404 for a version that it does not have, workspace_not_active when its files
 * are being removed, 409 for a taken external id.
 */
export async function forkWorkspace(
  db: Queryable,
  scope: ActingScope,
  sourceId: string,
  fork: ForkWorkspace,
): Promise<WorkspaceRow | undefined> {
  return await transaction(db, async (tx) => {
    const { rows: open } = await sql`select from environments where id = ${scope.environmentId}
      and deleting_at is null for key share`.execute(tx);
    if (open.length === 0) throw new ApiError(404, "environment not found");
    // W1, W2: its versions and what they have stay until this is committed.
    const { rows } =
      await sql<ForkSource>`select w.state, w.current_version_id, w.deployment_sandbox_id, w.sandbox_id,
        w.sandbox_fingerprint, w.metadata, w.tags
      from workspaces w where w.id = ${sourceId} and w.environment_id = ${scope.environmentId} for share`.execute(
        tx,
      );
    const source = rows[0];
    if (source === undefined) return undefined;
    if (source.state !== "active" && source.state !== "archived") throw codedError("workspace_not_active");
    const versionId = fork.versionId ?? source.current_version_id ?? undefined;
    const version = versionId === undefined ? undefined : await readVersion(tx, sourceId, versionId);
    const id = uuidv7();
    await insertWorkspace(tx, scope, {
      id,
      sandbox: {
        rowId: source.deployment_sandbox_id,
        sandboxId: source.sandbox_id,
        fingerprint: source.sandbox_fingerprint,
      },
      externalId: fork.externalId,
      metadata: fork.metadata ?? source.metadata,
      tags: fork.tags ?? source.tags,
      audit: {
        action: "workspace.fork",
        attributes: { from_workspace_id: sourceId, from_version_id: versionId ?? null },
      },
    });
    if (version !== undefined) await insertFork(tx, scope, id, version);
    const { rows: made } =
      await sql<WorkspaceRow>`select ${workspaceColumns} from workspaces w where w.id = ${id}`.execute(tx);
    return made[0];
  }).catch(asAnswer);
}

async function readVersion(tx: Tx, workspaceId: string, versionId: string): Promise<VersionRow> {
  const { rows } = await sql<VersionRow>`select ${versionColumns} from workspace_versions v
    where v.id = ${versionId} and v.workspace_id = ${workspaceId}`.execute(tx);
  if (rows[0] === undefined) throw new ApiError(404, "version not found");
  return rows[0];
}

async function insertFork(tx: Tx, scope: Scope, workspaceId: string, version: VersionRow): Promise<void> {
  const { environmentId } = scope;
  await insertVersion(
    tx,
    {
      workspaceId,
      environmentId,
      parentVersionId: undefined,
      reason: "fork",
      message: version.message ?? undefined,
      tree: treeOf(version),
    },
    { of: version.id },
  );
}

/** What the version is, for another one with the same files. */
export function treeOf(version: VersionRow) {
  return {
    manifestDigest: version.manifest_digest,
    contentDigest: version.content_digest,
    artifactEncoding: version.artifact_encoding,
    entryCount: version.artifact_entry_count,
    sizeBytes: version.size_bytes,
  };
}

function asAnswer(error: unknown): never {
  if (violatedConstraint(error) === "workspaces_environment_id_external_id_key") {
    throw new ApiError(409, "a workspace with this external_id exists; use it, or another external_id");
  }
  throw error;
}
