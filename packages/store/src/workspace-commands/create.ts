/** createExec and createPty: one writer at a time (C1), in the live copy there is or in a new one. */
import type { WorkspaceCommand } from "@helmr/api";
import { codedError } from "@helmr/api";
import { type RawBuilder, sql } from "kysely";
import { auditInsert, scopeIds } from "../audit.ts";
import type { Queryable, Tx } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import type { MaterializationRow } from "../materializations/lifecycle.ts";
import { inWorkspace } from "../materializations/lock.ts";
import { ensureLive, type RequestedMaterialization } from "../materializations/request.ts";
import type { ActingScope } from "../scope.ts";
import { type IdempotencyKey, noteIdempotency, recallIdempotency } from "./idempotency.ts";
import { commandKeyTtlMs, type ExecRow, type PtyRow } from "./lifecycle.ts";
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
    insert: (materialization) => sql`
        insert into workspace_execs (id, environment_id, workspace_id, materialization_id, command, cwd, env_shape, detached,
          state)
        values (${id}, ${scope.environmentId}, ${workspaceId}, ${materialization.id}, ${jsonbText(command)}::jsonb, ${cwd},
          ${env === undefined ? null : jsonbText(env)}::jsonb, ${detached},
          ${materialization.state === "running" ? "queued" : "materializing"})`,
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
    insert: (materialization) => sql`
        insert into workspace_ptys (id, environment_id, workspace_id, materialization_id, cwd, cols, rows, state)
        values (${id}, ${scope.environmentId}, ${workspaceId}, ${materialization.id}, ${cwd}, ${cols}, ${lines}, 'creating')`,
  });
}

interface Creation<Row> {
  readonly id: string;
  readonly action: "workspace.exec.create" | "workspace.pty.create";
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly key: IdempotencyKey;
  readonly start: WorkspaceCommand;
  readonly read: (tx: Tx, id: string) => Promise<Row | undefined>;
  /** Without `returning`. */
  readonly insert: (live: MaterializationRow) => RawBuilder<unknown>;
}

const aRunWaits =
  "a run has waited for this workspace for more than a minute and is next; try again in some seconds, in the run's own guest";

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
    if (locked.hasWriter) throw codedError("workspace_writer_active"); // C1
    if (requested === "stopping") return "stopping";
    if (locked.isRunOverdue && requested.materialization.run_id === null) {
      throw codedError("workspace_writer_active", aRunWaits);
    }
    const row = await insert(tx, scope, workspaceId, creation, requested);
    await noteIdempotency(tx, scope, creation.key, creation.id);
    return { row, cached: false, requested };
  });
}

/** With its command (M5), the workspace's use and the audit record, in one statement. */
async function insert<Row>(
  tx: Tx,
  scope: ActingScope,
  workspaceId: string,
  creation: Creation<Row>,
  { materialization }: RequestedMaterialization,
): Promise<Row> {
  const audit = auditInsert(scope.actor, {
    ...scopeIds(scope),
    action: creation.action,
    resourceId: creation.id,
    attributes: { workspace_id: workspaceId, ...creation.attributes },
  });
  const { rows } = await sql<Row>`
    with m as (
      update workspace_materializations set command_seq = command_seq + 1 where id = ${materialization.id}
      returning id, command_seq
    ), queued as (
      insert into workspace_commands (materialization_id, seq, body)
      select id, command_seq, ${jsonbText(creation.start)}::jsonb from m
    ), used as (
      -- Not dirty: nothing ran yet, and unsaved files would keep a copy that is still to come from every other worker.
      update workspaces set last_activity_at = now(), auto_stop_at = null, updated_at = now()
      where id = ${workspaceId}
    ), audit as (${audit})
    ${creation.insert(materialization)} returning *`.execute(tx);
  const row = rows[0];
  if (row === undefined) throw new Error("the insert of a command returned no row");
  return row;
}

function keyOf(
  kind: "exec" | "pty",
  workspaceId: string,
  key: string | undefined,
  parts: Readonly<Record<string, unknown>>,
): IdempotencyKey {
  return { scopeName: `workspace.${kind}:${workspaceId}`, key, ttlMs: commandKeyTtlMs, parts };
}
