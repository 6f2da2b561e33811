import { afterAll, beforeAll, expect, test } from "vitest";
import { describeSchema } from "../test-support/describe-schema.ts";
import { startTestDatabase, type TestDatabase } from "../test-support/index.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());

test("schema.sql is what the migrations add up to", async () => {
  await expect(await describeSchema(database.db)).toMatchFileSnapshot("../schema.sql");
});
