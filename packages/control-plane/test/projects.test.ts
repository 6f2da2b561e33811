/** Projects: CRUD by id, slugs, the default project, who may, and whose they are. */
import { seedEnvironment, seedMember } from "@helmr/store/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer({ deploymentMode: "managed-cloud" });
  ({ token: admin } = await server.newMember("admin"));
});
afterAll(() => server.stop());

const call = (method: string, path: string, body?: unknown, key = admin) =>
  server.request(method, path, body, { key });
/** An organization of its own, made through the API. */
async function newOrganization(): Promise<string> {
  const { token } = await server.newMember(undefined);
  const slug = `org-${crypto.randomUUID().slice(0, 8)}`;
  expect((await call("POST", "/organizations", { slug }, token)).status).toBe(201);
  return token;
}

test("a project is created with production and staging, read, listed and renamed", async () => {
  const created = await call("POST", "/projects", { slug: "Shop", name: "The shop" });
  expect(created).toMatchObject({ status: 201, body: { slug: "shop", name: "The shop" } });
  const { id, environments } = created.body;
  expect(environments.map((each: { slug: string }) => each.slug)).toEqual(["production", "staging"]);
  expect(environments[0]).toMatchObject({ project_id: id, is_default: true, color_hex: "#16A34A" });
  expect((await call("GET", `/projects/${id.toUpperCase()}`)).body).toEqual(created.body);
  const listed = await call("GET", "/projects");
  expect(listed.body.projects).toContainEqual(created.body);

  const renamed = await call("PATCH", `/projects/${id}`, { slug: "STORE", name: "" });
  expect(renamed).toMatchObject({ status: 200, body: { id, slug: "store", name: "store" } });
  expect(renamed.body.environments).toBeUndefined();
  const byNewSlug = await call("GET", "/projects/store/environments/staging/runs");
  expect(byNewSlug.status).toBe(200);
  expect((await call("GET", "/projects/shop/environments/staging/runs")).status).toBe(404);
});

test("what is wrong with a body or an id is a 400 that names it", async () => {
  const { body } = await call("POST", "/projects", { slug: "taken" });
  for (const [method, path, sent, says] of [
    ["POST", "/projects", { slug: "TAKEN", name: "x" }, "slug: taken is taken"],
    ["POST", "/projects", { slug: "-a" }, "slug"],
    ["POST", "/projects", { slug: "a".repeat(64) }, "slug"],
    ["POST", "/projects", { slug: "019a0000-0000-7000-8000-000000000000" }, "slug"],
    ["POST", "/projects", { slug: "a_b" }, "slug"],
    ["POST", "/projects", { name: "no slug" }, "slug"],
    ["POST", "/projects", { slug: "long", name: "n".repeat(81) }, "name"],
    ["POST", "/projects", { slug: "control", name: "a\u0000b" }, "name"],
    ["POST", "/projects", { slug: "unknown", color: "x" }, "color"],
    ["POST", "/projects", undefined, "empty"],
    ["PATCH", `/projects/${body.id}`, { name: "only" }, "slug"],
    ["PATCH", `/projects/${body.id}`, { slug: "only" }, "name"],
    ["PATCH", `/projects/${body.id}`, { slug: "test", name: "x" }, "slug: test is taken"],
    ["GET", "/projects/taken", undefined, "projectID"],
    ["PATCH", "/projects/taken", { slug: "x", name: "x" }, "projectID"],
    ["DELETE", "/projects/taken", undefined, "projectID"],
    ["GET", "/projects/taken/deletion", undefined, "projectID"],
    ["DELETE", `/projects/${body.id}?force=yes`, undefined, "force"],
  ] as const) {
    const answer = await call(method, path, sent);
    expect([method, path, sent, answer.status]).toEqual([method, path, sent, 400]);
    expect(answer.body.error).toContain(says);
  }
});

test("of concurrent projects with one slug one is created", async () => {
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => call("POST", "/projects", { slug: "raced" })),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([201, 400, 400, 400, 400]);
});

test("the first project is the default, which passes on, and the last one stays", async () => {
  const owner = await newOrganization();
  const create = async (slug: string) => (await call("POST", "/projects", { slug }, owner)).body;
  const raced = await Promise.all(["one", "two", "three"].map(create));
  expect(raced.filter(({ is_default }) => is_default)).toHaveLength(1);
  const first = raced.find(({ is_default }) => is_default);
  expect((await call("DELETE", `/projects/${first.id}`, undefined, owner)).status).toBe(204);
  expect((await call("GET", `/projects/${first.id}`, undefined, owner)).status).toBe(404);
  const { projects } = (await call("GET", "/projects", undefined, owner)).body;
  expect(projects.map((each: { is_default: boolean }) => each.is_default).sort()).toEqual([false, true]);
  // The slug is free at once.
  expect((await call("POST", "/projects", { slug: first.slug }, owner)).status).toBe(201);

  const left = (await call("GET", "/projects", undefined, owner)).body.projects;
  const answers = await Promise.all(
    left.map(({ id }: { id: string }) => call("DELETE", `/projects/${id}`, undefined, owner)),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([204, 204, 400]);
  const [last] = (await call("GET", "/projects", undefined, owner)).body.projects;
  expect(last.is_default).toBe(true);
  expect((await call("DELETE", `/projects/${last.id}?force=true`, undefined, owner)).status).toBe(400);
});

test("members read, admins and owners change, API keys do neither", async () => {
  const { body } = await call("POST", "/projects", { slug: "guarded" });
  for (const role of ["viewer", "developer"] as const) {
    const { token } = await server.newMember(role);
    expect((await call("GET", "/projects", undefined, token)).status).toBe(200);
    expect((await call("GET", `/projects/${body.id}`, undefined, token)).status).toBe(200);
    for (const [method, path, sent] of [
      ["POST", "/projects", { slug: "x" }],
      ["PATCH", `/projects/${body.id}`, { slug: "x", name: "x" }],
      ["DELETE", `/projects/${body.id}`, undefined],
      ["GET", `/projects/${body.id}/deletion`, undefined],
    ] as const) {
      expect((await call(method, path, sent, token)).status).toBe(403);
    }
  }
  const { token: owner } = await server.newMember("owner");
  expect((await call("POST", "/projects", { slug: "by-owner" }, owner)).status).toBe(201);
  const withKey = await server.request("GET", "/projects");
  expect(withKey).toMatchObject({ status: 401, body: { error: "session authentication is required" } });
});

test("another organization's projects are not there", async () => {
  const other = await seedEnvironment(server.db);
  const { projectId, environmentId, organizationId } = other.scope;
  const { token } = await seedMember(server.db, organizationId, "owner");
  const listed = async (key: string) =>
    (await call("GET", "/projects", undefined, key)).body.projects.map(({ id }: { id: string }) => id);
  expect(await listed(token)).toEqual([projectId]);
  expect(await listed(admin)).not.toContain(projectId);
  const missing = "019a0000-0000-7000-8000-000000000000";
  for (const [method, path, sent] of [
    ["GET", `/projects/${projectId}`],
    ["PATCH", `/projects/${projectId}`, { slug: "x", name: "x" }],
    ["DELETE", `/projects/${projectId}`],
    ["GET", `/projects/${projectId}/deletion`],
    ["POST", `/projects/${projectId}/environments`, { slug: "x", color_hex: "#000000" }],
    ["GET", `/projects/${projectId}/environments/${environmentId}`],
  ] as const) {
    const hidden = await call(method, path, sent);
    expect(hidden.status).toBe(404);
    const absent = await call(method, path.replace(projectId, missing), sent);
    expect(hidden.body).toEqual(absent.body);
  }
});

test("each change is on record with who made it and from where", async () => {
  const { token, userId, email } = await server.newMember("admin");
  const headers = { "user-agent": "test-agent" };
  const { body } = await server.request("POST", "/projects", { slug: "recorded" }, { key: token, headers });
  await call("PATCH", `/projects/${body.id}`, { slug: "recorded-2", name: "R" }, token);
  await call("DELETE", `/projects/${body.id}`, undefined, token);
  const records = await server.db
    .selectFrom("audit_log")
    .selectAll()
    .where("resource_id", "=", body.id)
    .orderBy("id")
    .execute();
  expect(records.map(({ action }) => action)).toEqual(["project.create", "project.update", "project.delete"]);
  expect(records[0]).toMatchObject({
    organization_id: server.scope.organizationId,
    project_id: body.id,
    actor_kind: "user",
    actor_id: userId,
    actor_label: email,
    address: "127.0.0.1",
    user_agent: "test-agent",
    attributes: { slug: "recorded" },
  });
});
