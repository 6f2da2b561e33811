/** Members: roles and their changes, the last owner, what a removal takes along; races that are really concurrent. */
import { seedEnvironment, seedMember } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let owner: { token: string; userId: string; email: string };
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());
/** One active owner at the start of each test. */
beforeEach(async () => {
  await sql`update organization_members set status = 'disabled', disabled_at = now() where status = 'active'`.execute(
    server.db,
  );
  owner = await server.newMember("owner");
});

const call = (key: string, method: string, path: string, body?: unknown) =>
  server.request(method, path, body, { key });
const patch = (key: string, userId: string, expected_role: string, role: string) =>
  call(key, "PATCH", `/members/${userId}`, { role, expected_role });
const activeOwners = async () =>
  (
    await sql`select from organization_members where organization_id = ${server.scope.organizationId}
      and role = 'owner' and status = 'active'`.execute(server.db)
  ).rows.length;

test("members are listed with their roles, active ones first, and changed", async () => {
  const developer = await server.newMember("developer");
  const { body } = await call(owner.token, "GET", "/members");
  expect(body.members.slice(0, 2)).toMatchObject([
    { user_id: owner.userId, email: owner.email, role: "owner", status: "active", display_name: "Test" },
    { user_id: developer.userId, role: "developer", status: "active" },
  ]);
  expect(body.members[0].disabled_at).toBeUndefined();
  const changed = await patch(owner.token, developer.userId, "developer", "viewer");
  expect(changed).toMatchObject({ status: 200, body: { user_id: developer.userId, role: "viewer" } });
  // At once, where it was changed.
  const path = `${server.prefix}/sessions`;
  expect((await call(developer.token, "POST", path, { task_id: "x" })).status).toBe(403);
  const record = await server.db
    .selectFrom("audit_log")
    .selectAll()
    .where("action", "=", "member.update")
    .where("resource_id", "=", developer.userId)
    .executeTakeFirstOrThrow();
  expect(record).toMatchObject({
    actor_id: owner.userId,
    address: "127.0.0.1",
    attributes: { role: "viewer", previous_role: "developer" },
  });
});

test("a change names the role that was seen: of concurrent ones, one wins", async () => {
  const { userId } = await server.newMember("developer");
  expect((await patch(owner.token, userId, "viewer", "admin")).status).toBe(409);
  const answers = await Promise.all(
    ["viewer", "admin", "viewer", "admin"].map((role) => patch(owner.token, userId, "developer", role)),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409]);
});

test("an admin manages all but owners", async () => {
  const [admin, other, developer] = [
    await server.newMember("admin"),
    await server.newMember("admin"),
    await server.newMember("developer"),
  ];
  const onlyOwners = { status: 403, body: { error: "only an owner makes, changes or removes owners" } };
  expect(await patch(admin.token, developer.userId, "developer", "owner")).toMatchObject(onlyOwners);
  expect(await patch(admin.token, admin.userId, "admin", "owner")).toMatchObject(onlyOwners);
  expect(await patch(admin.token, owner.userId, "owner", "viewer")).toMatchObject(onlyOwners);
  expect(await call(admin.token, "DELETE", `/members/${owner.userId}`)).toMatchObject(onlyOwners);
  expect((await patch(admin.token, other.userId, "admin", "developer")).status).toBe(200);
  expect((await call(admin.token, "DELETE", `/members/${developer.userId}`)).status).toBe(204);
  for (const role of ["developer", "viewer"] as const) {
    const { token } = await server.newMember(role);
    for (const [method, path, body] of [
      ["GET", "/members"],
      ["PATCH", `/members/${admin.userId}`, { role: "viewer", expected_role: "admin" }],
      ["DELETE", `/members/${admin.userId}`],
    ] as const) {
      expect((await call(token, method, path, body)).status).toBe(403);
    }
  }
});

test("the last owner stays, by whatever way", async () => {
  expect((await patch(owner.token, owner.userId, "owner", "admin")).status).toBe(409);
  expect((await call(owner.token, "DELETE", `/members/${owner.userId}`)).status).toBe(409);
  expect((await patch(owner.token, owner.userId, "owner", "owner")).status).toBe(200);
  const second = await server.newMember("admin");
  expect((await patch(owner.token, second.userId, "admin", "owner")).status).toBe(200);
  expect((await call(owner.token, "DELETE", `/members/${owner.userId}`)).status).toBe(204);
  expect(await activeOwners()).toBe(1);
});

test("owners who remove or demote each other at the same time: one is left", async () => {
  for (let round = 0; round < 5; round += 1) {
    const [a, b] = [owner, await server.newMember("owner")];
    const answers = await Promise.all(
      round % 2 === 0
        ? [call(a.token, "DELETE", `/members/${b.userId}`), call(b.token, "DELETE", `/members/${a.userId}`)]
        : [patch(a.token, b.userId, "owner", "viewer"), patch(b.token, a.userId, "owner", "viewer")],
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses[0]).toBe(round % 2 === 0 ? 204 : 200);
    expect([403, 409]).toContain(statuses[1]);
    expect(await activeOwners()).toBe(1);
    owner = answers[0]?.status === statuses[0] ? a : b;
  }
});

test("owners who leave at the same time: one stays", async () => {
  const owners = [owner, await server.newMember("owner"), await server.newMember("owner")];
  const answers = await Promise.all(
    owners.map(({ token, userId }) => call(token, "DELETE", `/members/${userId}`)),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([204, 204, 409]);
  expect(await activeOwners()).toBe(1);
});

test("a removal takes keys, sessions and open invitations of this organization along, and nothing elsewhere", async () => {
  const leaver = await server.newMember("admin");
  const make = async () =>
    (
      await call(leaver.token, "POST", `${server.prefix}/api-keys`, {
        name: "n",
        permissions: [{ scopes: ["runs:read"] }],
      })
    ).body;
  const [key, other] = [await make(), await make()];
  await call(leaver.token, "DELETE", `${server.prefix}/api-keys/${other.id}`);
  const invited = await call(leaver.token, "POST", "/invitations", {
    email: "friend@example.com",
    role: "viewer",
  });
  // A membership elsewhere, with a session that acts there.
  const elsewhere = await seedEnvironment(server.db);
  await sql`insert into organization_members (organization_id, user_id, role)
    values (${elsewhere.scope.organizationId}, ${leaver.userId}, 'owner')`.execute(server.db);

  expect((await call(key.raw_key, "GET", "/runs")).status).toBe(200);
  expect((await call(owner.token, "DELETE", `/members/${leaver.userId}`)).status).toBe(204);
  expect((await call(key.raw_key, "GET", "/runs")).status).toBe(401);
  expect((await call(leaver.token, "GET", `${server.prefix}/runs`)).status).toBe(403);
  expect((await call(leaver.token, "GET", "/organizations")).body.organizations).toMatchObject([
    { id: elsewhere.scope.organizationId, selected: false },
  ]);
  const { invitations } = (await call(owner.token, "GET", "/invitations")).body;
  expect(invitations[0]).toMatchObject({ id: invited.body.id, status: "revoked" });
  const { members } = (await call(owner.token, "GET", "/members")).body;
  const listed = members.find(({ user_id }: { user_id: string }) => user_id === leaver.userId);
  expect(listed).toMatchObject({ status: "disabled", disabled_at: expect.any(String) });
  // Again: nothing changes, nothing is recorded.
  expect((await call(owner.token, "DELETE", `/members/${leaver.userId}`)).status).toBe(204);
  expect((await patch(owner.token, leaver.userId, "admin", "viewer")).status).toBe(409);
  const { rows } = await sql`select attributes from audit_log where action = 'member.remove'
    and resource_id = ${leaver.userId}`.execute(server.db);
  expect(rows).toEqual([
    { attributes: { role: "admin", revoked_api_keys: 1, left_sessions: 1, revoked_invitations: 1 } },
  ]);
});

test("another organization's members are not there", async () => {
  const other = await seedEnvironment(server.db);
  const theirs = await seedMember(server.db, other.scope.organizationId, "developer");
  const missing = await call(owner.token, "DELETE", `/members/${crypto.randomUUID()}`);
  expect(missing.status).toBe(404);
  expect(await call(owner.token, "DELETE", `/members/${theirs.userId}`)).toMatchObject({
    status: 404,
    body: missing.body,
  });
  expect((await patch(owner.token, theirs.userId, "developer", "viewer")).status).toBe(404);
  const { members } = (await call(owner.token, "GET", "/members")).body;
  expect(JSON.stringify(members)).not.toContain(theirs.userId);
});

test("what is wrong is a 400", async () => {
  for (const body of [
    {},
    { role: "viewer" },
    { role: "king", expected_role: "owner" },
    { role: "viewer", expected_role: "owner", more: 1 },
  ]) {
    expect((await call(owner.token, "PATCH", `/members/${owner.userId}`, body)).status).toBe(400);
  }
  expect((await call(owner.token, "DELETE", "/members/me")).status).toBe(400);
});
