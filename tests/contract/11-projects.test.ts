/** Contract 11: projects, environments and API keys, by signed-in members. */
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "../../packages/control-plane/test/support/server.ts";
import * as shapes from "./support/identity-shapes.ts";
import { expectList, expectShape } from "./support/identity-shapes.ts";

let server: TestServer;
let owner: string;
beforeAll(async () => {
  server = await startTestServer();
  owner = (await server.newMember("owner")).token;
});
afterAll(() => server.stop());
const call = (method: string, path: string, body?: object) =>
  server.request(method, path, body, { key: owner });

let serial = 0;
const newSlug = () => {
  serial += 1;
  return `slug-${serial}`;
};
const newProject = async () => (await call("POST", "/projects", { slug: newSlug(), name: "Name" })).body;

describe("§11 projects", () => {
  test("§11 POST: 201 with the environments production and staging; GET one and all include them", async () => {
    const created = await call("POST", "/projects", { slug: "Upper-Case", name: "Some name" });
    expect(created.status).toBe(201);
    expectShape(created.body, shapes.projectWithEnvironments);
    expect(created.body).toMatchObject({ slug: "upper-case", name: "Some name" });
    const slugs = created.body.environments.map(({ slug }: { slug: string }) => slug);
    expect([...slugs].sort()).toEqual(["production", "staging"]);
    expect((await call("GET", `/projects/${created.body.id}`)).body).toEqual(created.body);
    const list = (await call("GET", "/projects")).body;
    expectList(list, "projects", shapes.projectWithEnvironments);
    expect(list.projects).toContainEqual(created.body);
  });

  test("§11 the name is the slug by default, at most 80 characters", async () => {
    const slug = newSlug();
    expect((await call("POST", "/projects", { slug, name: "" })).body.name).toBe(slug);
    expect((await call("POST", "/projects", { slug: newSlug(), name: "n".repeat(80) })).status).toBe(201);
    expect((await call("POST", "/projects", { slug: newSlug(), name: "n".repeat(81) })).status).toBe(400);
  });

  test.each(["", "-a", "a_b", "a b", "é", "a".repeat(64)])("§11 400 for the slug %j", async (slug) => {
    expect((await call("POST", "/projects", { slug, name: "n" })).status).toBe(400);
  });

  test("§11 a slug that is taken → 400, also in other letters, also by a change", async () => {
    const [one, two] = [await newProject(), await newProject()];
    expect((await call("POST", "/projects", { slug: one.slug.toUpperCase(), name: "n" })).status).toBe(400);
    expect((await call("PATCH", `/projects/${two.id}`, { slug: one.slug, name: "n" })).status).toBe(400);
  });

  test("§11 PATCH: both fields sent, 200 without environments", async () => {
    const project = await newProject();
    const slug = newSlug();
    const changed = await call("PATCH", `/projects/${project.id}`, { slug, name: "New" });
    expect(changed.status).toBe(200);
    expectShape(changed.body, shapes.project);
    expect(changed.body).toMatchObject({ id: project.id, slug, name: "New" });
    for (const body of [{ slug }, { name: "n" }, {}, { slug, name: "n", id: project.id }]) {
      expect((await call("PATCH", `/projects/${project.id}`, body)).status).toBe(400);
    }
  });

  test("§11 DELETE: 204, then it is not there, nor is its slug taken", async () => {
    const project = await newProject();
    const removed = await call("DELETE", `/projects/${project.id}`);
    expect([removed.status, removed.body]).toEqual([204, ""]);
    for (const [method, body] of [
      ["GET", undefined],
      ["DELETE", undefined],
      ["PATCH", { slug: newSlug(), name: "n" }],
    ] as const) {
      expect(await call(method, `/projects/${project.id}`, body)).toMatchObject({
        status: 404,
        body: { error: "project not found" },
      });
    }
    const { projects } = (await call("GET", "/projects")).body;
    expect(projects.map(({ id }: { id: string }) => id)).not.toContain(project.id);
    expect((await call("POST", "/projects", { slug: project.slug, name: "n" })).status).toBe(201);
  });

  test("§11 ids must be UUIDs on these routes: slugs → 400", async () => {
    const project = await newProject();
    for (const path of [`/projects/${project.slug}`, `/projects/${project.slug}/environments/production`]) {
      expect((await call("GET", path)).status).toBe(400);
    }
    expect((await call("GET", `/projects/${project.id}/environments/production`)).status).toBe(400);
  });
});

describe("§11 environments", () => {
  const body = () => ({ slug: newSlug(), name: "Name", color_hex: "#00aabb" });

  test("§11 POST 201, GET 200, PATCH 200, DELETE 204; the color in upper case", async () => {
    const project = await newProject();
    const created = await call("POST", `/projects/${project.id}/environments`, body());
    expect(created.status).toBe(201);
    expectShape(created.body, shapes.environment);
    expect(created.body).toMatchObject({ project_id: project.id, color_hex: "#00AABB" });
    const path = `/projects/${project.id}/environments/${created.body.id}`;
    expect((await call("GET", path)).body).toEqual(created.body);
    const changed = await call("PATCH", path, { ...body(), color_hex: "#ffffff" });
    expect(changed.status).toBe(200);
    expectShape(changed.body, shapes.environment);
    expect(changed.body.color_hex).toBe("#FFFFFF");
    const removed = await call("DELETE", path);
    expect([removed.status, removed.body]).toEqual([204, ""]);
    expect(await call("GET", path)).toMatchObject({ status: 404, body: { error: "environment not found" } });
  });

  test.each([
    { color_hex: "#00aab" },
    { color_hex: "00aabb" },
    { color_hex: "#00aabg" },
    { color_hex: "red" },
  ])("§11 400 for %j", async (change) => {
    const project = await newProject();
    expect(
      (await call("POST", `/projects/${project.id}/environments`, { ...body(), ...change })).status,
    ).toBe(400);
  });

  test("§11 production and staging keep their slugs and cannot be deleted → 400", async () => {
    const project = await newProject();
    for (const { id, slug } of project.environments) {
      const path = `/projects/${project.id}/environments/${id}`;
      expect((await call("PATCH", path, { slug: newSlug(), name: "n", color_hex: "#112233" })).status).toBe(
        400,
      );
      expect((await call("PATCH", path, { slug, name: "Renamed", color_hex: "#112233" })).body.name).toBe(
        "Renamed",
      );
      expect((await call("DELETE", path)).status).toBe(400);
    }
    const taken = await call("POST", `/projects/${project.id}/environments`, {
      ...body(),
      slug: "Production",
    });
    expect(taken.status).toBe(400);
  });

  test("§11 an environment under another project → 404", async () => {
    const [one, two] = [await newProject(), await newProject()];
    const path = `/projects/${one.id}/environments/${two.environments[0].id}`;
    expect((await call("GET", path)).status).toBe(404);
  });
});

describe("§11 API keys", () => {
  const keys = (rest = "") => `${server.prefix}/api-keys${rest}`;
  const create = (more: object = {}) =>
    call("POST", keys(), { name: "some key", permissions: [{ scopes: ["runs:read"] }], ...more });

  test("§11 POST: 201 with raw_key, which works and is shown this once", async () => {
    const created = await create({ expires_in_days: 30 });
    expect(created.status).toBe(201);
    expectShape(created.body, shapes.createdApiKey);
    const { raw_key, ...shown } = created.body;
    expect(shown).toMatchObject({
      name: "some key",
      key_prefix: raw_key.slice(0, 16),
      status: "active",
      last_used_at: null,
      revoked_at: null,
      permissions: [{ scopes: ["runs:read"] }],
    });
    const days = (Date.parse(shown.expires_at) - Date.parse(shown.created_at)) / 86_400_000;
    expect(Math.round(days)).toBe(30);
    expect((await server.request("GET", "/runs", undefined, { key: raw_key })).status).toBe(200);
    const list = (await call("GET", keys())).body;
    expectList(list, "items", shapes.apiKey, { has_more: (value) => value === false });
    expect(JSON.stringify(list)).not.toContain(raw_key);
    const { rows } = await sql<{ row: string }>`select k::text as row from api_keys k`.execute(server.db);
    expect(JSON.stringify(rows)).not.toContain(raw_key);
  });

  test("§11 grants are merged to one entry with each scope once; null is no expiry", async () => {
    const { body } = await create({
      expires_in_days: null,
      permissions: [{ scopes: ["runs:read", "runs:create"] }, { scopes: ["runs:read", "tasks:deploy"] }],
    });
    expect([body.permissions.length, [...body.permissions[0].scopes].sort(), body.expires_at]).toEqual([
      1,
      ["runs:create", "runs:read", "tasks:deploy"],
      null,
    ]);
  });

  test.each([
    [{ name: "" }],
    [{ name: "n".repeat(65) }],
    [{ name: "a\nb" }],
    [{ name: "half \ud800" }],
    [{ expires_in_days: 31 }],
    [{ expires_in_days: 0 }],
    [{ permissions: [] }],
    [{ permissions: [{ scopes: ["runs:all"] }] }],
    [{ permissions: [{ scopes: ["api_keys.manage"] }] }],
    [{ permissions: undefined }],
    [{ unknown: 1 }],
    [{ project_id: "p" }],
  ])("§11 400 for %j", async (change) => {
    expect((await create(change)).status).toBe(400);
  });

  test("§11 DELETE: 204 and the key is over at once; unknown → 404; the filters tell them apart", async () => {
    const active = (await create()).body;
    const revoked = (await create()).body;
    const expired = (await create()).body;
    await sql`update api_keys set expires_at = now() where id = ${expired.id}`.execute(server.db);
    expect((await server.request("GET", "/runs", undefined, { key: revoked.raw_key })).status).toBe(200);
    const removed = await call("DELETE", keys(`/${revoked.id}`));
    expect([removed.status, removed.body]).toEqual([204, ""]);
    expect((await server.request("GET", "/runs", undefined, { key: revoked.raw_key })).status).toBe(401);
    expect((await call("DELETE", keys(`/${crypto.randomUUID()}`))).status).toBe(404);
    const statuses = async (filter: string) => {
      const { items } = (await call("GET", keys(filter))).body;
      const known = [active.id, revoked.id, expired.id];
      return new Map(
        items
          .filter(({ id }: { id: string }) => known.includes(id))
          .map(({ id, status }: { id: string; status: string }) => [id, status]),
      );
    };
    expect(await statuses("")).toEqual(new Map([[active.id, "active"]]));
    expect(await statuses("?filter=active")).toEqual(new Map([[active.id, "active"]]));
    expect(await statuses("?filter=expired")).toEqual(new Map([[expired.id, "expired"]]));
    expect(await statuses("?filter=revoked")).toEqual(new Map([[revoked.id, "revoked"]]));
    expect((await statuses("?filter=all")).size).toBe(3);
    expect((await call("GET", keys("?filter=other"))).status).toBe(400);
  });

  test("§1.4 API keys have prefixed routes only", async () => {
    expect(await call("GET", "/api-keys")).toMatchObject({ status: 404, body: { error: "not found" } });
  });
});
