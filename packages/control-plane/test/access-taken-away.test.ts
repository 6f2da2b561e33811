/** Streams and waits that were open before access was taken away: they end, whoever takes it and however. */
import { revokeApiKey, revokeUserSession, systemActor } from "@helmr/store";
import { seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";
import { openStream, type SseReader, take, takeAll } from "./support/sse.ts";

let server: TestServer;
let runId: string;
let deploymentId: string;
beforeAll(async () => {
  server = await startTestServer();
  deploymentId = (await seedTask(server.db, server.scope, { taskId: "hello" })).deploymentId;
  await sql`update deployments set status = 'building' where id = ${deploymentId}`.execute(server.db);
  runId = (await server.request("POST", "/sessions", { task_id: "hello" })).body.run.id;
});
afterAll(() => server.stop());

const streams = () => [
  `/runs/${runId}/events?follow=1`,
  `/runs/${runId}/logs?follow=1`,
  `/deployments/${deploymentId}/events?follow=1`,
];

async function open(key: string, prefix = "", paths = streams()): Promise<SseReader[]> {
  const opened = await Promise.all(paths.map((path) => openStream(`${server.url}/api${prefix}${path}`, key)));
  expect(opened.map(({ response }) => response.status)).toEqual(paths.map(() => 200));
  return opened;
}

/** Nothing ends these streams but the server's own asking: the run is queued and the build goes on. */
async function expectEnd(opened: readonly SseReader[]): Promise<void> {
  await Promise.all(opened.map(takeAll));
}

const idOfKey = async (key: string) =>
  (
    await server.db
      .selectFrom("api_keys")
      .select("id")
      .where("key_prefix", "=", key.slice(0, 16))
      .executeTakeFirstOrThrow()
  ).id;
const keyOf = (userId: string, scopes?: readonly string[]) =>
  server.newKey({ ...server.scope, actor: { kind: "user", id: userId, label: "creator" } }, scopes);
const changeMember = (userId: string, change: object) =>
  server.db.updateTable("organization_members").set(change).where("user_id", "=", userId).execute();

describe("streams end", () => {
  test("when the key is revoked", async () => {
    const key = await server.newKey();
    const opened = await open(key);
    await revokeApiKey(server.db, server.scope, await idOfKey(key));
    await expectEnd(opened);
  });

  test("when the key expires", async () => {
    const key = await server.newKey();
    const opened = await open(key);
    await sql`update api_keys set expires_at = now() where id = ${await idOfKey(key)}`.execute(server.db);
    await expectEnd(opened);
  });

  test("when the key's creator is disabled", async () => {
    const { userId } = await server.newMember("developer");
    const opened = await open(await keyOf(userId));
    await changeMember(userId, { status: "disabled", disabled_at: new Date() });
    await expectEnd(opened);
  });

  test("when the creator's role goes below what the key was used for, and only then", async () => {
    const { userId } = await server.newMember("developer");
    const [paths] = [streams().slice(2)];
    // A viewer reads runs, but does not deploy.
    const [reading] = await open(await keyOf(userId, ["runs:read"]), "", streams().slice(0, 1));
    const deploying = await open(await keyOf(userId, ["tasks:deploy"]), "", paths);
    await changeMember(userId, { role: "viewer" });
    await expectEnd(deploying);
    if (reading === undefined) throw new Error("no stream was opened");
    // It still tells what happens next.
    const { body } = await server.request("POST", "/sessions", { task_id: "hello" });
    const [watched] = await open(await keyOf(userId, ["runs:read"]), "", [
      `/runs/${body.run.id}/events?follow=1`,
    ]);
    if (watched === undefined) throw new Error("no stream was opened");
    expect((await take(reading, 1))[0]?.data.kind).toBe("run.created");
    await server.request("POST", `/runs/${body.run.id}/cancel`, {});
    expect((await takeAll(watched)).at(-1)?.data.kind).toBe("run.cancelled");
    await reading.close();
  });

  test("when the session is revoked", async () => {
    const { token, userId } = await server.newMember("viewer");
    const opened = await open(token, server.prefix);
    const { id } = await server.db
      .selectFrom("user_sessions")
      .select("id")
      .where("user_id", "=", userId)
      .executeTakeFirstOrThrow();
    await revokeUserSession(server.db, systemActor("test"), id);
    await expectEnd(opened);
  });

  test("when the session expires", async () => {
    const { token, userId } = await server.newMember("viewer");
    const opened = await open(token, server.prefix);
    await sql`update user_sessions set expires_at = now() where user_id = ${userId}`.execute(server.db);
    await expectEnd(opened);
  });

  test("when the environment or its project is deleted, for keys and sessions", async () => {
    const { token } = await server.newMember("owner");
    const asOwner = (method: string, path: string, body?: object) =>
      server.request(method, path, body, { key: token });
    const project = (await asOwner("POST", "/projects", { slug: "doomed", name: "Doomed" })).body;
    const environment = await asOwner("POST", `/projects/${project.id}/environments`, {
      slug: "doomed",
      name: "Doomed",
      color_hex: "#112233",
    });
    const [production] = project.environments;
    const opened: SseReader[] = [];
    for (const { id } of [environment.body, production]) {
      const scope = { ...server.scope, projectId: project.id, environmentId: id };
      await seedTask(server.db, scope, { taskId: "hello" });
      const key = await server.newKey(scope);
      const { body } = await server.request("POST", "/sessions", { task_id: "hello" }, { key });
      const paths = [`/runs/${body.run.id}/events?follow=1`, `/runs/${body.run.id}/logs?follow=1`];
      opened.push(...(await open(key, "", paths)));
      opened.push(...(await open(token, `/projects/${project.id}/environments/${id}`, paths)));
    }
    // Work is live there: without force nothing is deleted, and nothing ends.
    expect((await asOwner("DELETE", `/projects/${project.id}`)).status).toBe(409);
    const one = `/projects/${project.id}/environments/${environment.body.id}`;
    expect((await asOwner("DELETE", `${one}?force=true`)).status).toBe(204);
    await expectEnd(opened.slice(0, 4));
    expect((await asOwner("DELETE", `/projects/${project.id}?force=true`)).status).toBe(204);
    await expectEnd(opened.slice(4));
  });

  test("when the member is disabled, and when the membership is gone", async () => {
    const [one, two] = [await server.newMember("owner"), await server.newMember("owner")];
    const opened = [...(await open(one.token, server.prefix)), ...(await open(two.token, server.prefix))];
    await changeMember(one.userId, { status: "disabled", disabled_at: new Date() });
    await sql`delete from organization_members where user_id = ${two.userId}`.execute(server.db);
    await expectEnd(opened);
  });
});

describe("a request that waits ends", () => {
  const wait = (key: string, prefix = "") =>
    server.request(
      "POST",
      `${prefix}/sessions/start-and-wait`,
      { task_id: "hello", timeout_seconds: 300 },
      { key },
    );
  const started = async (before: number) => {
    for (;;) {
      const { body } = await server.request("GET", "/sessions?limit=200");
      if (body.sessions.length > before) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const count = async () =>
    (await server.request("GET", "/sessions?limit=200")).body.sessions.length as number;

  test("when the member may no longer start runs", async () => {
    const { token, userId } = await server.newMember("developer");
    const before = await count();
    const waiting = wait(token, server.prefix);
    await started(before);
    await changeMember(userId, { role: "viewer" });
    expect((await waiting).status).toBe(401);
  });

  test("when the key is revoked", async () => {
    const key = await server.newKey();
    const before = await count();
    const waiting = wait(key);
    await started(before);
    await revokeApiKey(server.db, server.scope, await idOfKey(key));
    expect((await waiting).status).toBe(401);
  });
});
