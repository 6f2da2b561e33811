/**
 * Migrations: numbered SQL files, applied in order, each in its own transaction, never changed once released.
 *
 * `schema_migrations` records name and sha256 of each applied file. A file that differs from what was applied, or a
 * database with a migration this program does not know, is refused: an older program must not write to a newer schema.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { sql } from "kysely";
import type { Database, Queryable } from "./database.ts";

const migrationsDir = new URL("../migrations/", import.meta.url);
/** Serialises migrating processes; any constant that nothing else locks. */
const advisoryLockKey = 4_711_002_026;

interface Migration {
  readonly name: string;
  readonly sha256: string;
  readonly text: string;
}

/** Bring the schema up to date; concurrent callers wait for each other. Rejects on a newer or a changed schema. */
export async function migrate(db: Database): Promise<{ applied: string[] }> {
  const migrations = await readMigrations();
  return await db.connection().execute(async (connection) => {
    await sql`select pg_advisory_lock(${advisoryLockKey})`.execute(connection);
    try {
      return { applied: await applyMissing(connection, migrations) };
    } finally {
      await sql`select pg_advisory_unlock(${advisoryLockKey})`.execute(connection);
    }
  });
}

/**
 * Rejects unless the schema is exactly this version's: behind, with the command that migrates; newer or changed, as
 * `migrate` does. Changes nothing.
 */
export async function requireCurrentSchema(db: Queryable): Promise<void> {
  const migrations = await readMigrations();
  const { rows: found } = await sql<{ there: boolean }>`
    select to_regclass('schema_migrations') is not null as there`.execute(db);
  const done = found[0]?.there ? await readApplied(db) : new Map<string, string>();
  refuseUnknown(done, migrations);
  const missing = migrations.filter(({ name }) => !done.has(name)).map(({ name }) => name);
  if (missing.length === 0) return;
  throw new Error(
    `the database's schema is behind this version of Helmr (missing: ${missing.join(", ")}): run \`helmr-control migrate\``,
  );
}

async function readApplied(db: Queryable): Promise<Map<string, string>> {
  const { rows } = await sql<{
    name: string;
    sha256: string;
  }>`select name, sha256 from schema_migrations`.execute(db);
  return new Map(rows.map((row) => [row.name, row.sha256]));
}

async function applyMissing(db: Queryable, migrations: readonly Migration[]): Promise<string[]> {
  await sql`create table if not exists schema_migrations (
    name text primary key, sha256 text not null, applied_at timestamptz not null default now())`.execute(db);
  const done = await readApplied(db);
  refuseUnknown(done, migrations);
  const missing = migrations.filter((migration) => !done.has(migration.name));
  for (const migration of missing) {
    await db.transaction().execute(async (tx) => {
      await sql`set local statement_timeout = 0`.execute(tx);
      await sql.raw(migration.text).execute(tx);
      await sql`insert into schema_migrations (name, sha256) values (${migration.name}, ${migration.sha256})`.execute(
        tx,
      );
    });
  }
  return missing.map((migration) => migration.name);
}

function refuseUnknown(done: ReadonlyMap<string, string>, migrations: readonly Migration[]): void {
  const known = new Map(migrations.map((migration) => [migration.name, migration.sha256]));
  for (const [name, sha256] of done) {
    const expected = known.get(name);
    if (expected === undefined) {
      throw new Error(
        `the database has migration ${name}, which this version of Helmr does not know: it belongs to a newer version. ` +
          "Start that version, or restore a backup from before the upgrade.",
      );
    }
    if (expected !== sha256) {
      throw new Error(
        `migration ${name} differs from the one this database was made with. ` +
          "Use the version that made it; a development database is recreated with `helmr dev --reset`.",
      );
    }
  }
}

async function readMigrations(): Promise<Migration[]> {
  const names = (await readdir(migrationsDir)).filter((name) => name.endsWith(".sql")).sort();
  return await Promise.all(
    names.map(async (name) => {
      const text = await readFile(new URL(name, migrationsDir), "utf8");
      return { name, text, sha256: createHash("sha256").update(text).digest("hex") };
    }),
  );
}
