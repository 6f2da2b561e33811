/** The audit log as owners and admins read it: whose records, in which order, by which filter, at which cost. */
import { readFile } from "node:fs/promises";
import { apiKeyScopes } from "@helmr/api";
import { auditActions, listAuditRecords } from "@helmr/store";
import { seedEnvironment, seedMember, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let owner: { token: string; userId: string; email: string };
beforeAll(async () => {
  server = await startTestServer();
  owner = await server.newMember("owner");
});
afterAll(() => server.stop());

const call = (key: string, method: string, path: string, body?: unknown) =>
  server.request(method, path, body, { key });
const read = async (query = "", key = owner.token) => (await call(key, "GET", `/audit-log${query}`)).body;

test("who did what to which record, from where", async () => {
  const created = await call(owner.token, "POST", "/projects", { slug: "seen" });
  const { records } = await read(`?resource_id=${created.body.id}`);
  expect(records).toEqual([
    {
      id: expect.any(String),
      at: expect.any(String),
      actor: { kind: "user", id: owner.userId, label: owner.email },
      action: "project.create",
      resource_kind: "project",
      resource_id: created.body.id,
      project_id: created.body.id,
      address: "127.0.0.1",
      user_agent: expect.any(String),
      request_id: created.headers.get("x-request-id"),
      attributes: { slug: "seen" },
    },
  ]);
});

test("an API key's changes name the key, the system's name its part", async () => {
  await seedTask(server.db, server.scope, { taskId: "audited" });
  const { body } = await server.request("POST", "/sessions", { task_id: "audited" });
  const { records } = await read(`?resource_id=${body.session.id}`);
  expect(records).toMatchObject([
    {
      actor: { kind: "api_key", label: "test" },
      action: "session.start",
      environment_id: server.scope.environmentId,
    },
  ]);
  expect((await read("?action=api_key.create")).records[0].actor).toEqual({ kind: "system", label: "test" });
});

test("pages, newest first, each record once, also while others are written", async () => {
  for (let n = 0; n < 7; n += 1) await call(owner.token, "POST", "/projects", { slug: `page-${n}` });
  const seen: string[] = [];
  let page = await read("?limit=3&action=project.create");
  for (let n = 0; ; n += 1) {
    seen.push(...page.records.map(({ attributes }: { attributes: { slug: string } }) => attributes.slug));
    if (!page.has_more) break;
    await call(owner.token, "POST", "/projects", { slug: `meanwhile-${n}` });
    page = await read(`?limit=3&action=project.create&before=${page.records.at(-1).id}`);
  }
  expect(seen.filter((slug) => slug.startsWith("page-"))).toEqual(
    [6, 5, 4, 3, 2, 1, 0].map((n) => `page-${n}`),
  );
  expect(new Set(seen).size).toBe(seen.length);
  const { records } = await read(`?actor_id=${owner.userId}&action=project.create&limit=200`);
  expect(records.every((record: { actor: { id: string } }) => record.actor.id === owner.userId)).toBe(true);
  expect((await read(`?actor_id=${crypto.randomUUID()}`)).records).toEqual([]);
});

test("another organization's records are never shown, whatever the filter", async () => {
  const other = await seedEnvironment(server.db);
  const theirs = await seedMember(server.db, other.scope.organizationId, "owner");
  const project = (await call(theirs.token, "POST", "/projects", { slug: "hidden" })).body;
  const [record] = (await read(`?resource_id=${project.id}`, theirs.token)).records;
  expect(record.action).toBe("project.create");
  for (const query of [
    "?limit=200",
    `?resource_id=${project.id}`,
    `?actor_id=${theirs.userId}`,
    "?action=project.create&limit=200",
    `?before=${"f".repeat(8)}-ffff-ffff-ffff-${"f".repeat(12)}&limit=200`,
  ]) {
    const { records } = await read(query);
    expect(records.map(({ id }: { id: string }) => id)).not.toContain(record.id);
    expect(JSON.stringify(records)).not.toContain(project.id);
  }
  const { records } = await read("?limit=200", theirs.token);
  expect(JSON.stringify(records)).not.toContain(owner.userId);
});

test("owners and admins only", async () => {
  expect((await call((await server.newMember("admin")).token, "GET", "/audit-log")).status).toBe(200);
  for (const role of ["developer", "viewer"] as const) {
    expect((await call((await server.newMember(role)).token, "GET", "/audit-log")).status).toBe(403);
  }
  expect((await server.request("GET", "/audit-log")).status).toBe(401);
  for (const query of ["limit=0", "limit=201", "before=x", "action=x", "actor_id=x", "resource_id="]) {
    expect((await call(owner.token, "GET", `/audit-log?${query}`)).status).toBe(400);
  }
});

test("no secret gets into it, and a page costs no more than a page", async () => {
  const values = { secret: "PLANTED-secret-value", payload: "PLANTED-payload" };
  await server.request("PUT", "/secrets/PLANTED", { value: values.secret });
  await server.request("POST", "/sessions", { task_id: "audited", payload: { text: values.payload } });
  const made = await call(owner.token, "POST", `${server.prefix}/api-keys`, {
    name: "n",
    permissions: [{ scopes: ["runs:read"] }],
  });
  const invited = await call(owner.token, "POST", "/invitations", { email: "i@example.com", role: "viewer" });
  const { rows } = await sql<{ text: string }>`select a::text as text from audit_log a`.execute(server.db);
  const all = rows.map(({ text }) => text).join("\n");
  expect(all).toContain("secret.set");
  expect(all).toContain("invitation.create");
  const token = new URL(invited.body.invite_url).searchParams.get("token") ?? "";
  for (const hidden of [...Object.values(values), made.body.raw_key, token, owner.token, server.key]) {
    expect(hidden).not.toBe("");
    expect(all.includes(hidden)).toBe(false);
  }

  const { organizationId } = server.scope;
  await sql`insert into audit_log (id, organization_id, actor_kind, actor_id, actor_label, action, resource_kind, resource_id)
    select gen_random_uuid(), case when n % 2 = 0 then ${organizationId}::uuid else gen_random_uuid() end, 'user',
      gen_random_uuid(), 'filler', 'session.start', 'session', n::text from generate_series(1, 20000) n`.execute(
    server.db,
  );
  await sql`analyze audit_log`.execute(server.db);
  const limit = 50;
  const rare = { before: undefined, limit };
  for (const filter of [
    rare,
    { ...rare, action: "secret.set" },
    { ...rare, action: "session.start", before: "80000000-0000-7000-8000-000000000000" },
    { ...rare, actorId: owner.userId },
    { ...rare, resourceId: "PLANTED" },
    { ...rare, resourceId: "nothing" },
  ]) {
    // A connection's statistics are its own until they are flushed: one connection does all of it.
    const read = await server.db.connection().execute(async (db) => {
      const count = async () => {
        await sql`select pg_stat_force_next_flush()`.execute(db);
        const { rows } = await sql<{
          n: number;
        }>`select seq_tup_read + idx_tup_fetch as n from pg_stat_user_tables
          where relname = 'audit_log'`.execute(db);
        return rows[0]?.n ?? 0;
      };
      // The generic plan is used from the sixth execution on.
      for (let n = 0; n < 7; n += 1) await listAuditRecords(db, organizationId, filter);
      const before = await count();
      await listAuditRecords(db, organizationId, filter);
      return (await count()) - before;
    });
    expect(read, JSON.stringify(filter)).toBeLessThanOrEqual(limit + 10);
  }
});

test("docs/concepts.md names every action and every scope, and no other", async () => {
  const text = await readFile(new URL("../../../docs/concepts.md", import.meta.url), "utf8");
  const section = (title: string) => text.split(`## ${title}\n`)[1]?.split("\n## ")[0] ?? "";
  const inTable = (title: string) =>
    section(title)
      .split("\n")
      .filter((line) => line.startsWith("|"))
      .flatMap((line) => [...line.matchAll(/`([^`]+)`/g)].map(([, word]) => word));
  expect(inTable("Audit log").sort()).toEqual([...auditActions].sort());
  expect(inTable("API keys").sort()).toEqual([...apiKeyScopes].sort());
});
