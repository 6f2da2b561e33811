/**
 * The connection to PostgreSQL: one pool, typed tables, and decisions about values made once.
 *
 *   int8         number (sequences, counters and bytes stay far below 2^53)
 *   json         its exact text (payloads and outputs are handed on byte for byte)
 *   jsonb        parsed value
 *   timestamptz  Date
 *
 * Every statement is a prepared one, named by its text: the statements of the run lifecycle take PostgreSQL longer to
 * plan (1-2 ms) than to run. A migration that adds a column makes the server refuse what was prepared with `*` before it:
 * all are prepared anew then, under new names.
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Kysely, PostgresDialect, type PostgresPool, type Transaction } from "kysely";
import pg from "pg";
import type { Schema } from "./schema.ts";

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
    super({ dialect: new PostgresDialect({ pool: kyselyPool(pool, preparedStatements) }) });
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

/** Texts beyond this many are run unprepared: a guard against texts built from data, which would fill the server. */
const maxPreparedStatements = 1000;
const statementNames = new Map<string, string>();
/** Grows when tables change under the process. */
let generation = 0;

function statementName(text: string): string | undefined {
  const known = statementNames.get(text);
  if (known !== undefined) return known;
  if (statementNames.size >= maxPreparedStatements) return undefined;
  const digest = createHash("sha256").update(text).digest("hex").slice(0, 32);
  const name = `helmr_${generation}_${digest}`;
  statementNames.set(text, name);
  return name;
}

/** Once for all statements: in a transaction the first that is refused costs the transaction. */
function prepareAnew(text: string, refused: string | undefined): void {
  // Others may have been refused at the same time.
  if (refused === undefined || statementNames.get(text) !== refused) return;
  generation += 1;
  statementNames.clear();
}

/** PostgreSQL's error for a prepared `select *` of a table that has another column since; nothing was executed. */
function isOutdatedPlan(error: unknown): boolean {
  return sqlState(error) === "0A000" && (error as pg.DatabaseError).message.includes("cached plan must not");
}

/** Kysely's view of the pool, which names each statement. */
function kyselyPool(pool: pg.Pool, preparedStatements: boolean): PostgresPool {
  if (!preparedStatements) return pool as unknown as PostgresPool;
  const clients = new WeakMap<pg.PoolClient, Awaited<ReturnType<PostgresPool["connect"]>>>();
  const wrap = (client: pg.PoolClient) => ({
    query: async (text: string, values: readonly unknown[]) => {
      const ask = (name: string | undefined) =>
        client.query({ text, values: values as unknown[], ...(name === undefined ? {} : { name }) });
      // A text without parameters may hold several statements (a migration), which the server refuses to prepare.
      const name = values.length === 0 ? undefined : statementName(text);
      try {
        return await ask(name);
      } catch (error) {
        if (!isOutdatedPlan(error)) throw error;
        prepareAnew(text, name);
        // A transaction has failed with it: `transaction` runs it again.
        return await ask(statementName(text)).catch((again: unknown) => {
          throw sqlState(again) === "25P02" ? error : again;
        });
      }
    },
    release: (destroy?: boolean) => client.release(destroy),
  });
  return {
    options: pool.options,
    connect: async () => {
      const client = await pool.connect();
      let wrapped = clients.get(client);
      if (wrapped === undefined) {
        wrapped = wrap(client) as unknown as Awaited<ReturnType<PostgresPool["connect"]>>;
        clients.set(client, wrapped);
      }
      return wrapped;
    },
    end: () => pool.end(),
  };
}

/** serialization_failure, deadlock_detected. */
const retryableCodes = new Set(["40001", "40P01"]);
const maxTransactionTries = 5;

/** SQLSTATE of a database error, else undefined. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

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

/** Whether the same work may succeed when it is simply run again. */
export function isRetryable(error: unknown): boolean {
  return retryableCodes.has(sqlState(error) ?? "") || isOutdatedPlan(error);
}
