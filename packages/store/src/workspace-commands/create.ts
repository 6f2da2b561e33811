/** createExec and createPty: one writer at a time (C1), in the live copy there is or in a new one. */
import type { WorkspaceCommand } from "@helmr/api";
import { codedError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import type { Queryable, Tx } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import { inWorkspace } from "../materializations/lock.ts";
import { ensureLive, type RequestedMaterialization } from "../materializations/request.ts";
import type { ActingScope } from "../scope.ts";
import { type IdempotencyKey, noteIdempotency, recallIdempotency } from "./idempotency.ts";
import { commandKeyTtlMs, type ExecRow, type PtyRow } from "./lifecycle.ts";
import { insertCommand } from "./outbox.ts";
import { getExec, getPty } from "./read.ts";

export interface NewExec {
  readonly command: readonly string[];
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly detached?: boolean | undefined;
  readonly idempotencyKey?: string | undefined;
}

export interface NewPty {
  readonly cwd?: string | undefined;
  readonly cols: number;
  readonly rows: number;
  readonly idempotencyKey?: string | undefined;
}

/** `requested` is absent of one that an earlier request made (`cached`). */
export type Created<Row> =
  | { readonly row: Row; readonly cached: false; readonly requested: RequestedMaterialization }
  | { readonly row: Row; readonly cached: true };

/**
 * Undefined without such a workspace; `stopping`: ask again when the live copy is gone. Throws workspace_writer_active,
 * workspace_not_active, idempotency_fingerprint_mismatch, and the codes of contract 7.8.
 */
export async function createExec(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
  input: NewExec,
): Promise<Created<ExecRow> | "stopping" | undefined> {
  const { command, cwd = "", env, detached = false } = input;
  const id = uuidv7();
  return await create(db, scope, workspaceId, {
    id,
    action: "workspace.exec.create",
    attributes: { program: command[0]?.slice(0, 256), detached },
    key: keyOf("exec", workspaceId, input.idempotencyKey, {
      command,
      cwd,
      env: env ?? {},
      detached,
      mode: "write",
    }),
    start: { kind: "exec.start", exec_id: id, command: [...command], cwd, env: { ...env } },
    read: (tx, known) => getExec(tx, scope, { workspaceId, id: known }),
    insert: async (tx, { materialization }) => {
      const { rows } = await sql<ExecRow>`
        insert into workspace_execs (id, environment_id, workspace_id, materialization_id, command, cwd, env_shape, detached,
          state)
        values (${id}, ${scope.environmentId}, ${workspaceId}, ${materialization.id}, ${jsonbText(command)}::jsonb, ${cwd},
          ${env === undefined ? null : jsonbText(env)}::jsonb, ${detached},
          ${materialization.state === "running" ? "queued" : "materializing"})
        returning *`.execute(tx);
      return rows[0];
    },
  });
}

/** As `createExec`. */
export async function createPty(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
  input: NewPty,
): Promise<Created<PtyRow> | "stopping" | undefined> {
  const { cwd = "", cols, rows: lines } = input;
  const id = uuidv7();
  return await create(db, scope, workspaceId, {
    id,
    action: "workspace.pty.create",
    attributes: { cols, rows: lines },
    key: keyOf("pty", workspaceId, input.idempotencyKey, { cwd, cols, rows: lines, mode: "write" }),
    start: { kind: "pty.start", pty_id: id, cwd, cols, rows: lines },
    read: (tx, known) => getPty(tx, scope, { workspaceId, id: known }),
    insert: async (tx, { materialization }) => {
      const { rows } = await sql<PtyRow>`
        insert into workspace_ptys (id, environment_id, workspace_id, materialization_id, cwd, cols, rows, state)
        values (${id}, ${scope.environmentId}, ${workspaceId}, ${materialization.id}, ${cwd}, ${cols}, ${lines}, 'creating')
        returning *`.execute(tx);
      return rows[0];
    },
  });
}

interface Creation<Row> {
  readonly id: string;
  readonly action: "workspace.exec.create" | "workspace.pty.create";
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly key: IdempotencyKey;
  readonly start: WorkspaceCommand;
  readonly read: (tx: Tx, id: string) => Promise<Row | undefined>;
  readonly insert: (tx: Tx, live: RequestedMaterialization) => Promise<Row | undefined>;
}

async function create<Row>(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
  creation: Creation<Row>,
): Promise<Created<Row> | "stopping" | undefined> {
  return await inWorkspace(db, scope, workspaceId, async (tx, locked): Promise<Created<Row> | "stopping"> => {
    const known = await recallIdempotency(tx, scope, creation.key);
    const cached = known === undefined ? undefined : await creation.read(tx, known);
    if (cached !== undefined) return { row: cached, cached: true };
    const requested = await ensureLive(tx, locked);
    await requireNoWriter(tx, workspaceId);
    if (requested === "stopping") return "stopping";
    const row = await creation.insert(tx, requested);
    if (row === undefined) throw new Error("the insert of a command returned no row");
    await insertCommand(tx, requested.materialization.id, creation.start);
    await noteIdempotency(tx, scope, creation.key, creation.id);
    // Not dirty: nothing ran yet, and unsaved files would keep a copy that is still to come from every other worker.
    await sql`update workspaces set last_activity_at = now(), auto_stop_at = null, updated_at = now()
      where id = ${workspaceId}`.execute(tx);
    const { id: resourceId, action } = creation;
    const attributes = { workspace_id: workspaceId, ...creation.attributes };
    await recordScopeAudit(tx, scope, { action, resourceId, attributes });
    return { row, cached: false, requested };
  });
}

/** C1 */
async function requireNoWriter(tx: Tx, workspaceId: string): Promise<void> {
  const { rows } = await sql`
    select from workspace_execs where workspace_id = ${workspaceId} and state in ('queued', 'materializing', 'running')
    union all
    select from workspace_ptys where workspace_id = ${workspaceId} and state in ('creating', 'open', 'resizing', 'closing')
    limit 1`.execute(tx);
  if (rows.length > 0) throw codedError("workspace_writer_active");
}

function keyOf(
  kind: "exec" | "pty",
  workspaceId: string,
  key: string | undefined,
  parts: Readonly<Record<string, unknown>>,
): IdempotencyKey {
  return { scopeName: `workspace.${kind}:${workspaceId}`, key, ttlMs: commandKeyTtlMs, parts };
}
