/** Invitations: sent, listed, accepted once by whom they are for, revoked, expired. */
import { seedEnvironment, seedMember } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { EmailMessage } from "../src/email/mailer.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let owner: { token: string; userId: string };
const sent: EmailMessage[] = [];
let failing = false;
let answer: Promise<void> | undefined;
beforeAll(async () => {
  server = await startTestServer({
    mailer: {
      delivers: true,
      send: async (message) => {
        await answer;
        if (failing) throw new Error("the mail server is down");
        sent.push(message);
      },
      close: async () => {},
    },
  });
});
afterAll(() => server.stop());
beforeEach(async () => {
  failing = false;
  answer = undefined;
  sent.length = 0;
  owner = await server.newMember("owner");
});

let people = 0;
const newAddress = () => {
  people += 1;
  return `person-${people}@example.com`;
};
const call = (key: string, method: string, path: string, body?: unknown) =>
  server.request(method, path, body, { key });
const invite = async (email: string, more: object = {}) =>
  (await call(owner.token, "POST", "/invitations", { email, role: "developer", ...more })).body;
const tokenOf = (url: string) => new URL(url).searchParams.get("token") ?? "";
/** A signed-in user with that address, not a member of anything. */
const person = (email: string) => seedMember(server.db, server.scope.organizationId, undefined, { email });
const accept = (key: string, url: string) =>
  call(key, "POST", "/invitations/accept", { token: tokenOf(url) });

test("an invitation is sent, listed without its link, and accepted by whom it is for", async () => {
  const email = newAddress();
  const created = await call(owner.token, "POST", "/invitations", {
    email: ` ${email.toUpperCase()} `,
    role: "admin",
  });
  const { invite_url, ...invitation } = created.body;
  expect(created.status).toBe(201);
  expect(invitation).toMatchObject({
    email,
    role: "admin",
    status: "pending",
    invited_by_user_id: owner.userId,
  });
  const days = (Date.parse(invitation.expires_at) - Date.parse(invitation.created_at)) / 86_400_000;
  expect(Math.round(days)).toBe(7);
  expect(tokenOf(invite_url)).toMatch(/^hlmr_inv_[A-Za-z0-9_-]{43}$/);
  expect(invite_url).toMatch(/\/auth\/invitation\?token=/);
  await vi.waitUntil(() => sent.length > 0);
  expect(sent).toMatchObject([{ to: email, text: expect.stringContaining(invite_url) }]);
  const listed = (await call(owner.token, "GET", "/invitations")).body;
  expect(listed).toMatchObject({ has_more: false });
  expect(listed.invitations[0]).toEqual(invitation);

  const { token, userId } = await person(email);
  const accepted = await accept(token, invite_url);
  expect(accepted).toMatchObject({
    status: 200,
    body: { organization: { id: server.scope.organizationId }, role: "admin" },
  });
  // The session acts there at once.
  expect((await call(token, "GET", "/members")).status).toBe(200);
  const after = (await call(owner.token, "GET", "/invitations")).body.invitations[0];
  expect(after).toMatchObject({ status: "accepted", accepted_by_user_id: userId });
  const { rows } = await sql<{ text: string }>`select t::text as text from audit_log t
    union all select t::text from invitations t`.execute(server.db);
  expect(JSON.stringify(rows)).toContain("invitation.accept");
  expect(JSON.stringify(rows)).not.toContain(tokenOf(invite_url));
  const { rows: records } = await sql`select action, actor_id, address from audit_log
    where resource_id = ${invitation.id} order by id`.execute(server.db);
  expect(records).toEqual([
    { action: "invitation.create", actor_id: owner.userId, address: "127.0.0.1" },
    { action: "invitation.accept", actor_id: userId, address: "127.0.0.1" },
  ]);
});

test("it is used once, also by one user many times at once", async () => {
  const email = newAddress();
  const { invite_url } = await invite(email);
  const { token } = await person(email);
  const answers = await Promise.all(Array.from({ length: 5 }, () => accept(token, invite_url)));
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 410, 410, 410, 410]);
});

test("accepting and revoking at the same time: one of them wins", async () => {
  for (let round = 0; round < 5; round += 1) {
    const email = newAddress();
    const { id, invite_url } = await invite(email);
    const { token } = await person(email);
    const [accepted, revoked] = await Promise.all([
      accept(token, invite_url),
      call(owner.token, "DELETE", `/invitations/${id}`),
    ]);
    expect([
      [200, 409],
      [410, 204],
    ]).toContainEqual([accepted.status, revoked.status]);
    const isMember = (await call(token, "GET", "/organizations")).body.organizations.length > 0;
    expect(isMember).toBe(accepted.status === 200);
  }
});

test("another address is refused, and the invitation stays", async () => {
  const email = newAddress();
  const { invite_url } = await invite(email);
  const stranger = await person(newAddress());
  const refused = await accept(stranger.token, invite_url);
  expect(refused).toMatchObject({
    status: 403,
    body: { error: expect.stringContaining("another e-mail address") },
  });
  expect(JSON.stringify(refused.body)).not.toContain(email);
  const nameless = await person(newAddress());
  await sql`update users set email = null where id = ${nameless.userId}`.execute(server.db);
  expect((await accept(nameless.token, invite_url)).status).toBe(403);
  expect((await accept((await person(email)).token, invite_url)).status).toBe(200);
});

test("revoked, expired and unknown ones", async () => {
  const email = newAddress();
  const [revoked, expired] = [await invite(email), await invite(email, { expires_in_days: 1 })];
  expect((await call(owner.token, "DELETE", `/invitations/${revoked.id}`)).status).toBe(204);
  expect((await call(owner.token, "DELETE", `/invitations/${revoked.id}`)).status).toBe(204);
  await sql`update invitations set expires_at = now() where id = ${expired.id}`.execute(server.db);
  const { token } = await person(email);
  for (const [{ invite_url }, word] of [
    [revoked, "revoked"],
    [expired, "expired"],
  ] as const) {
    const answer = await accept(token, invite_url);
    expect(answer).toMatchObject({ status: 410, body: { error: expect.stringContaining(word) } });
  }
  expect((await accept(token, `http://x/?token=hlmr_inv_${"A".repeat(43)}`)).status).toBe(404);
  expect((await accept(token, "http://x/?token=hlmr_inv_short")).status).toBe(400);
  const { invitations } = (await call(owner.token, "GET", "/invitations")).body;
  expect(invitations.slice(0, 2)).toMatchObject([
    { id: expired.id, status: "expired" },
    { id: revoked.id, status: "revoked", revoked_by_user_id: owner.userId },
  ]);
  expect((await call(owner.token, "DELETE", `/invitations/${crypto.randomUUID()}`)).status).toBe(404);
});

test("a removed member comes back by invitation, with the new role; an active one keeps theirs", async () => {
  const email = newAddress();
  const [first, second] = [await invite(email), await invite(email, { role: "viewer" })];
  const { token, userId } = await person(email);
  expect((await accept(token, first.invite_url)).body.role).toBe("developer");
  expect((await accept(token, second.invite_url)).body.role).toBe("developer");
  expect((await call(owner.token, "POST", "/invitations", { email, role: "viewer" })).status).toBe(400);
  await call(owner.token, "DELETE", `/members/${userId}`);
  const third = await invite(email, { role: "viewer" });
  expect((await accept(token, third.invite_url)).body.role).toBe("viewer");
  const { members } = (await call(owner.token, "GET", "/members")).body;
  const back = members.find(({ user_id }: { user_id: string }) => user_id === userId);
  expect(back).toMatchObject({ status: "active", role: "viewer" });
  expect(back.disabled_at).toBeUndefined();
});

test("only owners invite owners; developers and viewers invite nobody", async () => {
  const { token: admin } = await server.newMember("admin");
  const refused = await call(admin, "POST", "/invitations", { email: newAddress(), role: "owner" });
  expect(refused.status).toBe(403);
  expect((await call(admin, "POST", "/invitations", { email: newAddress(), role: "admin" })).status).toBe(
    201,
  );
  const invited = await call(owner.token, "POST", "/invitations", { email: newAddress(), role: "owner" });
  expect(invited.status).toBe(201);
  for (const role of ["developer", "viewer"] as const) {
    const { token } = await server.newMember(role);
    expect((await call(token, "GET", "/invitations")).status).toBe(403);
    expect((await call(token, "POST", "/invitations", { email: newAddress(), role })).status).toBe(403);
    expect((await call(token, "DELETE", `/invitations/${invited.body.id}`)).status).toBe(403);
  }
});

test("an e-mail that cannot be sent leaves the invitation and its link", async () => {
  failing = true;
  const email = newAddress();
  const created = await call(owner.token, "POST", "/invitations", { email, role: "viewer" });
  expect(created.status).toBe(201);
  expect(sent).toEqual([]);
  expect((await accept((await person(email)).token, created.body.invite_url)).status).toBe(200);
});

test("the answer does not wait for a mail server that says nothing", async () => {
  const silence = Promise.withResolvers<void>();
  answer = silence.promise;
  const created = await call(owner.token, "POST", "/invitations", { email: newAddress(), role: "viewer" });
  expect(created.status).toBe(201);
  expect(sent).toEqual([]);
  silence.resolve();
  await vi.waitUntil(() => sent.length === 1);
});

test("so many an hour, in each organization", async () => {
  const other = await seedEnvironment(server.db);
  const { organizationId } = other.scope;
  const { token } = await seedMember(server.db, organizationId, "owner");
  await sql`insert into invitations (id, organization_id, email, role, token_hash, expires_at)
    select gen_random_uuid(), ${organizationId}, 'a@example.com', 'viewer', sha256(n::text::bytea), now()
    from generate_series(1, 100) n`.execute(server.db);
  const body = { email: newAddress(), role: "viewer" };
  expect((await call(token, "POST", "/invitations", body)).status).toBe(429);
  expect((await call(owner.token, "POST", "/invitations", body)).status).toBe(201);
  await sql`update invitations set created_at = now() - interval '1 hour' where organization_id = ${organizationId}`.execute(
    server.db,
  );
  expect((await call(token, "POST", "/invitations", body)).status).toBe(201);
  // Another organization's are neither listed nor revoked.
  const theirs = (await call(token, "GET", "/invitations")).body.invitations;
  expect(theirs).toHaveLength(101);
  expect((await call(owner.token, "DELETE", `/invitations/${theirs[0].id}`)).status).toBe(404);
  const own = (await call(owner.token, "GET", "/invitations")).body.invitations;
  expect(own.map(({ id }: { id: string }) => id)).not.toContain(theirs[0].id);
});

test("what is wrong is a 400", async () => {
  const email = "x@example.com";
  for (const body of [
    {},
    { email },
    { email: "nobody", role: "viewer" },
    { email: `a@${"b".repeat(300)}.com`, role: "viewer" },
    { email: "a\r\nBcc: c@example.com", role: "viewer" },
    { email, role: "king" },
    { email, role: "viewer", expires_in_days: 0 },
    { email, role: "viewer", expires_in_days: 31 },
    { email, role: "viewer", expires_in_days: 1.5 },
    { email, role: "viewer", more: 1 },
  ]) {
    expect((await call(owner.token, "POST", "/invitations", body)).status).toBe(400);
  }
  expect((await call(owner.token, "DELETE", "/invitations/x")).status).toBe(400);
  expect(
    (await server.request("POST", "/invitations/accept", { token: `hlmr_inv_${"A".repeat(43)}` })).status,
  ).toBe(401);
});
