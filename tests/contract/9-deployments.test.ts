/** Contract 9 and 10: deployments, what the current one declares, secrets. Builds with guests: tests/contract.e2e.test.ts. */
import { createHash } from "node:crypto";
import { seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { pack } from "tar-stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "../../packages/control-plane/test/support/server.ts";
import { openStream, takeAll } from "../../packages/control-plane/test/support/sse.ts";
import * as shapes from "./support/shapes.ts";
import { expectList, expectShape } from "./support/shapes.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());
const get = (path: string) => server.request("GET", path);

let serial = 0;
async function newTar(): Promise<Buffer<ArrayBuffer>> {
  serial += 1;
  const archive = pack();
  const manifest = { packageManager: "npm@11.0.0", dependencies: { "@helmr/sdk": "*" }, serial };
  archive.entry({ name: "package.json" }, JSON.stringify(manifest));
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function upload(tar: Buffer<ArrayBuffer>, more: object = {}, sourceFirst = false) {
  const content_hash = `sha256:${createHash("sha256").update(tar).digest("hex")}`;
  const form = new FormData();
  const metadata = JSON.stringify({ project_id: "", content_hash, ...more });
  if (!sourceFirst) form.append("metadata", metadata);
  form.append("deployment_source", new Blob([tar]), "deployment-source.tar");
  if (sourceFirst) form.append("metadata", metadata);
  return await server.request("POST", "/deployments", undefined, { raw: form });
}

describe("§9 without a deployment", () => {
  test("§9 current is null, tasks and sandboxes are empty", async () => {
    expect((await get("/deployments/current")).body).toEqual({ deployment: null });
    expect((await get("/deployments")).body).toEqual({ deployments: [] });
    expect((await get("/tasks")).body).toEqual({ tasks: [] });
    expect((await get("/sandboxes")).body).toEqual({ sandboxes: [] });
    expect(await get("/tasks/hello")).toMatchObject({ status: 404 });
    expect(await get("/sandboxes/box")).toMatchObject({ status: 404 });
  });
});

describe("§9.1 upload", () => {
  test("§9.1 201 Deployment; the same content while it is queued is the same deployment, still 201", async () => {
    const tar = await newTar();
    const versions = {
      api_version: "2026-06-06",
      sdk_version: "0.1.0",
      cli_version: "0.1.0",
      bundle_format_version: 2,
      worker_protocol_version: "helmr.worker.v1",
    };
    const first = await upload(tar, versions);
    expect(first.status).toBe(201);
    expectShape(first.body, shapes.deployment);
    expect(first.body.version).toMatch(/^\d{8}\.\d+$/);
    expect(first.body).toMatchObject({
      status: "queued",
      tasks: [],
      building_at: null,
      built_at: null,
      deployed_at: null,
      failed_at: null,
      deployment_source: {
        media_type: "application/vnd.helmr.deployment-source.v0.tar",
        size_bytes: tar.length,
      },
    });
    const again = await upload(tar);
    expect([again.status, again.body.id]).toEqual([201, first.body.id]);
    await sql`update deployments set status = 'failed', failed_at = now() where id = ${first.body.id}`.execute(
      server.db,
    );
    expect((await upload(tar)).body.id).not.toBe(first.body.id);
    // Creation does not promote.
    expect((await get("/deployments/current")).body).toEqual({ deployment: null });
  });

  test.each([
    ["unknown keys", { unknown: 1 }],
    ["a project", { project_id: "p" }],
    ["an environment", { environment_id: "e" }],
    ["another API version", { api_version: "2020-01-01" }],
    ["another format", { bundle_format_version: 3 }],
    ["another protocol", { worker_protocol_version: "helmr.worker.v2" }],
    ["another hash", { content_hash: `sha256:${"0".repeat(64)}` }],
    ["no hash", { content_hash: undefined }],
    ["a hash without its kind", { content_hash: "0".repeat(64) }],
  ])("§9.1 400 for metadata with %s", async (_name, more) => {
    expect((await upload(await newTar(), more)).status).toBe(400);
  });

  test("§9.1 400 for the wrong order of parts, for what is no tar, and for another content type", async () => {
    expect((await upload(await newTar(), {}, true)).status).toBe(400);
    expect((await upload(Buffer.from("no tar"))).status).toBe(400);
    expect((await server.request("POST", "/deployments", { metadata: {} })).status).toBe(400);
  });
});

describe("§9 reading and promoting", () => {
  test("§9 list: newest first, limit 1..200, tasks always []", async () => {
    const { body } = await upload(await newTar());
    const list = (await get("/deployments")).body;
    expectList(list, "deployments", shapes.deployment);
    expect(list.deployments[0].id).toBe(body.id);
    for (const { tasks } of list.deployments) expect(tasks).toEqual([]);
    expect((await get("/deployments?limit=1")).body.deployments).toHaveLength(1);
    for (const limit of ["0", "201", "x"])
      expect((await get(`/deployments?limit=${limit}`)).status).toBe(400);
  });

  test("§9 get: UUID only; unknown → 404", async () => {
    const { body } = await upload(await newTar());
    for (const path of ["", "/events"]) {
      expect((await get(`/deployments/${body.version}${path}`)).status).toBe(400);
      expect((await get(`/deployments/${crypto.randomUUID()}${path}`)).body).toEqual({
        error: "deployment not found",
      });
    }
  });

  test("§9 promote: by UUID or version, body optional, tasks null; not deployable → 400", async () => {
    const { body } = await upload(await newTar());
    const promote = (name: string, request?: object) =>
      server.request("POST", `/deployments/${name}/promote`, request);
    expect(await promote(body.id)).toMatchObject({
      status: 400,
      body: { error: "deployment is not deployable" },
    });
    await sql`update deployments set status = 'deployed', built_at = now(), deployed_at = now() where id = ${body.id}`.execute(
      server.db,
    );
    for (const answer of [
      await promote(body.id),
      await promote(body.version, { reason: "deploy" }),
      await promote(body.id, {}),
    ]) {
      expect(answer.status).toBe(200);
      expectShape(answer.body, shapes.deployment);
      expect(answer.body.tasks).toBeNull();
    }
    expect((await promote(body.id, { project_id: "x" })).status).toBe(400);
    expect((await promote(body.id, { unknown: "x" })).status).toBe(400);
    for (const missing of [crypto.randomUUID(), "20200101.1"])
      expect((await promote(missing)).status).toBe(404);
    expect((await get("/deployments/current")).body.deployment.id).toBe(body.id);
  });

  test("§9.3 events: a page as in §6, deployment_id instead of run_id, the text for people in message", async () => {
    const { body } = await upload(await newTar());
    const page = (await get(`/deployments/${body.id}/events`)).body;
    expectShape(page, shapes.eventPage);
    expect(page.events[0]).toMatchObject({
      id: "1",
      deployment_id: body.id,
      kind: "deployment.queued",
      category: "lifecycle",
      attributes: { status: "queued" },
    });
    expect(page.events[0]).not.toHaveProperty("run_id");
    expect(page.events[0].message).not.toBe("deployment.queued");
    await sql`update deployments set status = 'failed', failed_at = now() where id = ${body.id}`.execute(
      server.db,
    );
    const stream = await openStream(`${server.url}/api/deployments/${body.id}/events?follow=1`, server.key);
    const frames = await takeAll(stream);
    expect(frames.map(({ id, event }) => [id, event])).toEqual([["1", "deployment_event"]]);
    expectShape(frames[0]?.data, shapes.event);
  });

  test("§9.2 the current deployment's tasks and sandboxes", async () => {
    const { deploymentId } = await seedTask(server.db, server.scope, { taskId: "hello" });
    const tasks = (await get("/tasks")).body;
    expectList(tasks, "tasks", shapes.task);
    const sandboxes = (await get("/sandboxes")).body;
    expectList(sandboxes, "sandboxes", shapes.sandbox);
    expect((await get("/tasks/hello")).body).toEqual(tasks.tasks[0]);
    expect((await get("/sandboxes/box")).body).toEqual(sandboxes.sandboxes[0]);
    const { deployment } = (await get("/deployments/current")).body;
    expectShape(deployment, shapes.deployment);
    expect([deployment.id, deployment.tasks]).toEqual([deploymentId, tasks.tasks]);
    expect((await get(`/deployments/${deploymentId}`)).body.tasks).toEqual(tasks.tasks);
    expect((await get("/tasks/other")).body).toEqual({ error: "task not found" });
    expect((await get("/sandboxes/other")).body).toEqual({ error: "sandbox not found" });
  });
});

describe("§10 secrets", () => {
  test("§10 put creates or overwrites; get, list and delete; a value never comes back", async () => {
    const put = await server.request("PUT", "/secrets/A.b_c-1", { value: "hidden-value" });
    expect(put.status).toBe(200);
    expectShape(put.body, shapes.secret);
    const over = await server.request("PUT", "/secrets/A.b_c-1", { value: "" });
    expect([over.status, over.body.created_at]).toEqual([200, put.body.created_at]);
    expect(over.body.updated_at > put.body.updated_at).toBe(true);
    expect((await get("/secrets/A.b_c-1")).body).toEqual(over.body);
    const list = (await get("/secrets")).body;
    expectList(list, "secrets", shapes.secret);
    expect(JSON.stringify([put.body, over.body, list])).not.toContain("hidden");
    const removed = await server.request("DELETE", "/secrets/A.b_c-1");
    expect([removed.status, removed.body]).toEqual([204, ""]);
    expect((await server.request("DELETE", "/secrets/A.b_c-1")).status).toBe(404);
    expect((await get("/secrets/A.b_c-1")).body).toEqual({ error: "secret not found" });
  });

  test.each([
    ["-a", { value: "v" }],
    [".a", { value: "v" }],
    ["a".repeat(129), { value: "v" }],
    ["a%2Fb", { value: "v" }],
    ["A", {}],
    ["A", { value: null }],
    ["A", { value: "v", project_id: "p" }],
    ["A", { value: "v", environment_id: "e" }],
    ["A", { value: "v", name: "A" }],
    ["A", { value: "half \ud800" }],
  ])("§10 400 for PUT /secrets/%s with %j", async (name, body) => {
    expect((await server.request("PUT", `/secrets/${name}`, body)).status).toBe(400);
  });
});
