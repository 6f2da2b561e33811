/**
 * Applying migrations, in order, each in its own transaction, while older versions serve.
 *
 *  M1  `schema_migrations` records name, sha256 and compatibility of each applied file, in the file's transaction.
 *  M2  A database with a migration that this program does not know is refused, also one that it could serve: who migrates
 *      is the newest version. A file that differs from what was applied is refused.
 *  M3  Statements wait for locks for a moment only: whatever wants the table waits behind the one that waits. A migration
 *      that did not get its locks is rolled back and tried again, as is one that deadlocks with the traffic.
 *  M4  One process migrates at a time; others wait for it and find nothing to do.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "kysely";
import { type Database, isRetryable, type Queryable, sqlState } from "./database.ts";
import { type Migration, readMigrations } from "./migrations.ts";
import { changedText, compareSchema, newerText, readApplied } from "./schema-state.ts";

/** Serialises migrating processes; any constant that nothing else locks. */
const advisoryLockKey = 4_711_002_026;
/** Below PostgreSQL's deadlock_timeout of a second: of two that wait for each other it is the migration that gives up. */
const defaultLockTimeoutMs = 500;
const defaultGiveUpAfterMs = 10 * 60_000;
const lockNotAvailable = "55P03";

export interface MigrateOptions {
  /** Changes nothing; resolves to what would be applied. */
  readonly dryRun?: boolean;
  /** M3: how long traffic stands still at most for one lock. Default half a second. */
  readonly lockTimeoutMs?: number;
  /** M3: how long one migration is tried. Default 10 minutes. */
  readonly giveUpAfterMs?: number;
  /** Told before each further try. */
  readonly onRetry?: (name: string, reason: string) => void;
  /** Of a later version, for tests. */
  readonly folder?: URL;
}

/** Bring the schema up to date; concurrent callers wait for each other. Rejects on a newer or a changed schema. */
export async function migrate(db: Database, options: MigrateOptions = {}): Promise<{ applied: string[] }> {
  const migrations = await readMigrations(options.folder);
  if (options.dryRun === true)
    return { applied: (await findMissing(db, migrations)).map(({ name }) => name) };
  return await db.connection().execute(async (connection) => {
    await sql`select pg_advisory_lock(${advisoryLockKey})`.execute(connection); // M4
    try {
      const missing = await findMissing(connection, migrations);
      await ensureTable(connection, options);
      for (const migration of missing) await apply(connection, migration, options);
      return { applied: missing.map(({ name }) => name) };
    } finally {
      await sql`select pg_advisory_unlock(${advisoryLockKey})`.execute(connection);
    }
  });
}

/** M2 */
async function findMissing(db: Queryable, migrations: readonly Migration[]): Promise<Migration[]> {
  const { missing, newer, changed } = compareSchema(await readApplied(db), migrations);
  if (newer[0] !== undefined) throw new Error(newerText(newer[0].name));
  if (changed[0] !== undefined) throw new Error(changedText(changed[0]));
  return migrations.filter(({ name }) => missing.includes(name));
}

/** Databases of before compatibility was recorded have the table without its column. */
async function ensureTable(db: Queryable, options: MigrateOptions): Promise<void> {
  const { rows } = await sql`select from pg_attribute
    where attrelid = to_regclass('schema_migrations') and attname = 'compatible_with'`.execute(db);
  if (rows.length > 0) return;
  await withLocks(db, "schema_migrations", options, async (tx) => {
    await sql`create table if not exists schema_migrations (name text primary key, sha256 text not null,
      applied_at timestamptz not null default now())`.execute(tx);
    await sql`alter table schema_migrations add column compatible_with text`.execute(tx);
  });
}

async function apply(db: Queryable, migration: Migration, options: MigrateOptions): Promise<void> {
  const { name, sha256, text, compatibleWith } = migration;
  await withLocks(db, name, options, async (tx) => {
    await sql.raw(text).execute(tx);
    await sql`insert into schema_migrations (name, sha256, compatible_with)
      values (${name}, ${sha256}, ${compatibleWith ?? null})`.execute(tx); // M1
  });
}

/** M3 */
async function withLocks(
  db: Queryable,
  name: string,
  options: MigrateOptions,
  work: (tx: Queryable) => Promise<void>,
): Promise<void> {
  const { lockTimeoutMs = defaultLockTimeoutMs, giveUpAfterMs = defaultGiveUpAfterMs, onRetry } = options;
  const deadline = performance.now() + giveUpAfterMs;
  for (;;) {
    try {
      await db.transaction().execute(async (tx) => {
        await sql`select set_config('statement_timeout', '0', true),
          set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true)`.execute(tx);
        await work(tx);
      });
      return;
    } catch (error) {
      const locked = sqlState(error) === lockNotAvailable;
      if (!locked && !isRetryable(error)) throw error;
      const reason = locked ? `a table was in use for ${lockTimeoutMs} ms` : "it met a deadlock";
      if (performance.now() > deadline) {
        throw new Error(
          `${name}: ${reason}, again and again. End the long transactions that pg_stat_activity shows (a backup, a session left open), then migrate again.`,
          { cause: error },
        );
      }
      onRetry?.(name, reason);
    }
    // As long as the traffic stood still, at least: it must catch up.
    await sleep(lockTimeoutMs * (1 + Math.random()));
  }
}
