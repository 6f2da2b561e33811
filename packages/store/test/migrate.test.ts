import { startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../src/index.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());

test("migrating again changes nothing", async () => {
  expect(await migrate(database.db)).toEqual({ applied: [] });
});

test("a schema of a newer version is refused", async () => {
  await sql`insert into schema_migrations (name, sha256) values ('9999_future.sql', '')`.execute(database.db);
  await expect(migrate(database.db)).rejects.toThrow("belongs to a newer version");
  await sql`delete from schema_migrations where name = '9999_future.sql'`.execute(database.db);
});

test("values arrive as decided: numbers, exact JSON text, dates", async () => {
  const { rows } = await sql`
    select 9007199254740991::int8 as big, '{"a":  1.50}'::json as exact, '{"a":1}'::jsonb as parsed,
      '2026-01-02T03:04:05.678Z'::timestamptz as time where ${1}::int = 1`.execute(database.db);
  const time = new Date("2026-01-02T03:04:05.678Z");
  expect(rows).toEqual([{ big: 9007199254740991, exact: '{"a":  1.50}', parsed: { a: 1 }, time }]);
});
