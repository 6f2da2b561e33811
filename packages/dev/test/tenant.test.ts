/** What a start of the embedded stack finds or makes: the same tenant and credentials, and new ones for those that are over. */
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  findApiKey,
  findUserSession,
  revokeApiKey,
  revokeUserSessions,
  systemActor,
  type UserSessionGrant,
} from "@helmr/store";
import { startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDataFolder } from "../src/data-folder.ts";
import { ensureTenant } from "../src/tenant.ts";

let database: TestDatabase;
let dir: string;
beforeAll(async () => {
  database = await startTestDatabase();
  dir = await mkdtemp(join(tmpdir(), "helmr-tenant-"));
});
afterAll(async () => {
  await database.stop();
  await rm(dir, { recursive: true, force: true });
});

test("is the same at every start; a credential that is over is made anew, the other one stays", async () => {
  const { db } = database;
  const folder = await openDataFolder(dir);
  const session = (token: string): Promise<UserSessionGrant | undefined> => findUserSession(db, token);

  const first = await ensureTenant(db, folder);
  expect(await ensureTenant(db, folder)).toEqual(first);
  expect(await session(first.sessionToken)).toMatchObject({
    userId: first.localOwnerId,
    membership: { role: "owner", status: "active" },
  });
  const key = await findApiKey(db, first.apiKey);
  expect(key?.scope.organizationId).toBe((await session(first.sessionToken))?.membership?.organizationId);
  expect((await stat(join(dir, "state.json"))).mode & 0o777).toBe(0o600);

  await revokeUserSessions(db, systemActor("test"), first.localOwnerId);
  const second = await ensureTenant(db, folder);
  expect(second).toEqual({ ...first, sessionToken: expect.not.stringMatching(first.sessionToken) });
  expect((await session(second.sessionToken))?.userId).toBe(first.localOwnerId);

  if (key === undefined) throw new Error("the key is not known");
  await revokeApiKey(db, { ...key.scope, actor: systemActor("test") }, key.id);
  await sql`update organization_members set status = 'disabled', disabled_at = now()`.execute(db);
  const third = await ensureTenant(db, folder);
  expect(third).toEqual({ ...second, apiKey: expect.not.stringMatching(second.apiKey) });
  expect(await findApiKey(db, third.apiKey)).toBeDefined();
  expect((await session(third.sessionToken))?.membership?.status).toBe("active");
  const state = JSON.parse(await readFile(join(dir, "state.json"), "utf8"));
  expect(state).toMatchObject({ apiKey: third.apiKey, sessionToken: third.sessionToken });
});
