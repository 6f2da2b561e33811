/**
 * Test databases: one real PostgreSQL per vitest run, one migrated template, a clone of it for each test file.
 *
 *   const database = await startTestDatabase();   // in beforeAll
 *   database.db                                   // a Database on a clone of its own
 *   await database.stop();                        // in afterAll: closes it and drops the clone
 */
import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { type Database, openDatabase } from "../src/database.ts";
import { databaseUrl, startEmbeddedPostgres } from "../src/embedded-postgres.ts";
import { migrate } from "../src/migrate.ts";

export * from "./fill.ts";
export * from "./later-version.ts";
export * from "./record-statements.ts";
export * from "./seed.ts";
export * from "./workspaces.ts";

export interface TestDatabase {
  readonly db: Database;
  readonly url: string;
  stop(): Promise<void>;
}

const templateName = "helmr_template";
const startTimeoutMs = 60_000;

/** A migrated database of its own; the first call in a run starts the server (about 1.5 s), later ones take 50 ms. */
export async function startTestDatabase(options: { maxConnections?: number } = {}): Promise<TestDatabase> {
  const serverUrl = await sharedServer();
  const name = `test_${randomUUID().replaceAll("-", "")}`;
  await onServer(serverUrl, `create database ${name} template ${templateName}`);
  const url = databaseUrl(serverUrl, name);
  const db = openDatabase({ url, maxConnections: options.maxConnections ?? 10 });
  return {
    db,
    url,
    stop: async () => {
      await db.close();
      await onServer(serverUrl, `drop database ${name} with (force)`);
    },
  };
}

/** URL of the run's server: starts it when this process is the first to ask, else waits until the first one has. */
async function sharedServer(): Promise<string> {
  const folder = process.env.HELMR_TEST_POSTGRES_DIR;
  if (folder === undefined) {
    throw new Error(
      "no test database here: add packages/store/test-support/global-setup.ts to this project's globalSetup",
    );
  }
  const readyFile = join(folder, "url");
  const isFirst = await mkdir(join(folder, "starting")).then(
    () => true,
    () => false,
  );
  if (isFirst) {
    const server = await startEmbeddedPostgres({ dataDir: join(folder, "data"), durable: false });
    const url = databaseUrl(server.url, templateName);
    await onServer(server.url, `create database ${templateName}`);
    const db = openDatabase({ url, maxConnections: 1 });
    await migrate(db);
    await db.close();
    await writeFile(`${readyFile}.new`, server.url);
    await rename(`${readyFile}.new`, readyFile);
  }
  const deadline = Date.now() + startTimeoutMs;
  for (;;) {
    const url = await readFile(readyFile, "utf8").catch(() => undefined);
    if (url !== undefined) return url;
    if (Date.now() > deadline)
      throw new Error(`the test database did not start: see ${join(folder, "data.log")}`);
    await sleep(20);
  }
}

/** A clone is refused while another one is made from the same template, hence the lock. */
async function onServer(serverUrl: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  try {
    await client.query("select pg_advisory_lock(1)");
    await client.query(statement);
  } finally {
    await client.end();
  }
}
