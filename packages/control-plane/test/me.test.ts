/** GET /api/me: who is signed in, what they may do, and what they still have to do, in both modes. */
import { rolePermissions } from "@helmr/api";
import { seedMember } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

const meOf = async (server: TestServer, key: string | null) =>
  await server.request("GET", "/me", undefined, { key });
const nothingToDo = {
  organization_required: false,
  project_required: false,
  access_required: false,
  setup_token_required: false,
};

describe.each(["self-hosted", "managed-cloud"] as const)("%s", (deploymentMode) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({ deploymentMode });
  });
  afterAll(() => server.stop());

  test("a member has the organization, the role and its permissions", async () => {
    for (const role of ["owner", "admin", "developer", "viewer"] as const) {
      const { token, userId } = await server.newMember(role);
      const { status, body } = await meOf(server, token);
      expect(status).toBe(200);
      expect(body).toEqual({
        user_id: userId,
        display_name: "Test",
        profile_image_url: "",
        public_url: "http://127.0.0.1",
        org_id: server.scope.organizationId,
        org_name: expect.any(String),
        org_slug: expect.any(String),
        role,
        permissions: [...rolePermissions[role]].sort(),
        ...nothingToDo,
      });
    }
    const { token } = await server.newMember("developer");
    const { permissions } = (await meOf(server, token)).body;
    expect(permissions).toContain("session.input.send");
    expect(permissions).not.toContain("secrets.write");
  });

  test("a member of an organization without projects is to create one", async () => {
    const { rows } = await sql<{ id: string }>`insert into organizations (id, slug, name)
      values (gen_random_uuid(), 'empty', 'Empty') returning id`.execute(server.db);
    const { token } = await seedMember(server.db, String(rows[0]?.id), "owner");
    expect((await meOf(server, token)).body).toMatchObject({
      ...nothingToDo,
      org_name: "Empty",
      project_required: true,
    });
  });

  test("whoever is no member, or no more, is told what to do and nothing of the organization", async () => {
    const isCloud = deploymentMode === "managed-cloud";
    for (const { token } of [
      await server.newMember(undefined),
      await server.newMember("owner", { status: "disabled" }),
    ]) {
      const { body } = await meOf(server, token);
      expect(body).toMatchObject({
        permissions: [],
        ...nothingToDo,
        organization_required: isCloud,
        access_required: !isCloud,
      });
      expect(Object.keys(body).filter((name) => /^org_|^role$/.test(name))).toEqual([]);
    }
  });

  test("needs a user session", async () => {
    expect((await meOf(server, null)).status).toBe(401);
    expect((await meOf(server, server.key)).status).toBe(401);
    expect((await meOf(server, "x".repeat(43))).status).toBe(401);
  });

  test("before the first organization there is one to create", async () => {
    await sql`truncate organizations cascade`.execute(server.db);
    const { token } = await server.newMember(undefined);
    expect((await meOf(server, token)).body).toMatchObject({
      ...nothingToDo,
      organization_required: true,
      setup_token_required: deploymentMode === "self-hosted",
    });
  });
});
