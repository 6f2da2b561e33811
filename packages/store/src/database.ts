/**
 * The connection to PostgreSQL: one pool, typed tables, and decisions about values made once.
 *
 *   int8         number (sequences, counters and bytes stay far below 2^53)
 *   json         its exact text (payloads and outputs are handed on byte for byte)
 *   jsonb        parsed value
 *   timestamptz  Date
 *
 * Every statement is a prepared one, named by its text: the statements of the run lifecycle take PostgreSQL longer to
 * plan (1-2 ms) than to run (pooled-statements.ts).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Kysely, PostgresDialect, type Transaction } from "kysely";
import pg from "pg";
import { isRetryable, poolForKysely } from "./pooled-statements.ts";
import type { Schema } from "./schema.ts";

export { isRetryable, sqlState } from "./pooled-statements.ts";

/** Anything that runs queries: the database or an open transaction. */
export type Queryable = Kysely<Schema>;
export type Tx = Transaction<Schema>;

export interface DatabaseOptions {
  /** `postgres://user@host/name`, or with `?host=/socket/folder`. */
  readonly url: string;
  /** Default 10. */
  readonly maxConnections?: number;
  /** A statement that takes longer is ended by the server. Default 30,000. */
  readonly statementTimeoutMs?: number;
  /** Waiting for a free connection of the pool. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** Off behind a pooler that cannot keep prepared statements. Default true. */
  readonly preparedStatements?: boolean;
  readonly applicationName?: string;
  /** Errors of idle connections, for the log; the pool replaces them by itself. */
  readonly onConnectionError?: (error: Error) => void;
}

/** Kysely over the pool; `close` waits for running queries and ends every connection. */
export class Database extends Kysely<Schema> {
  readonly #pool: pg.Pool;

  constructor(pool: pg.Pool, preparedStatements: boolean) {
    super({ dialect: new PostgresDialect({ pool: poolForKysely(pool, preparedStatements) }) });
    this.#pool = pool;
  }

  /** The pool's connections now. */
  poolState() {
    const { totalCount: open, idleCount: idle, waitingCount: waiting, options } = this.#pool;
    return { open, idle, waiting, max: options.max };
  }

  async close(): Promise<void> {
    if (!this.#pool.ended && !this.#pool.ending) await this.destroy();
    if (!this.#pool.ended && !this.#pool.ending) await this.#pool.end();
  }
}

/** Open a pool; connects on first use. */
export function openDatabase(options: DatabaseOptions): Database {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.maxConnections ?? 10,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 10_000,
    idleTimeoutMillis: 60_000,
    statement_timeout: options.statementTimeoutMs ?? 30_000,
    idle_in_transaction_session_timeout: 60_000,
    application_name: options.applicationName ?? "helmr",
    types: { getTypeParser },
  });
  pool.on("error", (error) => options.onConnectionError?.(error));
  // The pool listens to idle connections only. One that is lost in use fails its queries; unheard, it would end the process.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return new Database(pool, options.preparedStatements ?? true);
}

const parseInt8 = (text: string): number => Number(text);
const parseJsonAsText = (text: string): string => text;

function getTypeParser(oid: number, format?: "text" | "binary"): (text: string) => unknown {
  if (oid === pg.types.builtins.INT8) return parseInt8;
  if (oid === pg.types.builtins.JSON) return parseJsonAsText;
  return pg.types.getTypeParser(oid, format as "text");
}

const maxTransactionTries = 5;

/** Name of the constraint or unique index that a database error reports, else undefined. */
export function violatedConstraint(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.constraint : undefined;
}

/**
 * Run `work` in a transaction (read committed); again from the start after a deadlock, a serialization failure or a
 * change of its tables, at most 5 times with a jittered pause. `work` must have no effect outside of the transaction.
 */
export async function transaction<T>(db: Queryable, work: (tx: Tx) => Promise<T>): Promise<T> {
  return await retryConflicts(() => db.transaction().execute(work));
}

/** Run a single statement (or anything that is atomic by itself) with the same retries as `transaction`. */
export async function retryConflicts<T>(run: () => Promise<T>, isConflict = isRetryable): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await run();
    } catch (error) {
      if (tries >= maxTransactionTries || !isConflict(error)) throw error;
      await sleep(Math.random() * 10 * 2 ** tries);
    }
  }
}
