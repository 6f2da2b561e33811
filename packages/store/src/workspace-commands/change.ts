/** closeStdin, killExec, resizePty, closePty: changes that the worker is told of. */
import { codedError, type WorkspaceCommand } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import type { ActingScope } from "../scope.ts";
import { type CommandTarget, type ExecRow, isExecOver, type PtyRow } from "./lifecycle.ts";
import { insertCommand } from "./outbox.ts";
import type { CommandKey } from "./read.ts";

export interface Changed<Row> {
  readonly row: Row;
  /** Absent: nothing had to be done. */
  readonly target?: CommandTarget | undefined;
}

/** Undefined without such an exec. Closing twice is closing once. Throws workspace_exec_terminal. */
export async function closeStdin(
  db: Queryable,
  scope: ActingScope,
  key: CommandKey,
): Promise<Changed<ExecRow> | undefined> {
  return await transaction(db, async (tx) => {
    const exec = await lockExec(tx, scope, key);
    if (exec === undefined || exec.stdin_closed_at !== null) return exec && { row: exec };
    if (isExecOver(exec.state)) throw codedError("workspace_exec_terminal");
    const target = await tellWorker(tx, exec, { kind: "exec.stdin_close", exec_id: exec.id });
    const { rows } = await sql<ExecRow>`update workspace_execs set stdin_closed_at = now(), updated_at = now()
      where id = ${exec.id} returning *`.execute(tx);
    return { row: rows[0] ?? exec, target };
  });
}

/** Undefined without such an exec. The signal is sent; what becomes of the exec is told by its end. */
export async function killExec(
  db: Queryable,
  scope: ActingScope,
  key: CommandKey,
  signal: string,
): Promise<Changed<ExecRow> | undefined> {
  return await transaction(db, async (tx) => {
    const exec = await lockExec(tx, scope, key);
    if (exec === undefined) return undefined;
    if (isExecOver(exec.state)) throw codedError("workspace_exec_terminal");
    const target = await tellWorker(tx, exec, { kind: "exec.signal", exec_id: exec.id, signal });
    await recordScopeAudit(tx, scope, {
      action: "workspace.exec.kill",
      resourceId: exec.id,
      attributes: { workspace_id: key.workspaceId, signal },
    });
    return { row: exec, target };
  });
}

/** Undefined without such a pty. Throws workspace_pty_not_open unless it is open or resizing. */
export async function resizePty(
  db: Queryable,
  scope: ActingScope,
  key: CommandKey,
  { cols, rows: lines }: { readonly cols: number; readonly rows: number },
): Promise<Changed<PtyRow> | undefined> {
  return await transaction(db, async (tx) => {
    const pty = await lockPty(tx, scope, key);
    if (pty === undefined) return undefined;
    if (pty.state !== "open" && pty.state !== "resizing") throw codedError("workspace_pty_not_open");
    const target = await tellWorker(tx, pty, { kind: "pty.resize", pty_id: pty.id, cols, rows: lines });
    const { rows } =
      await sql<PtyRow>`update workspace_ptys set state = 'resizing', cols = ${cols}, rows = ${lines},
      updated_at = now() where id = ${pty.id} returning *`.execute(tx);
    return { row: rows[0] ?? pty, target };
  });
}

/** Undefined without such a pty. Throws workspace_pty_not_open unless it is open, resizing or closing. */
export async function closePty(
  db: Queryable,
  scope: ActingScope,
  key: CommandKey,
): Promise<Changed<PtyRow> | undefined> {
  return await transaction(db, async (tx) => {
    const pty = await lockPty(tx, scope, key);
    if (pty === undefined || pty.state === "closing") return pty && { row: pty };
    if (pty.state !== "open" && pty.state !== "resizing") throw codedError("workspace_pty_not_open");
    const target = await tellWorker(tx, pty, { kind: "pty.close", pty_id: pty.id });
    const { rows } = await sql<PtyRow>`update workspace_ptys set state = 'closing', updated_at = now()
      where id = ${pty.id} returning *`.execute(tx);
    await recordScopeAudit(tx, scope, {
      action: "workspace.pty.close",
      resourceId: pty.id,
      attributes: { workspace_id: key.workspaceId },
    });
    return { row: rows[0] ?? pty, target };
  });
}

/** The live copy's row first, as everything that locks both: an append of the worker holds it. */
async function lockExec(tx: Tx, scope: ActingScope, key: CommandKey): Promise<ExecRow | undefined> {
  await sql`select from workspace_materializations where id = (select materialization_id from workspace_execs
    where id = ${key.id} and environment_id = ${scope.environmentId}) for no key update`.execute(tx);
  const { rows } = await sql<ExecRow>`select * from workspace_execs where id = ${key.id}
    and workspace_id = ${key.workspaceId} and environment_id = ${scope.environmentId} for no key update`.execute(
    tx,
  );
  return rows[0];
}

async function lockPty(tx: Tx, scope: ActingScope, key: CommandKey): Promise<PtyRow | undefined> {
  await sql`select from workspace_materializations where id = (select materialization_id from workspace_ptys
    where id = ${key.id} and environment_id = ${scope.environmentId}) for no key update`.execute(tx);
  const { rows } = await sql<PtyRow>`select * from workspace_ptys where id = ${key.id}
    and workspace_id = ${key.workspaceId} and environment_id = ${scope.environmentId} for no key update`.execute(
    tx,
  );
  return rows[0];
}

async function tellWorker(
  tx: Tx,
  { materialization_id: id }: { readonly materialization_id: string | null },
  command: WorkspaceCommand,
): Promise<CommandTarget | undefined> {
  return id === null ? undefined : await insertCommand(tx, id, command);
}
