/** Environments: CRUD by id, slugs and colors, the two that are protected. Deletion: deletion.test.ts. */
import { seedEnvironment } from "@helmr/store/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let admin: string;
let project: string;
let environments: { id: string; slug: string }[];
beforeAll(async () => {
  server = await startTestServer();
  ({ token: admin } = await server.newMember("admin"));
  const { body } = await call("POST", "/projects", { slug: "main" });
  project = `/projects/${body.id}`;
  environments = body.environments;
});
afterAll(() => server.stop());

const call = (method: string, path: string, body?: unknown, key = admin) =>
  server.request(method, path, body, { key });
const color_hex = "#00aaff";

test("an environment is created, read, changed and deleted", async () => {
  const created = await call("POST", `${project}/environments`, { slug: "Preview", color_hex });
  expect(created).toMatchObject({
    status: 201,
    body: { slug: "preview", name: "preview", color_hex: "#00AAFF", is_default: false },
  });
  const path = `${project}/environments/${created.body.id}`;
  expect((await call("GET", path)).body).toEqual(created.body);
  const changed = await call("PATCH", path, { slug: "preview-2", name: "P", color_hex: "#ffffff" });
  expect(changed).toMatchObject({
    status: 200,
    body: { slug: "preview-2", name: "P", color_hex: "#FFFFFF" },
  });
  expect((await call("GET", "/projects/main/environments/PREVIEW-2/runs")).status).toBe(200);
  expect((await call("DELETE", path)).status).toBe(204);
  expect((await call("GET", path)).status).toBe(404);
  expect((await call("DELETE", path)).status).toBe(404);
  const listed = (await call("GET", project)).body.environments;
  expect(listed.map(({ slug }: { slug: string }) => slug)).toEqual(["production", "staging"]);
  const records = await server.db
    .selectFrom("audit_log")
    .select(["action", "project_id", "environment_id"])
    .where("resource_id", "=", created.body.id)
    .orderBy("id")
    .execute();
  const ids = { project_id: project.split("/")[2], environment_id: created.body.id };
  expect(records).toEqual(
    ["create", "update", "delete"].map((verb) => ({ ...ids, action: `environment.${verb}` })),
  );
});

test("production and staging keep their slugs and stay", async () => {
  for (const { id, slug } of environments) {
    const path = `${project}/environments/${id}`;
    const renamed = await call("PATCH", path, { slug: "other", name: "x", color_hex });
    expect(renamed).toMatchObject({ status: 400, body: { error: expect.stringContaining(slug) } });
    const changed = await call("PATCH", path, { slug: slug.toUpperCase(), name: "Live", color_hex });
    expect(changed).toMatchObject({ status: 200, body: { slug, name: "Live", color_hex: "#00AAFF" } });
    for (const force of ["", "?force=true"]) {
      expect((await call("DELETE", `${path}${force}`)).status).toBe(400);
    }
  }
});

test("what is wrong is a 400 that names it", async () => {
  const [production] = environments;
  const path = `${project}/environments`;
  const slug = "fine";
  for (const [method, at, sent, says] of [
    ["POST", path, { slug: "staging", color_hex }, "slug: staging is taken"],
    ["POST", path, { slug: "019a0000-0000-7000-8000-000000000000", color_hex }, "slug"],
    ["POST", path, { slug, color_hex: "#12345" }, "color_hex"],
    ["POST", path, { slug, color_hex: "red" }, "color_hex"],
    ["POST", path, { slug }, "color_hex"],
    ["POST", path, { slug, color_hex, name: "n".repeat(81) }, "name"],
    ["POST", path, { slug, color_hex, other: 1 }, "other"],
    ["POST", "/projects/main/environments", { slug, color_hex }, "projectID"],
    ["GET", `${path}/production`, undefined, "environmentID"],
    ["PATCH", `${path}/production`, { slug, name: "", color_hex }, "environmentID"],
    ["DELETE", `${path}/production`, undefined, "environmentID"],
    ["PATCH", `${path}/${production?.id}`, { slug: "production", name: "x" }, "color_hex"],
  ] as const) {
    const answer = await call(method, at, sent);
    expect([method, at, sent, answer.status]).toEqual([method, at, sent, 400]);
    expect(answer.body.error).toContain(says);
  }
});

test("of concurrent environments with one slug one is created", async () => {
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => call("POST", `${project}/environments`, { slug: "raced", color_hex })),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([201, 400, 400, 400, 400]);
});

test("an environment is found below its own project only, and by members only", async () => {
  const [production] = environments;
  const { projectId } = server.scope;
  expect((await call("GET", `/projects/${projectId}/environments/${production?.id}`)).status).toBe(404);
  const other = await seedEnvironment(server.db);
  const path = `/projects/${other.scope.projectId}/environments/${other.scope.environmentId}`;
  for (const [method, at, sent] of [
    ["GET", path],
    ["PATCH", path, { slug: "x", name: "x", color_hex }],
    ["DELETE", path],
    ["GET", `${path}/deletion`],
  ] as const) {
    expect((await call(method, at, sent)).status).toBe(404);
  }
  const { token: developer } = await server.newMember("developer");
  const own = `${project}/environments/${production?.id}`;
  expect((await call("GET", own, undefined, developer)).status).toBe(200);
  expect((await call("PATCH", own, { slug: "x", name: "x", color_hex }, developer)).status).toBe(403);
  expect((await call("DELETE", own, undefined, developer)).status).toBe(403);
  expect((await call("POST", `${project}/environments`, { slug: "x", color_hex }, developer)).status).toBe(
    403,
  );
});
