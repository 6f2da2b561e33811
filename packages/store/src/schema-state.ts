/**
 * The database's schema seen from this version:
 *
 *   missing   migrations that the database lacks: nothing is written before `helmr-control migrate`
 *   newer     migrations of a later version. Each says which versions go on with it; one that this version is too old for
 *             is refused: an older program must not write to a schema that it does not understand
 *   changed   a migration that is not the one that made this database
 */
import { sql } from "kysely";
import type { Queryable } from "./database.ts";
import { type Migration, migrationNumber, ownMigrations } from "./migrations.ts";

export interface AppliedMigration {
  readonly name: string;
  readonly sha256: string;
  /** As in `Migration`. */
  readonly compatible_with: string | null;
}

export interface SchemaState {
  readonly missing: readonly string[];
  readonly newer: readonly { readonly name: string; readonly compatible: boolean }[];
  readonly changed: readonly string[];
}

/** The column of compatibility is younger than the table, hence through jsonb. Empty before the first migration. */
export async function readApplied(db: Queryable): Promise<AppliedMigration[]> {
  const { rows: found } = await sql<{ there: boolean }>`
    select to_regclass('schema_migrations') is not null as there`.execute(db);
  if (found[0]?.there !== true) return [];
  const { rows } = await sql<AppliedMigration>`
    select name, sha256, to_jsonb(m) ->> 'compatible_with' as compatible_with
    from schema_migrations m order by name`.execute(db);
  return rows;
}

export function compareSchema(
  applied: readonly AppliedMigration[],
  migrations: readonly Migration[],
): SchemaState {
  const known = new Map(migrations.map(({ name, sha256 }) => [name, sha256]));
  const done = new Set(applied.map(({ name }) => name));
  const newest = migrationNumber(migrations.at(-1)?.name ?? "0000");
  return {
    missing: migrations.map(({ name }) => name).filter((name) => !done.has(name)),
    newer: applied
      .filter(({ name }) => !known.has(name))
      .map(({ name, compatible_with: from }) => ({ name, compatible: from !== null && from <= newest })),
    changed: applied
      .filter(({ name, sha256 }) => known.has(name) && known.get(name) !== sha256)
      .map(({ name }) => name),
  };
}

/** Changes nothing. */
export async function readSchemaState(db: Queryable): Promise<SchemaState> {
  return compareSchema(await readApplied(db), await ownMigrations());
}

/**
 * Rejects unless this version may read and write the schema: behind, with the command that migrates; too new or changed,
 * as `migrate` does. Resolves to the later migrations that it goes on with.
 */
export async function requireUsableSchema(db: Queryable): Promise<{ readonly newer: readonly string[] }> {
  const problem = schemaProblem(await readSchemaState(db));
  if (typeof problem === "string") throw new Error(problem);
  return problem;
}

/** Why this version may not use the schema, else what of it is newer. */
export function schemaProblem({
  missing,
  newer,
  changed,
}: SchemaState): string | { readonly newer: string[] } {
  const refused = newer.find(({ compatible }) => !compatible);
  if (refused !== undefined) return newerText(refused.name);
  if (changed[0] !== undefined) return changedText(changed[0]);
  if (missing.length > 0) {
    return `the database's schema is behind this version of Helmr (missing: ${missing.join(", ")}): run \`helmr-control migrate\``;
  }
  return { newer: newer.map(({ name }) => name) };
}

export function newerText(name: string): string {
  return (
    `the database has migration ${name}, which this version of Helmr does not know: it belongs to a newer version. ` +
    "Start that version, or restore a backup from before the upgrade."
  );
}

export function changedText(name: string): string {
  return (
    `migration ${name} differs from the one this database was made with. ` +
    "Use the version that made it; a development database is recreated with `helmr dev --reset`."
  );
}
