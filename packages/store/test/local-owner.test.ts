import {
  createUserSession,
  ensureDefaultTenant,
  ensureLocalOwner,
  findUserSession,
  systemActor,
} from "@helmr/store";
import { startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";

let database: TestDatabase;
beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());

test("is one user, however often and by however many it is asked for, and owner again whatever happened", async () => {
  const { db } = database;
  const { organizationId } = (await ensureDefaultTenant(db)).production;
  const asked = await Promise.all(Array.from({ length: 5 }, () => ensureLocalOwner(db, organizationId)));
  const [first] = asked;
  const userId = String(first?.userId);
  expect(new Set(asked.map((one) => one.userId))).toEqual(new Set([userId]));
  const { rows } = await sql`select provider, subject from user_identities`.execute(db);
  expect(rows).toEqual([{ provider: "local", subject: "owner" }]);

  const session = { userId, organizationId, kind: "cli" } as const;
  const { token } = await db
    .transaction()
    .execute((tx) => createUserSession(tx, systemActor("test"), session));
  const membership = async () => (await findUserSession(db, token))?.membership;
  expect(await membership()).toEqual({ organizationId, role: "owner", status: "active" });
  await sql`update organization_members set role = 'viewer', status = 'disabled', disabled_at = now()`.execute(
    db,
  );
  expect(await ensureLocalOwner(db, organizationId)).toEqual({ userId });
  expect(await membership()).toEqual({ organizationId, role: "owner", status: "active" });
});
