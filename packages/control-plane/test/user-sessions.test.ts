/** User sessions as a credential: the prefixed routes, roles, cookies and forgery, and access that is taken away. */
import { revokeUserSession, systemActor } from "@helmr/store";
import { seedEnvironment, seedTask } from "@helmr/store/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";
import { openStream, takeAll } from "./support/sse.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope, { taskId: "hello" });
});
afterAll(() => server.stop());

test("project and environment by UUID or slug, in any case", async () => {
  const { token } = await server.newMember("developer");
  const { projectId, environmentId } = server.scope;
  for (const project of [projectId, projectId.toUpperCase(), "test", "TEST"]) {
    for (const environment of [environmentId, "production", "Production"]) {
      const path = `/projects/${project}/environments/${environment}/runs`;
      expect((await server.request("GET", path, undefined, { key: token })).status).toBe(200);
    }
  }
  for (const path of [
    "/projects/test/environments/nope/runs",
    "/projects/nope/environments/production/runs",
  ]) {
    expect((await server.request("GET", path, undefined, { key: token })).status).toBe(404);
  }
  expect((await server.request("GET", "/runs", undefined, { key: token })).status).toBe(400);
});

test("roles: what a viewer reads, a developer changes, and only an admin sets secrets", async () => {
  const [viewer, developer, admin] = await Promise.all(
    (["viewer", "developer", "admin"] as const).map((role) => server.newMember(role)),
  );
  const status = async (key: string | undefined, method: string, path: string, body?: unknown) =>
    (await server.request(method, `${server.prefix}${path}`, body, { key: key ?? null })).status;
  expect(await status(viewer?.token, "GET", "/runs")).toBe(200);
  expect(await status(viewer?.token, "POST", "/sessions", { task_id: "hello" })).toBe(403);
  expect(await status(developer?.token, "POST", "/sessions", { task_id: "hello" })).toBe(201);
  expect(await status(developer?.token, "PUT", "/secrets/A", { value: "x" })).toBe(403);
  expect(await status(admin?.token, "PUT", "/secrets/A", { value: "x" })).toBe(200);
});

test("who is not an active member of the organization is refused, and another organization's records are not there", async () => {
  const stranger = await server.newMember(undefined);
  const disabled = await server.newMember("owner", { status: "disabled" });
  for (const { token } of [stranger, disabled]) {
    expect((await server.request("GET", `${server.prefix}/runs`, undefined, { key: token })).status).toBe(
      403,
    );
  }
  const other = await seedEnvironment(server.db);
  const { token } = await server.newMember("owner");
  const path = `/projects/${other.scope.projectId}/environments/${other.scope.environmentId}/runs`;
  const hidden = await server.request("GET", path, undefined, { key: token });
  const missing = await server.request("GET", path.replace(/[0-9a-f]{8}\//, "00000000/"), undefined, {
    key: token,
  });
  expect([hidden.status, hidden.body]).toEqual([missing.status, missing.body]);
  expect(hidden.status).toBe(404);
});

describe("the cookie", () => {
  const put = async (headers: Record<string, string>) =>
    (await server.request("PUT", `${server.prefix}/secrets/B`, { value: "x" }, { key: null, headers }))
      .status;

  test("changes things only for our own pages", async () => {
    const { token } = await server.newMember("admin");
    const cookie = `other=1; helmr_session_dev=${token}`;
    expect(await put({ cookie, origin: "http://127.0.0.1" })).toBe(200);
    expect(await put({ cookie, "sec-fetch-site": "same-origin" })).toBe(200);
    for (const headers of [
      { cookie },
      { cookie, origin: "https://evil.example" },
      { cookie, origin: "null" },
      { cookie, "sec-fetch-site": "same-site" },
    ]) {
      expect(await put(headers)).toBe(403);
    }
    const read = await server.request("GET", `${server.prefix}/runs`, undefined, {
      key: null,
      headers: { cookie },
    });
    expect(read.status).toBe(200);
  });

  test("does not count beside an Authorization header", async () => {
    const { token } = await server.newMember("admin");
    const headers = { cookie: `helmr_session_dev=${token}` };
    expect(
      (await server.request("GET", `${server.prefix}/runs`, undefined, { key: "x", headers })).status,
    ).toBe(401);
  });
});

test("an open stream and a waiting request end when access is taken away", async () => {
  const { token, userId } = await server.newMember("developer");
  const started = await server.request(
    "POST",
    `${server.prefix}/sessions`,
    { task_id: "hello" },
    { key: token },
  );
  const stream = await openStream(
    `${server.url}/api${server.prefix}/runs/${started.body.run.id}/events?follow=1`,
    token,
  );
  const waiting = server.request(
    "POST",
    `${server.prefix}/sessions/start-and-wait`,
    { task_id: "hello" },
    { key: token },
  );
  expect(stream.response.status).toBe(200);
  await server.db
    .updateTable("organization_members")
    .set({ status: "disabled", disabled_at: new Date() })
    .where("user_id", "=", userId)
    .execute();
  expect((await takeAll(stream)).map((frame) => frame.data.kind)).toEqual(["run.created"]);
  expect((await waiting).status).toBe(401);
});

test("a revoked session is refused within a second, and every change names who made it", async () => {
  const { token, userId, email } = await server.newMember("developer");
  const started = await server.request(
    "POST",
    `${server.prefix}/sessions`,
    { task_id: "hello" },
    { key: token },
  );
  const record = await server.db
    .selectFrom("audit_log")
    .selectAll()
    .where("resource_id", "=", started.body.session.id)
    .executeTakeFirstOrThrow();
  expect(record).toMatchObject({
    action: "session.start",
    actor_kind: "user",
    actor_id: userId,
    actor_label: email,
    organization_id: server.scope.organizationId,
    environment_id: server.scope.environmentId,
    address: "127.0.0.1",
    request_id: started.headers.get("x-request-id"),
  });
  const { id } = await server.db
    .selectFrom("user_sessions")
    .select("id")
    .where("user_id", "=", userId)
    .executeTakeFirstOrThrow();
  expect(await revokeUserSession(server.db, systemActor("test"), id)).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  expect((await server.request("GET", `${server.prefix}/runs`, undefined, { key: token })).status).toBe(401);
});
