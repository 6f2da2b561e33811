/** Organizations: the one of a self-hosted installation, many in a managed cloud, and where a session acts. */
import { createOrganization, ensureDefaultTenant, systemActor } from "@helmr/store";
import { seedMember, startTestDatabase } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

const setupToken = "a setup token that nobody guesses";

describe("self-hosted", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({ setupToken });
  });
  afterAll(() => server.stop());
  /** Without any organization, as a new installation is. */
  const empty = () =>
    sql`truncate organizations, projects, environments, api_keys, user_sessions, organization_members cascade`.execute(
      server.db,
    );
  const user = async () => (await seedMember(server.db, server.scope.organizationId, undefined)).token;
  const create = (key: string, body: object) => server.request("POST", "/organizations", body, { key });

  test("the first one needs the setup token and makes the caller its owner, acting there", async () => {
    await empty();
    const key = await user();
    for (const setup_token of [undefined, "", "wrong", `${setupToken} `]) {
      const refused = await create(key, {
        slug: "acme",
        ...(setup_token === undefined ? {} : { setup_token }),
      });
      expect(refused).toMatchObject({ status: 403, body: { error: expect.stringContaining("setup_token") } });
      expect(JSON.stringify(refused.body)).not.toContain(setupToken);
    }
    const created = await create(key, { slug: "Acme", name: "Acme Inc.", setup_token: setupToken });
    expect(created).toMatchObject({ status: 201, body: { slug: "acme", name: "Acme Inc." } });
    const { organizations } = (await server.request("GET", "/organizations", undefined, { key })).body;
    expect(organizations).toEqual([{ ...created.body, role: "owner", selected: true }]);
    expect((await server.request("GET", "/members", undefined, { key })).body.members).toHaveLength(1);
    expect((await server.request("POST", "/projects", { slug: "first" }, { key })).body.is_default).toBe(
      true,
    );

    const second = await create(await user(), { slug: "other", setup_token: setupToken });
    expect(second.status).toBe(409);
    expect((await create(await user(), { slug: "other" })).status).toBe(403);
    const { rows } = await sql<{ text: string }>`select a::text as text from audit_log a`.execute(server.db);
    expect(JSON.stringify(rows)).toContain("organization.create");
    expect(JSON.stringify(rows)).not.toContain(setupToken);
  });

  test("of concurrent creations with the right token one wins", async () => {
    await empty();
    const keys = await Promise.all(Array.from({ length: 6 }, user));
    const answers = await Promise.all(
      keys.map((key, n) => create(key, { slug: `org-${n}`, setup_token: setupToken })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409, 409]);
    const { rows } = await sql`select from organizations`.execute(server.db);
    expect(rows).toHaveLength(1);
  });

  test("the tenant that a stack makes for itself is the one", async () => {
    await empty();
    const key = await user();
    const [, answer] = await Promise.all([
      ensureDefaultTenant(server.db),
      create(key, { slug: "mine", setup_token: setupToken }),
    ]);
    expect([201, 409]).toContain(answer.status);
    expect((await create(await user(), { slug: "another", setup_token: setupToken })).status).toBe(409);
    expect((await create(await user(), { slug: "default", setup_token: setupToken })).status).toBe(409);
  });

  test("what is wrong with the body is a 400, and a key or nobody a 401", async () => {
    const key = await user();
    for (const body of [
      {},
      { slug: "-" },
      { slug: "019a0000-0000-7000-8000-000000000000" },
      { slug: "a", setup_token: 1 },
      { slug: "a", extra: 1 },
      { slug: "a", name: "n".repeat(81) },
    ]) {
      expect((await create(key, body)).status).toBe(400);
    }
    expect((await server.request("POST", "/organizations", { slug: "a" })).status).toBe(401);
    expect((await server.request("GET", "/organizations", undefined, { key: null })).status).toBe(401);
  });
});

test("without a setup token nobody creates one, and is told which variable is missing", async () => {
  const server = await startTestServer();
  try {
    const { token: key } = await server.newMember(undefined);
    const answer = await server.request("POST", "/organizations", { slug: "a", setup_token: "" }, { key });
    expect(answer).toMatchObject({
      status: 403,
      body: { error: expect.stringContaining("HELMR_SETUP_TOKEN") },
    });
  } finally {
    await server.stop();
  }
});

describe("managed cloud", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({ deploymentMode: "managed-cloud" });
  });
  afterAll(() => server.stop());
  const call = (key: string, method: string, path: string, body?: unknown) =>
    server.request(method, path, body, { key });

  test("a user creates several and goes from one to another", async () => {
    const { token, userId } = await server.newMember("viewer");
    const own = await call(token, "POST", "/organizations", { slug: "own" });
    expect(own).toMatchObject({ status: 201, body: { slug: "own", name: "own" } });
    const second = (await call(token, "POST", "/organizations", { slug: "second" })).body;
    const list = async () => (await call(token, "GET", "/organizations")).body.organizations;
    expect(
      (await list()).map(({ slug, role, selected }: Record<string, unknown>) => [slug, role, selected]),
    ).toEqual([
      [`org-${server.scope.organizationId}`, "viewer", false],
      ["own", "owner", false],
      ["second", "owner", true],
    ]);
    const selected = await call(token, "POST", `/organizations/${own.body.id}/select`);
    expect([selected.status, selected.body]).toEqual([200, own.body]);
    await call(token, "POST", "/projects", { slug: "in-own" });
    expect((await list()).find(({ slug }: { slug: string }) => slug === "own").selected).toBe(true);
    await call(token, "POST", `/organizations/${second.id}/select`, {});
    expect((await call(token, "GET", "/projects")).body.projects).toEqual([]);
    const { rows } = await sql`select organization_id, actor_id from audit_log
      where action = 'organization.select' and actor_id = ${userId} order by id`.execute(server.db);
    expect(rows).toEqual([
      { organization_id: own.body.id, actor_id: userId },
      { organization_id: second.id, actor_id: userId },
    ]);
  });

  test("of concurrent creations with one slug one wins, the others are told that it is taken", async () => {
    const keys = await Promise.all(
      Array.from({ length: 4 }, async () => (await server.newMember(undefined)).token),
    );
    const answers = await Promise.all(
      keys.map((key) => call(key, "POST", "/organizations", { slug: "raced" })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 400, 400, 400]);
    expect(answers.find(({ status }) => status === 400)?.body.error).toBe(
      "slug: raced is taken; choose another",
    );
    const without = keys.filter((_key, n) => answers[n]?.status === 400);
    for (const key of without) {
      expect((await call(key, "GET", "/organizations")).body).toEqual({ organizations: [] });
    }
  });

  test("only where the user is an active member can be selected", async () => {
    const { token } = await server.newMember("owner");
    const { token: stranger } = await server.newMember(undefined);
    const { token: disabled } = await server.newMember("owner", { status: "disabled" });
    const theirs = (await call(token, "POST", "/organizations", { slug: "theirs" })).body;
    const missing = await call(stranger, "POST", `/organizations/${crypto.randomUUID()}/select`);
    for (const [key, id] of [
      [stranger, theirs.id],
      [disabled, server.scope.organizationId],
    ]) {
      const refused = await call(key, "POST", `/organizations/${id}/select`);
      expect([refused.status, refused.body]).toEqual([404, missing.body]);
    }
    expect((await call(disabled, "GET", "/organizations")).body).toEqual({ organizations: [] });
    expect((await call(token, "POST", "/organizations/theirs/select")).status).toBe(400);
  });
});

test("a database that has no organization yet stays so when creation fails", async () => {
  const database = await startTestDatabase();
  try {
    const acting = {
      actor: systemActor("test"),
      userId: crypto.randomUUID(),
      sessionId: crypto.randomUUID(),
    };
    // No such user: the membership cannot be, so neither is the organization.
    await expect(
      createOrganization(database.db, acting, { slug: "a", name: "" }, { onlyOne: true }),
    ).rejects.toThrow();
    const { rows } = await sql`select from organizations`.execute(database.db);
    expect(rows).toEqual([]);
  } finally {
    await database.stop();
  }
});
