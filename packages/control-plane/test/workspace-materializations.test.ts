/** Live copies over HTTP, with a worker played over its own routes: materialize, stop, capture, live files. */
import { seedTask, testTree } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type LiveCopy, type LiveWorker, registerLiveWorker } from "./support/live-worker.ts";
import { startTestServer, type TestServer } from "./support/server.ts";
import { unlimited } from "./support/unlimited.ts";

let server: TestServer;
let worker: LiveWorker;
let workspaceId: string;
beforeAll(async () => {
  server = await startTestServer({ rateLimits: unlimited });
  await seedTask(server.db, server.scope);
  worker = await registerLiveWorker(server);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await sql`update workspace_materializations set state = 'stopped', ended_at = now() where ended_at is null`.execute(
    server.db,
  );
  workspaceId = (await server.request("POST", "/workspaces", { sandbox_id: "box" })).body.workspace.id;
});

const post = (path: string, body: object = {}) =>
  server.request("POST", `/workspaces/${workspaceId}${path}`, body);
const workspace = async () => (await server.request("GET", `/workspaces/${workspaceId}`)).body.workspace;

describe("materialize and connect", () => {
  test("201 for a new copy, 200 for the one that there is", async () => {
    const first = await post("/materialize");
    expect(first).toMatchObject({
      status: 201,
      body: { workspace_id: workspaceId, state: "requested", claim_attempt: 0, fencing_generation: 0 },
    });
    expect(await post("/connect")).toMatchObject({
      status: 200,
      body: { id: first.body.id, state: "requested" },
    });
    const copy = await worker.bringUp();
    expect((await post("/connect")).body).toMatchObject({
      state: "running",
      worker_instance_id: worker.id,
      claim_attempt: 1,
      fencing_generation: copy.fencing,
      reservation_expires_at: expect.any(String),
      last_heartbeat_at: expect.any(String),
    });
    expect(await workspace()).toMatchObject({
      desired_state: "active",
      last_materialization_id: copy.id,
      auto_stop_at: expect.any(String),
    });
    expect((await server.request("POST", `/workspaces/${workspaceId}/materialize`)).status).toBe(400);
    expect((await post("/materialize", { x: 1 })).status).toBe(400);
  });

  test("a heartbeat keeps the copy's lease; one that nobody has, or another fencing number, is lost", async () => {
    await post("/materialize");
    const copy = await worker.bringUp();
    const beat = async (fencing: number) =>
      (await worker.post("heartbeat", { leases: [{ lease_id: copy.leaseId, fencing }] })).body.leases;
    await sql`update workspace_materializations set last_heartbeat_at = now() - interval '1 hour',
      reservation_expires_at = now() + interval '1 second' where id = ${copy.id}`.execute(server.db);
    expect(await beat(copy.fencing)).toMatchObject([{ status: "active" }]);
    const { rows } = await sql<{
      left: number;
    }>`select extract(epoch from reservation_expires_at - now())::float8 as left
      from workspace_materializations where id = ${copy.id}`.execute(server.db);
    expect(rows[0]?.left).toBeGreaterThan(200);
    expect(await beat(copy.fencing + 1)).toMatchObject([{ status: "lost" }]);
  });

  test("a failure that is final is said with its code", async () => {
    await post("/materialize");
    const copy = await worker.bringUp();
    await copy.finish({
      status: "failed",
      code: "workspace_version_artifact_missing",
      message: "pack 7 is missing",
      unsaved: false,
    });
    expect(await post("/connect")).toMatchObject({
      status: 409,
      body: { code: "workspace_version_artifact_missing", error: "pack 7 is missing" },
    });
  });
});

describe("stop", () => {
  test("nothing to stop, a copy that nobody has yet, one that is up; a key stops once", async () => {
    expect(await post("/stop")).toEqual(
      expect.objectContaining({
        status: 200,
        body: { workspace_id: workspaceId, state: "no_active_materialization" },
      }),
    );
    expect((await workspace()).desired_state).toBe("stopped");
    await post("/materialize");
    expect((await post("/stop")).body).toMatchObject({
      state: "stopped",
      materialization: { state: "stopped" },
    });
    await post("/materialize");
    const copy = await worker.bringUp();
    const key = { idempotency_key: "k", idempotency_key_ttl: "1h" };
    expect((await post("/stop", key)).body).toMatchObject({
      state: "stopping",
      materialization: { id: copy.id },
    });
    await copy.command("stop");
    expect((await copy.finish()).status).toBe(200);
    expect((await copy.finish()).status).toBe(409);
    await post("/materialize");
    expect((await post("/stop", key)).body).toMatchObject({
      state: "stopped",
      materialization: { id: copy.id },
    });
    expect((await post("/connect")).status).toBe(200);
    expect((await post("/stop", { idempotency_key_ttl: "1d" })).status).toBe(400);
  });

  test("a workspace with a live copy is not deleted; one whose copy is stopped is", async () => {
    await post("/materialize");
    const remove = () => server.request("DELETE", `/workspaces/${workspaceId}`);
    expect((await remove()).status).toBe(409);
    await post("/stop");
    expect((await remove()).body.workspace.state).toBe("archived");
  });
});

/** As a worker saves: reserve, (store,) record. */
async function record(copy: LiveCopy, content: string, requestId: string) {
  const tree = testTree(content);
  const digests = [...new Set([tree.manifestDigest, ...tree.artifacts])];
  await worker.post("uploads/reserve", { lease_id: copy.leaseId, fencing: copy.fencing, digests });
  return await worker.post(`leases/${copy.leaseId}/versions`, {
    fencing: copy.fencing,
    reason: "request",
    manifest_digest: tree.manifestDigest,
    content_digest: tree.contentDigest,
    artifact_encoding: tree.artifactEncoding,
    entry_count: tree.entryCount,
    size_bytes: tree.sizeBytes,
    artifacts: digests,
    request_id: requestId,
    skipped: [],
    timings_ms: {},
  });
}

describe("capture", () => {
  test("asks the live copy: 201 for a new version, 200 when nothing changed, the key's version again", async () => {
    await post("/materialize");
    const copy = await worker.bringUp();
    const save = async (content: string, body: object) => {
      const answer = post("/versions", body);
      const { request_id } = await copy.command("save");
      expect((await record(copy, content, request_id)).status).toBe(200);
      return await answer;
    };
    const key = { message: "before the change", idempotency_key: "k" };
    const first = await save("one", key);
    expect(first).toMatchObject({
      status: 201,
      body: { version: { kind: "user", message: "before the change", workspace_id: workspaceId } },
    });
    expect(await save("one", {})).toMatchObject({
      status: 200,
      body: { version: { id: first.body.version.id } },
    });
    expect(await post("/versions", key)).toMatchObject({
      status: 200,
      body: { version: { id: first.body.version.id } },
    });
    expect((await post("/versions", { ...key, message: "another" })).body.code).toBe(
      "idempotency_fingerprint_mismatch",
    );
    await post("/stop");
    const stopped = post("/versions");
    await copy.command("stop");
    await copy.finish();
    expect(await stopped).toMatchObject({ status: 200, body: { version: { id: first.body.version.id } } });
  });

  test("that the worker could not do says why; without files or a live copy there is nothing to save", async () => {
    expect(await post("/versions")).toMatchObject({ status: 409, body: { code: "workspace_not_live" } });
    await post("/materialize");
    const copy = await worker.bringUp();
    const answer = post("/versions");
    const { request_id } = await copy.command("save");
    const result = { code: "disk_full", message: "the object store has no room" };
    await copy.post(`requests/${request_id}`, { status: "failed", result });
    expect(await answer).toMatchObject({
      status: 409,
      body: { code: "workspace_live_failed", error: "the object store has no room" },
    });
    const cut = post("/versions");
    await copy.command("save");
    await copy.finish({ status: "failed", message: "gone", unsaved: true });
    expect(await cut).toMatchObject({ status: 409, body: { code: "workspace_not_live" } });
    expect((await workspace()).dirty_state).toBe("dirty_state_lost");
  });
});

describe("the guest of a run", () => {
  test("is shared with who works in its workspace, and given back", async () => {
    const started = await server.request("POST", "/sessions", {
      task_id: "hello",
      workspace_id: workspaceId,
    });
    const [run] = (await worker.lease({ runs: 1 })).runs;
    if (run === undefined) throw new Error("no run");
    await worker.post(`leases/${run.lease_id}/start`, {
      fencing: run.fencing,
      guest: { pooled: false, start_ms: 1 },
    });
    expect((await post("/connect")).body).toMatchObject({
      state: "materializing",
      worker_instance_id: worker.id,
    });
    const copy = await worker.attach();
    expect(copy.leaseId).toBe(run.lease_id);
    const exec = (await post("/execs", { command: ["ps"] })).body.exec;
    expect(exec).toMatchObject({ state: "queued", materialization_id: copy.id });
    await copy.command("exec.start");
    await copy.append({ kind: "exec.started", exec_id: exec.id, pid: 1 });
    await worker.post(`leases/${run.lease_id}/finish`, {
      fencing: run.fencing,
      outcome: { status: "succeeded" },
    });
    expect((await copy.post("append", { items: [] })).status).toBe(409);
    expect((await post("/connect")).body).toMatchObject({ state: "requested" });
    const path = `/workspaces/${workspaceId}/execs/${exec.id}`;
    expect((await server.request("GET", path)).body.exec.state).toBe("terminated");
    expect(started.status).toBe(201);
  });
});
