/** What workers save, over their wire: reserve, record, and what is refused; the next assignment starts with it. */
import { seedTask, testTree } from "@helmr/store/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type LiveWorker, registerLiveWorker } from "./support/live-worker.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let worker: LiveWorker;
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope);
  worker = await registerLiveWorker(server);
});
afterAll(() => server.stop());

async function leaseRun(workspaceId?: string) {
  const start = { task_id: "hello", ...(workspaceId && { workspace_id: workspaceId }) };
  await server.request("POST", "/sessions", start);
  const [run] = (await worker.lease({ runs: 1 })).runs;
  if (run === undefined) throw new Error("no run was leased");
  const { lease_id, fencing } = run;
  await worker.post(`leases/${lease_id}/start`, {
    fencing,
    notes: [],
    guest: { pooled: false, start_ms: 1 },
  });
  return run;
}

const bodyOf = (tree: ReturnType<typeof testTree>, fencing: number) => ({
  fencing,
  reason: "run",
  manifest_digest: tree.manifestDigest,
  content_digest: tree.contentDigest,
  artifact_encoding: tree.artifactEncoding,
  entry_count: tree.entryCount,
  size_bytes: tree.sizeBytes,
  artifacts: tree.artifacts,
  skipped: [{ path: "socket", kind: "socket" }],
  timings_ms: { total: 3 },
});

test("a run's files are saved, and its workspace's next run starts with them", async () => {
  const run = await leaseRun();
  expect(run.base_version).toBeUndefined();
  const { lease_id, fencing } = run;
  const tree = testTree("one", "two");
  const record = (body: object) => worker.post(`leases/${lease_id}/versions`, body);
  const early = await record(bodyOf(tree, fencing));
  expect([early.status, early.body.code]).toEqual([409, "artifacts_not_reserved"]);
  const reserve = (body: object) => worker.post("uploads/reserve", body);
  expect((await reserve({ lease_id, fencing, digests: tree.artifacts })).status).toBe(200);
  const saved = await record(bodyOf(tree, fencing));
  expect(saved).toMatchObject({
    status: 200,
    body: { version: { version_id: expect.any(String), manifest_digest: tree.manifestDigest } },
  });
  // An answer that was lost on its way is asked for again.
  expect((await record(bodyOf(tree, fencing))).body).toEqual(saved.body);
  const { body } = await server.request("GET", `/workspaces/${run.workspace_id}`);
  expect(body.workspace).toMatchObject({
    current_version_id: (saved.body.version as { version_id: string }).version_id,
    dirty_state: "dirty",
  });
  const events = (await server.request("GET", `/runs/${run.run_id}/events`)).body.events;
  expect(events.at(-1)).toMatchObject({
    kind: "run.workspace_saved",
    message: "run.workspace_saved",
    attributes: { entry_count: 2, skipped: [{ path: "socket", kind: "socket" }], timings_ms: { total: 3 } },
  });
  await worker.post(`leases/${lease_id}/finish`, { fencing, outcome: { status: "succeeded" } });
  const next = await leaseRun(run.workspace_id);
  expect(next.base_version).toEqual(saved.body.version);
  expect(next.workspace_is_here).toBe(true);
  await worker.post(`leases/${next.lease_id}/finish`, {
    fencing: next.fencing,
    outcome: { status: "succeeded" },
  });
});

test("who has lost the lease saves and reserves nothing; what is no version is refused", async () => {
  const run = await leaseRun();
  const { lease_id, fencing } = run;
  const tree = testTree("late");
  const reserve = { lease_id, fencing, digests: tree.artifacts };
  for (const answer of [
    await worker.post("uploads/reserve", { ...reserve, fencing: fencing + 1 }),
    await worker.post(`leases/${lease_id}/versions`, bodyOf(tree, fencing + 1)),
    await (await registerLiveWorker(server)).post("uploads/reserve", reserve),
  ]) {
    expect([answer.status, answer.body.code]).toEqual([409, "lease_lost"]);
  }
  for (const wrong of [
    { manifest_digest: "sha256:x" },
    { artifacts: [] },
    { reason: "upload" },
    { entry_count: -1 },
    { unknown: 1 },
  ]) {
    const body = { ...bodyOf(tree, fencing), ...wrong };
    expect((await worker.post(`leases/${lease_id}/versions`, body)).status).toBe(400);
  }
  await worker.post(`leases/${lease_id}/finish`, { fencing, outcome: { status: "succeeded" } });
  expect((await worker.post("uploads/reserve", reserve)).status).toBe(409);
  const { versions } = (await server.request("GET", `/workspaces/${run.workspace_id}/versions`)).body;
  expect(versions).toEqual([]);
});

test("a run whose workspace was archived meanwhile fails, and says so", async () => {
  const run = await leaseRun();
  const { lease_id, fencing, workspace_id } = run;
  await worker.post(`leases/${lease_id}/finish`, { fencing, outcome: { status: "succeeded" } });
  expect((await server.request("DELETE", `/workspaces/${workspace_id}`)).status).toBe(200);
  // As input to the session makes one.
  await server.db
    .updateTable("runs")
    .set({
      status: "queued",
      execution_status: "queued",
      ended_at: null,
      lease_id: null,
      available_at: new Date(0),
    })
    .where("id", "=", run.run_id)
    .execute();
  expect((await worker.lease({ runs: 1, waitMs: 0 })).runs).toEqual([]);
  const events = (await server.request("GET", `/runs/${run.run_id}/events`)).body.events;
  expect(events.at(-1)).toMatchObject({
    kind: "run.failed",
    attributes: {
      failure_kind: "workspace_not_active",
      detail: { message: expect.stringContaining("archived") },
    },
  });
});
