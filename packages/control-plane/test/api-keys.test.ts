/** API keys: made for one environment, shown once, listed by status, revoked; what they may and whose they are. */
import { apiKeyScopes } from "@helmr/api";
import { seedEnvironment, seedMember } from "@helmr/store/testing";
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createAuthenticator } from "../src/auth/authenticator.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer();
  ({ token: admin } = await server.newMember("admin"));
});
afterAll(() => server.stop());

const call = (method: string, path: string, body?: unknown, key = admin) =>
  server.request(method, `${server.prefix}${path}`, body, { key });
const permissions = [{ scopes: ["runs:read"] }];
const create = async (more: object = {}) =>
  (await call("POST", "/api-keys", { name: "ci", permissions, ...more })).body;

test("a key is shown once, works, and is listed without itself", async () => {
  const created = await call("POST", "/api-keys", {
    name: " deploy ",
    expires_in_days: 30,
    permissions: [{ scopes: ["tasks:deploy", "runs:read"] }, { scopes: ["runs:read"] }],
  });
  expect(created.status).toBe(201);
  const { raw_key, ...key } = created.body;
  expect(raw_key).toMatch(/^hlmr_sk_[A-Za-z0-9_-]{43}$/);
  expect(key).toMatchObject({
    name: "deploy",
    key_prefix: raw_key.slice(0, 16),
    project_id: server.scope.projectId,
    environment_id: server.scope.environmentId,
    permissions: [{ scopes: ["runs:read", "tasks:deploy"] }],
    status: "active",
    last_used_at: null,
    revoked_at: null,
  });
  expect(Date.parse(key.expires_at) - Date.parse(key.created_at)).toBeGreaterThan(29.9 * 86_400_000);
  expect(Date.parse(key.expires_at) - Date.parse(key.created_at)).toBeLessThan(30.1 * 86_400_000);
  const listed = await call("GET", "/api-keys");
  expect(listed.body.items).toContainEqual(key);
  expect(JSON.stringify(listed.body)).not.toContain(raw_key);

  const use = (method: string, path: string) => server.request(method, path, {}, { key: raw_key });
  expect((await server.request("GET", "/runs", undefined, { key: raw_key })).status).toBe(200);
  expect((await use("POST", "/sessions")).status).toBe(403);
});

test("the lists by status, newest first", async () => {
  const [old, expired, revoked] = [await create(), await create(), await create()];
  await sql`update api_keys set expires_at = now() where id = ${expired.id}`.execute(server.db);
  expect((await call("DELETE", `/api-keys/${revoked.id}`)).status).toBe(204);
  const list = async (filter?: string) =>
    (await call("GET", `/api-keys${filter === undefined ? "" : `?filter=${filter}`}`)).body.items;
  const ids = async (filter?: string) => (await list(filter)).map(({ id }: { id: string }) => id);
  expect(await ids()).toContain(old.id);
  expect(await ids()).toEqual(await ids("active"));
  expect(await list("expired")).toMatchObject([{ id: expired.id, status: "expired" }]);
  expect((await list("revoked"))[0]).toMatchObject({ id: revoked.id, status: "revoked" });
  expect(await ids("all")).toEqual(expect.arrayContaining([old.id, expired.id, revoked.id]));
  expect((await ids("all")).slice(0, 3)).toEqual([revoked.id, expired.id, old.id]);
  expect((await call("GET", "/api-keys?filter=nope")).status).toBe(400);
});

test("the list ends at 200 and says that there are more", async () => {
  const other = await seedEnvironment(server.db);
  const { organizationId, projectId, environmentId } = other.scope;
  await sql`insert into api_keys (id, environment_id, name, key_hash, key_prefix, scopes)
    select gen_random_uuid(), ${environmentId}, 'n', sha256(n::text::bytea), 'p', '{}' from generate_series(1, 201) n`.execute(
    server.db,
  );
  const { token } = await seedMember(server.db, organizationId, "owner");
  const path = `/projects/${projectId}/environments/${environmentId}/api-keys`;
  const { body } = await server.request("GET", path, undefined, { key: token });
  expect([body.items.length, body.has_more]).toEqual([200, true]);
  expect(body.items[0].permissions).toBeUndefined();
});

test("a revoked key is refused at once where it was revoked, and revoking it again changes nothing", async () => {
  const { id, raw_key } = await create();
  expect((await server.request("GET", "/runs", undefined, { key: raw_key })).status).toBe(200);
  expect((await call("DELETE", `/api-keys/${id}`)).status).toBe(204);
  expect((await server.request("GET", "/runs", undefined, { key: raw_key })).status).toBe(401);
  expect((await call("DELETE", `/api-keys/${id}`)).status).toBe(204);
  const { rows } = await sql`select action from audit_log where resource_id = ${id} order by id`.execute(
    server.db,
  );
  expect(rows).toEqual([{ action: "api_key.create" }, { action: "api_key.revoke" }]);
});

test("a key carries its creator's role of today", async () => {
  const { token, userId } = await server.newMember("admin");
  const { body } = await call(
    "POST",
    "/api-keys",
    { name: "n", permissions: [{ scopes: ["secrets:write", "runs:read"] }] },
    token,
  );
  const status = async (path: string) =>
    (await server.request("GET", path, undefined, { key: body.raw_key })).status;
  expect(await status("/secrets")).toBe(200);
  const { token: owner } = await server.newMember("owner");
  const demoted = { role: "developer", expected_role: "admin" };
  expect((await server.request("PATCH", `/members/${userId}`, demoted, { key: owner })).status).toBe(200);
  expect(await status("/secrets")).toBe(403);
  expect(await status("/runs")).toBe(200);
});

test("what is wrong is a 400 that names it", async () => {
  for (const [sent, says] of [
    [{ name: "", permissions }, "name"],
    [{ name: "  ", permissions }, "name"],
    [{ name: "n".repeat(65), permissions }, "name"],
    [{ name: "a\nb", permissions }, "name"],
    [{ permissions }, "name"],
    [{ name: "n" }, "permissions"],
    [{ name: "n", permissions: [] }, "permissions"],
    [{ name: "n", permissions: [{ scopes: [] }] }, "permissions.0.scopes"],
    [{ name: "n", permissions: [{ scopes: ["api_keys:manage"] }] }, "permissions.0.scopes.0"],
    [{ name: "n", permissions, expires_in_days: 31 }, "expires_in_days"],
    [{ name: "n", permissions, expires_in_days: "30" }, "expires_in_days"],
    [{ name: "n", permissions, project_id: server.scope.projectId }, "project_id"],
  ] as const) {
    const answer = await call("POST", "/api-keys", sent);
    expect([sent, answer.status]).toEqual([sent, 400]);
    expect(answer.body.error).toContain(says);
  }
  expect((await call("DELETE", "/api-keys/not-a-uuid")).status).toBe(400);
  const forever = await create({ expires_in_days: null, permissions: [{ scopes: apiKeyScopes }] });
  expect(forever).toMatchObject({ expires_at: null, permissions: [{ scopes: apiKeyScopes }] });
});

test("only owners and admins, by session, below the prefix, in their own organization", async () => {
  const { id } = await create();
  for (const role of ["developer", "viewer"] as const) {
    const { token } = await server.newMember(role);
    expect((await call("GET", "/api-keys", undefined, token)).status).toBe(403);
    expect((await call("POST", "/api-keys", { name: "n", permissions }, token)).status).toBe(403);
    expect((await call("DELETE", `/api-keys/${id}`, undefined, token)).status).toBe(403);
  }
  expect((await call("GET", "/api-keys", undefined, server.key)).status).toBe(401);
  expect((await server.request("GET", "/api-keys")).status).toBe(404);
  // Another environment of the same organization, and another organization.
  const project = (await server.request("POST", "/projects", { slug: "second" }, { key: admin })).body;
  const path = `/projects/${project.id}/environments/${project.environments[0].id}/api-keys`;
  expect((await server.request("DELETE", `${path}/${id}`, undefined, { key: admin })).status).toBe(404);
  expect((await server.request("GET", path, undefined, { key: admin })).body.items).toEqual([]);
  const other = await seedEnvironment(server.db);
  const theirs = `/projects/${other.scope.projectId}/environments/${other.scope.environmentId}/api-keys`;
  expect((await server.request("GET", theirs, undefined, { key: admin })).status).toBe(404);
});

test("the last use is noted, and the key itself is nowhere in the database", async () => {
  const { id, raw_key } = await create();
  await server.request("GET", "/runs", undefined, { key: raw_key });
  const other = createAuthenticator(server.db, pino({ level: "silent" }));
  await other.findApiKey(raw_key);
  await other.close();
  await vi.waitUntil(async () => {
    const { items } = (await call("GET", "/api-keys?filter=all")).body;
    return items.find((each: { id: string }) => each.id === id).last_used_at !== null;
  }, 30_000);
  const { rows } = await sql<{ found: boolean }>`select
    exists (select from api_keys k where k::text like ${`%${raw_key}%`})
    or exists (select from audit_log a where a::text like ${`%${raw_key}%`}) as found`.execute(server.db);
  expect(rows).toEqual([{ found: false }]);
});
