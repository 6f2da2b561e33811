/** A connection that the server ends while it is in use. */

import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase } from "../src/database.ts";
import { startTestDatabase, type TestDatabase } from "../test-support/index.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());

test.each([true, false])(
  "fails its transaction, not the process (prepared statements: %s)",
  async (preparedStatements) => {
    const db = openDatabase({ url: database.url, maxConnections: 1, preparedStatements });
    try {
      const broken = db.transaction().execute(async (tx) => {
        const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx);
        await sql`select pg_terminate_backend(${rows[0]?.pid}, 10000)`.execute(database.db);
        // Between two statements nobody waits for an answer: the loss is an event of the connection.
        await new Promise((resolve) => setTimeout(resolve, 100));
        await sql`select 1`.execute(tx);
      });
      await expect(broken).rejects.toThrow(/terminat|not queryable|connection/i);
      const { rows } = await sql<{ one: number }>`select 1 as one`.execute(db);
      expect(rows).toEqual([{ one: 1 }]);
    } finally {
      await db.close();
    }
  },
);
