/** Everything that belongs to workspaces, removed in pages; what it had stored is noted. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { removeVersions } from "./prune-versions.ts";

/** A chunk of output, or of input that no worker took, has up to a mebibyte. */
const pageChunks = 200;
const pageRows = 200;
/** A version may have 20,000 artifacts. */
const pageVersions = 5;

/**
 * Remove one page of what these locked workspaces have (W1); returns how many rows, none when nothing is left but their own
 * rows.
 */
export async function emptyWorkspaces(tx: Tx, ids: readonly string[]): Promise<number> {
  for (const step of steps) {
    const removed = await step(tx, ids);
    if (removed > 0) return removed;
  }
  return 0;
}

const steps: readonly ((tx: Tx, ids: readonly string[]) => Promise<number>)[] = [
  removeVersionsPage,
  (tx, ids) => removePage(tx, ids, "workspace_execs", [["workspace_stream_chunks", "resource_id"]]),
  (tx, ids) => removePage(tx, ids, "workspace_ptys", [["workspace_stream_chunks", "resource_id"]]),
  (tx, ids) =>
    removePage(tx, ids, "workspace_materializations", [
      ["workspace_commands", "materialization_id"],
      ["workspace_requests", "materialization_id"],
    ]),
  (tx, ids) => remove(tx, "workspace_stream_chunks", "workspace_id", ids, pageChunks),
];

async function removeVersionsPage(tx: Tx, ids: readonly string[]): Promise<number> {
  const { rows } = await sql<{ id: string; workspace_id: string }>`select v.id, v.workspace_id
    from unnest(${ids}::uuid[]) w (id) cross join lateral (
      select id, workspace_id from workspace_versions where workspace_id = w.id limit ${pageVersions}::integer) v
    limit ${pageVersions}::integer`.execute(tx);
  for (const workspaceId of new Set(rows.map((row) => row.workspace_id))) {
    const own = rows.filter((row) => row.workspace_id === workspaceId).map(({ id }) => id);
    await removeVersions(tx, workspaceId, own);
  }
  return rows.length;
}

/** A page of a table, under their locks, with what has bytes and refers to them: who adds such bytes locks the row first. */
async function removePage(
  tx: Tx,
  workspaceIds: readonly string[],
  table: string,
  children: readonly (readonly [table: string, column: string])[],
): Promise<number> {
  const { rows } = await sql<{ id: string }>`select id from ${sql.table(table)}
    where workspace_id = any (${workspaceIds}::uuid[]) order by id limit ${pageRows}::integer for update`.execute(
    tx,
  );
  const ids = rows.map(({ id }) => id);
  if (ids.length === 0) return 0;
  for (const [child, column] of children) {
    const removed = await remove(tx, child, column, ids, pageChunks);
    if (removed === pageChunks) return removed;
  }
  return await remove(tx, table, "id", ids, pageRows);
}

async function remove(
  tx: Tx,
  table: string,
  column: string,
  ids: readonly string[],
  limit: number,
): Promise<number> {
  const name = sql.table(table);
  const { numAffectedRows = 0n } = await sql`delete from ${name} where ctid = any (array(
    select ctid from ${name} where ${sql.ref(column)} = any (${ids}::uuid[]) limit ${limit}::integer))`.execute(
    tx,
  );
  return Number(numAffectedRows);
}
