/** Reading execs and ptys. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { ExecState, PtyState } from "../schema-workspaces.ts";
import type { Scope } from "../scope.ts";
import type { ExecRow, PtyRow } from "./lifecycle.ts";

export interface CommandKey {
  readonly workspaceId: string;
  readonly id: string;
}

/** Undefined when the workspace has no such exec, or the scope no such workspace. */
export async function getExec(db: Queryable, scope: Scope, key: CommandKey): Promise<ExecRow | undefined> {
  const { rows } = await sql<ExecRow>`select * from workspace_execs where id = ${key.id}
    and workspace_id = ${key.workspaceId} and environment_id = ${scope.environmentId}`.execute(db);
  return rows[0];
}

/** Undefined when the workspace has no such pty, or the scope no such workspace. */
export async function getPty(db: Queryable, scope: Scope, key: CommandKey): Promise<PtyRow | undefined> {
  const { rows } = await sql<PtyRow>`select * from workspace_ptys where id = ${key.id}
    and workspace_id = ${key.workspaceId} and environment_id = ${scope.environmentId}`.execute(db);
  return rows[0];
}

/** Newest first; undefined when the scope has no such workspace. */
export async function listExecs(
  db: Queryable,
  scope: Scope,
  workspaceId: string,
  { state, limit }: { readonly state?: ExecState | undefined; readonly limit: number },
): Promise<ExecRow[] | undefined> {
  const { rows } = await sql<ExecRow>`select * from workspace_execs where workspace_id = ${workspaceId}
    and environment_id = ${scope.environmentId} and (${state ?? null}::text is null or state = ${state ?? null})
    order by created_at desc, id desc limit ${limit}::integer`.execute(db);
  return rows.length > 0 || (await hasWorkspace(db, scope, workspaceId)) ? rows : undefined;
}

/** As `listExecs`. */
export async function listPtys(
  db: Queryable,
  scope: Scope,
  workspaceId: string,
  { state, limit }: { readonly state?: PtyState | undefined; readonly limit: number },
): Promise<PtyRow[] | undefined> {
  const { rows } = await sql<PtyRow>`select * from workspace_ptys where workspace_id = ${workspaceId}
    and environment_id = ${scope.environmentId} and (${state ?? null}::text is null or state = ${state ?? null})
    order by created_at desc, id desc limit ${limit}::integer`.execute(db);
  return rows.length > 0 || (await hasWorkspace(db, scope, workspaceId)) ? rows : undefined;
}

async function hasWorkspace(db: Queryable, scope: Scope, workspaceId: string): Promise<boolean> {
  const { rows } = await sql`select from workspaces where id = ${workspaceId}
    and environment_id = ${scope.environmentId}`.execute(db);
  return rows.length > 0;
}
