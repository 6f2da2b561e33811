import { startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { Queryable } from "../src/index.ts";
import { migrate, openDatabase, readSchemaState, requireUsableSchema, transaction } from "../src/index.ts";
import { laterVersion } from "../test-support/index.ts";

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

test("a later migration is accepted from the version on that it names, and migrating is the later version's", async () => {
  const newest = (await readSchemaState(database.db)).missing.length;
  expect(newest).toBe(0);
  for (const [header, accepted] of [
    ["-- compatible-with: 0001", true],
    ["-- compatible-with: 9000", false],
    ["-- compatible-with: none", false],
    ["-- says nothing", false],
  ] as const) {
    await using later = await laterVersion(`${header}\ncreate table later (id integer);`);
    expect(await migrate(database.db, { folder: later.folder })).toEqual({ applied: [later.name] });
    const state = await readSchemaState(database.db);
    expect(state).toEqual({ missing: [], changed: [], newer: [{ name: later.name, compatible: accepted }] });
    const used = requireUsableSchema(database.db);
    if (accepted) expect(await used).toEqual({ newer: [later.name] });
    else await expect(used).rejects.toThrow("belongs to a newer version");
    await expect(migrate(database.db)).rejects.toThrow("belongs to a newer version");
    await sql`drop table later`.execute(database.db);
    await sql`delete from schema_migrations where name = ${later.name}`.execute(database.db);
  }
});

test("a dry run changes nothing; one that fails leaves nothing", async () => {
  await using later = await laterVersion("create table later (id integer); select 1 / 0;");
  const { folder } = later;
  expect(await migrate(database.db, { folder, dryRun: true })).toEqual({ applied: [later.name] });
  await expect(migrate(database.db, { folder })).rejects.toThrow("division by zero");
  expect(await requireUsableSchema(database.db)).toEqual({ newer: [] });
  const { rows } = await sql`select to_regclass('later') as found`.execute(database.db);
  expect(rows).toEqual([{ found: null }]);
});

test("a database of before compatibility was recorded gets the column", async () => {
  await sql`alter table schema_migrations drop column compatible_with`.execute(database.db);
  expect(await requireUsableSchema(database.db)).toEqual({ newer: [] });
  await migrate(database.db);
  const { rows } =
    await sql`select compatible_with from schema_migrations where name = '0001_initial.sql'`.execute(
      database.db,
    );
  expect(rows).toEqual([{ compatible_with: null }]);
});

test("waits for a table in use in short pieces, between which traffic goes on; in the end it says what to do", async () => {
  const holder = openDatabase({ url: database.url, maxConnections: 1 });
  const release = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const holding = holder.transaction().execute(async (tx) => {
    await sql`select from runs`.execute(tx);
    held.resolve();
    await release.promise;
  });
  await held.promise;
  await using later = await laterVersion("alter table runs add column later integer;");
  const { folder } = later;
  const retries: string[] = [];
  const options = { folder, lockTimeoutMs: 50, onRetry: (name: string) => retries.push(name) };
  try {
    await expect(migrate(database.db, { ...options, giveUpAfterMs: 0 })).rejects.toThrow("pg_stat_activity");
    const migrating = migrate(database.db, options);
    await vi.waitUntil(() => retries.length > 1, { timeout: 30_000, interval: 5 });
    // Behind a migration that waited for good, this one would wait until the holder ends.
    await sql`select from runs`.execute(database.db);
    release.resolve();
    expect(await migrating).toEqual({ applied: [later.name] });
    expect(new Set(retries)).toEqual(new Set([later.name]));
  } finally {
    release.resolve();
    await holding;
    await holder.close();
  }
  await sql`alter table runs drop column later`.execute(database.db);
  await sql`delete from schema_migrations where name = ${later.name}`.execute(database.db);
});

test("statements that were prepared before a column came are prepared anew, also in a transaction", async () => {
  const db = openDatabase({ url: database.url, maxConnections: 1 });
  const read = (queryable: Queryable) => sql`select * from growing where id > ${0}`.execute(queryable);
  const other = (queryable: Queryable) => sql`select * from growing where id < ${9}`.execute(queryable);
  try {
    await sql`create table growing (id integer)`.execute(db);
    for (const column of ["one", "two", "three"]) {
      await read(db);
      await other(db);
      await sql`alter table growing add column ${sql.ref(column)} integer`.execute(database.db);
      if (column === "two") await transaction(db, async (tx) => void (await read(tx)));
      else await read(db);
      await transaction(db, async (tx) => void (await other(tx)));
    }
    await sql`drop table growing`.execute(db);
    await expect(read(db)).rejects.toThrow("does not exist");
  } finally {
    await db.close();
  }
});

test("values arrive as decided: numbers, exact JSON text, dates", async () => {
  const { rows } = await sql`
    select 9007199254740991::int8 as big, '{"a":  1.50}'::json as exact, '{"a":1}'::jsonb as parsed,
      '2026-01-02T03:04:05.678Z'::timestamptz as time where ${1}::int = 1`.execute(database.db);
  const time = new Date("2026-01-02T03:04:05.678Z");
  expect(rows).toEqual([{ big: 9007199254740991, exact: '{"a":  1.50}', parsed: { a: 1 }, time }]);
});
