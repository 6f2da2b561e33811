/** Contract 11.1: organizations, members, invitations, sign-in. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "../../packages/control-plane/test/support/server.ts";
import * as shapes from "./support/identity-shapes.ts";
import { expectList, expectShape } from "./support/identity-shapes.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ magicLinkDebugUrls: true, deploymentMode: "managed-cloud" });
});
afterAll(() => server.stop());

let serial = 0;
const unique = () => {
  serial += 1;
  return `unique-${serial}`;
};
const newOwner = async () => {
  const user = await server.newMember(undefined);
  const call = (method: string, path: string, body?: object) =>
    server.request(method, path, body, { key: user.token });
  const created = await call("POST", "/organizations", { slug: unique(), name: "Name" });
  return { ...user, call, created };
};

describe("§11.1 organizations", () => {
  test("§11.1 managed-cloud: no token, 201, the caller is owner; as many as users create; a taken slug → 400", async () => {
    const { call, created, userId } = await newOwner();
    expect(created.status).toBe(201);
    expectShape(created.body, shapes.organization);
    const { body } = await call("GET", "/members");
    expectList(body, "members", shapes.member);
    expect(body.members).toMatchObject([{ user_id: userId, role: "owner", status: "active" }]);
    expect((await call("POST", "/organizations", { slug: unique(), name: "Second" })).status).toBe(201);
    expect((await call("POST", "/organizations", { slug: created.body.slug, name: "n" })).status).toBe(400);
  });

  test.each([{ slug: "-a" }, { slug: "" }, { name: "n".repeat(81) }, { unknown: 1 }, { slug: undefined }])(
    "§11.1 400 for %j",
    async (change) => {
      const { call } = await newOwner();
      expect((await call("POST", "/organizations", { slug: unique(), name: "n", ...change })).status).toBe(
        400,
      );
    },
  );

  test("§11.1 self-hosted: the setup token or 403; one exists already → 409", async () => {
    const other = await startTestServer({ setupToken: "the-setup-token" });
    const { token } = await other.newMember(undefined);
    const create = (setup_token?: string) =>
      other.request("POST", "/organizations", { slug: unique(), name: "n", setup_token }, { key: token });
    for (const wrong of [undefined, "", "the-setup-tokem", "the-setup-token "]) {
      expect((await create(wrong)).status).toBe(403);
    }
    // The test's own organization is there.
    expect((await create("the-setup-token")).status).toBe(409);
    await other.db.deleteFrom("api_keys").execute();
    await other.db.deleteFrom("environments").execute();
    await other.db.deleteFrom("projects").execute();
    await other.db.deleteFrom("organizations").execute();
    const racing = await Promise.all(Array.from({ length: 4 }, () => create("the-setup-token")));
    expect(racing.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409]);
    await other.stop();
  });
});

describe("§11.1 members", () => {
  test("§11.1 PATCH: the new role, only from the expected one; the last owner stays", async () => {
    const { call, userId, created } = await newOwner();
    const other = await server.newMember(undefined);
    await server.db
      .insertInto("organization_members")
      .values({ organization_id: created.body.id, user_id: other.userId, role: "viewer", status: "active" })
      .execute();
    const patch = (id: string, role: string, expected_role: string) =>
      call("PATCH", `/members/${id}`, { role, expected_role });
    const changed = await patch(other.userId, "developer", "viewer");
    expect(changed.status).toBe(200);
    expectShape(changed.body, shapes.member);
    expect(changed.body.role).toBe("developer");
    expect((await patch(other.userId, "admin", "viewer")).status).toBe(409);
    expect((await patch(userId, "admin", "owner")).status).toBe(409);
    expect((await call("DELETE", `/members/${userId}`)).status).toBe(409);
    expect((await patch(crypto.randomUUID(), "admin", "viewer")).status).toBe(404);
    expect((await patch("nope", "admin", "viewer")).status).toBe(400);
    expect((await patch(other.userId, "king", "developer")).status).toBe(400);
    expect((await call("PATCH", `/members/${other.userId}`, { role: "admin" })).status).toBe(400);
    const removed = await call("DELETE", `/members/${other.userId}`);
    expect([removed.status, removed.body]).toEqual([204, ""]);
    const { body } = await call("GET", "/members");
    expectList(body, "members", shapes.member);
    const active = body.members.filter(({ status }: { status: string }) => status === "active");
    expect(active.map(({ user_id }: { user_id: string }) => user_id)).toEqual([userId]);
  });

  test("§11.1 two owners cannot both go at once", async () => {
    const { call, userId, created } = await newOwner();
    const second = await server.newMember(undefined);
    await server.db
      .insertInto("organization_members")
      .values({ organization_id: created.body.id, user_id: second.userId, role: "owner", status: "active" })
      .execute();
    const answers = await Promise.all(
      [userId, second.userId].map((id) =>
        call("PATCH", `/members/${id}`, { role: "viewer", expected_role: "owner" }),
      ),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  });
});

describe("§11.1 invitations", () => {
  test("§11.1 POST 201 with invite_url, GET, DELETE 204; the link is accepted once, by whom it was for", async () => {
    const { call, userId } = await newOwner();
    const email = `${unique()}@example.com`;
    const created = await call("POST", "/invitations", {
      email: ` ${email.toUpperCase()} `,
      role: "developer",
    });
    expect(created.status).toBe(201);
    expectShape(created.body, shapes.createdInvitation);
    expect(created.body).toMatchObject({
      email,
      role: "developer",
      status: "pending",
      invited_by_user_id: userId,
    });
    const revoked = (await call("POST", "/invitations", { email: "other@example.com", role: "viewer" })).body;
    const answer = await call("DELETE", `/invitations/${revoked.id}`);
    expect([answer.status, answer.body]).toEqual([204, ""]);
    const list = (await call("GET", "/invitations")).body;
    expectShape(list, shapes.invitationList);
    expect(list.invitations.map(({ id, status }: { id: string; status: string }) => [id, status])).toEqual([
      [revoked.id, "revoked"],
      [created.body.id, "pending"],
    ]);
    expect(list.invitations[0]).toMatchObject({ revoked_by_user_id: userId });
    expect(JSON.stringify(list)).not.toContain("invite_url");
    expect((await call("DELETE", `/invitations/${crypto.randomUUID()}`)).status).toBe(404);
  });

  test.each([
    [{ email: "no address" }],
    [{ email: undefined }],
    [{ role: "king" }],
    [{ expires_in_days: 0 }],
    [{ expires_in_days: 1.5 }],
    [{ unknown: 1 }],
  ])("§11.1 400 for %j", async (change) => {
    const { call } = await newOwner();
    const body = { email: "someone@example.com", role: "viewer", ...change };
    expect((await call("POST", "/invitations", body)).status).toBe(400);
  });
});

describe("§11.1 magic links", () => {
  const open = { key: null } as const;
  const start = (body: object) => server.request("POST", "/auth/magic-link/start", body, open);
  const finish = (token: string) => server.request("POST", "/auth/magic-link/finish", { token }, open);
  const tokenOf = (answer: { body: { debug_url: string } }) =>
    new URL(answer.body.debug_url).searchParams.get("token") ?? "";

  test("§11.1 the same answer whether or not the address is known; debug_url only when it is on", async () => {
    const known = await server.newMember("owner");
    const answers = await Promise.all([
      start({ email: known.email }),
      start({ email: `${unique()}@example.com` }),
    ]);
    for (const answer of answers) {
      expect(answer.status).toBe(200);
      expectShape(answer.body, shapes.magicLinkStart);
    }
    expect(Object.keys(answers[0].body)).toEqual(Object.keys(answers[1].body));
  });

  test("§11.1 finish: {redirect_after} and the cookie; single use; 15 minutes", async () => {
    const started = await start({ email: `${unique()}@example.com`, next: "/projects?x=1" });
    const token = tokenOf(started);
    const done = await finish(token);
    expect([done.status, done.body]).toEqual([200, { redirect_after: "/projects?x=1" }]);
    const cookie = done.headers.get("set-cookie") ?? "";
    expect(cookie).toMatch(/^helmr_session_dev=[A-Za-z0-9_-]{40,};/);
    for (const attribute of ["HttpOnly", "SameSite=", "Path=/"]) expect(cookie).toContain(attribute);
    const again = await finish(token);
    expect(again.status).toBeGreaterThanOrEqual(400);
    expect(again.headers.get("set-cookie")).toBeNull();
    const old = tokenOf(await start({ email: `${unique()}@example.com` }));
    await server.db
      .updateTable("magic_links")
      .set({ expires_at: new Date() })
      .where("consumed_at", "is", null)
      .execute();
    expect((await finish(old)).status).toBeGreaterThanOrEqual(400);
  });

  test.each([{}, { email: "x" }, { email: 1 }, { email: "a@example.com", unknown: 1 }])(
    "§11.1 400 for a start with %j",
    async (body) => {
      expect((await start(body)).status).toBe(400);
    },
  );

  test("§11.1 next leads nowhere else", async () => {
    for (const next of [
      "https://elsewhere.example",
      "//elsewhere.example",
      "/\\elsewhere.example",
      "javascript:x",
    ]) {
      const done = await finish(tokenOf(await start({ email: `${unique()}@example.com`, next })));
      expect(done.body).toEqual({ redirect_after: "/" });
    }
  });

  test("§11.1 https: the cookie is __Host-helmr_session, Secure, for the whole host", async () => {
    const other = await startTestServer({ magicLinkDebugUrls: true, publicUrl: "https://helmr.example.com" });
    const started = await other.request("POST", "/auth/magic-link/start", { email: "a@example.com" }, open);
    const token = tokenOf(started);
    const done = await other.request("POST", "/auth/magic-link/finish", { token }, open);
    const cookie = done.headers.get("set-cookie") ?? "";
    expect(cookie).toMatch(/^__Host-helmr_session=[A-Za-z0-9_-]{40,};/);
    for (const attribute of ["HttpOnly", "Secure", "Path=/"]) expect(cookie).toContain(attribute);
    expect(cookie).not.toMatch(/domain=/i);
    await other.stop();
  });

  test("§11.1 GitHub that is not set up → a 4xx that says so", async () => {
    for (const [path, body] of [
      ["start", {}],
      ["finish", { code: "c", state: "A".repeat(43) }],
    ] as const) {
      const answer = await server.request("POST", `/auth/github/${path}`, body, open);
      expect([answer.status, Object.keys(answer.body)]).toEqual([400, ["error"]]);
    }
  });
});
