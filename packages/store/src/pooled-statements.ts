/**
 * Kysely's view of the pool: each statement prepared under a name of its own, and asked once more where a migration by
 * another process makes the server refuse it, though nothing is wrong with it:
 *
 *   outdated plan  a prepared `select *` of a table that has another column since. All are prepared anew, under new names
 *   deadlock       a read that has one table's lock and waits for another's, while the migration has them the other way round
 *
 * Neither has done anything by then. In a transaction both end it: `transaction` runs it again.
 */
import { createHash } from "node:crypto";
import type { PostgresPool } from "kysely";
import pg from "pg";

type PooledClient = Awaited<ReturnType<PostgresPool["connect"]>>;

/** Texts beyond this many are run unprepared: a guard against texts built from data, which would fill the server. */
const maxPreparedStatements = 1000;
const statementNames = new Map<string, string>();
/** Grows when tables change under the process. */
let generation = 0;

/** serialization_failure, deadlock_detected. */
const conflictCodes = new Set(["40001", "40P01"]);
const maxTries = 5;

/** SQLSTATE of a database error, else undefined. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

/** Whether the same work may succeed when it is simply run again. */
export function isRetryable(error: unknown): boolean {
  return conflictCodes.has(sqlState(error) ?? "") || isOutdatedPlan(error);
}

function isOutdatedPlan(error: unknown): boolean {
  return sqlState(error) === "0A000" && (error as pg.DatabaseError).message.includes("cached plan must not");
}

/** `preparedStatements`: off behind a pooler that cannot keep them. */
export function poolForKysely(pool: pg.Pool, preparedStatements: boolean): PostgresPool {
  const clients = new WeakMap<pg.PoolClient, PooledClient>();
  return {
    options: pool.options,
    connect: async () => {
      const client = await pool.connect();
      let wrapped = clients.get(client);
      if (wrapped === undefined) {
        wrapped = wrap(client, preparedStatements);
        clients.set(client, wrapped);
      }
      return wrapped;
    },
    end: () => pool.end(),
  };
}

function wrap(client: pg.PoolClient, preparedStatements: boolean): PooledClient {
  let inTransaction = false;
  const query = async (text: string, values: readonly unknown[]) => {
    inTransaction = isInTransaction(text, inTransaction);
    for (let tries = 1; ; tries += 1) {
      // A text without parameters may hold several statements (a migration), which the server refuses to prepare.
      const name = preparedStatements && values.length > 0 ? statementName(text) : undefined;
      try {
        return await client.query({
          text,
          values: values as unknown[],
          ...(name === undefined ? {} : { name }),
        });
      } catch (error) {
        if (isOutdatedPlan(error)) prepareAnew(text, name);
        if (inTransaction || tries >= maxTries || !isRetryable(error)) throw error;
      }
    }
  };
  const release = (destroy?: boolean) => client.release(destroy);
  return { query, release } as unknown as PooledClient;
}

/** Kysely sends these as statements of their own. */
function isInTransaction(text: string, before: boolean): boolean {
  if (/^(?:begin|start transaction)\b/i.test(text)) return true;
  return /^(?:commit|rollback)(?!\s+to\b)\b/i.test(text) ? false : before;
}

function statementName(text: string): string | undefined {
  const known = statementNames.get(text);
  if (known !== undefined) return known;
  if (statementNames.size >= maxPreparedStatements) return undefined;
  const digest = createHash("sha256").update(text).digest("hex").slice(0, 32);
  const name = `helmr_${generation}_${digest}`;
  statementNames.set(text, name);
  return name;
}

/** All at once: in a transaction the first that is refused costs the transaction. */
function prepareAnew(text: string, refused: string | undefined): void {
  // Others may have been refused at the same time.
  if (refused === undefined || statementNames.get(text) !== refused) return;
  generation += 1;
  statementNames.clear();
}
