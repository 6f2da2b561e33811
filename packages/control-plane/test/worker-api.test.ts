import { randomBytes, randomUUID } from "node:crypto";
import { finishRunRequest, knownFields, knownFieldsHeader, leaseResponse } from "@helmr/api";
import { createMemoryBus } from "@helmr/coordination";
import {
  createRun,
  createSecretCipher,
  ensureBootstrapToken,
  getRun,
  listDeploymentEvents,
  listRunEvents,
  putSecret,
  requestCancel,
  type Scope,
  systemActor,
  transaction,
  uuidv7,
} from "@helmr/store";
import {
  type SeedTaskOptions,
  seedEnvironment,
  seededSandbox,
  seedSession,
  seedTask,
  startTestDatabase,
  type TestDatabase,
} from "@helmr/store/testing";
import { createControlMetrics, noTracing, unreadRegistry } from "@helmr/telemetry";
import Fastify, { type FastifyInstance } from "fastify";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTokenSecrets } from "../src/tokens.ts";
import { workerRoutes } from "../src/worker/index.ts";

const bootstrapToken = `hlmr_bt_${randomBytes(32).toString("base64url")}`;
const bus = createMemoryBus();
const closing = new AbortController();
const secretCipher = createSecretCipher({ current: randomBytes(32).toString("base64") });
let database: TestDatabase;
let scope: Scope;
let app: FastifyInstance;
beforeAll(async () => {
  database = await startTestDatabase();
  ({ scope } = await seedEnvironment(database.db));
  await ensureBootstrapToken(database.db, bootstrapToken);
  app = Fastify();
  const tokenSecrets = createTokenSecrets(Buffer.alloc(32, 9), "http://127.0.0.1");
  const options = { db: database.db, bus, secretCipher, tokenSecrets, closing: closing.signal, prefix: "/w" };
  const metrics = createControlMetrics(unreadRegistry());
  await app.register(workerRoutes, { ...options, metrics, tracing: noTracing });
});
afterAll(async () => {
  closing.abort();
  await app.close();
  await bus.close();
  await database.stop();
});

type Post = (
  path: string,
  body: unknown,
  headers?: Record<string, string>,
) => Promise<{ status: number; body: Record<string, unknown> }>;

function poster(bearer: string): Post {
  return async (path, body, more = {}) => {
    const headers = { authorization: `Bearer ${bearer}`, "content-type": "application/json", ...more };
    const response = await app.inject({
      method: "POST",
      url: `/w/${path}`,
      headers,
      payload: JSON.stringify(body),
    });
    return { status: response.statusCode, body: response.json() as Record<string, unknown> };
  };
}

async function register(id: string = randomUUID()): Promise<{ id: string; post: Post }> {
  const { status, body } = await poster(bootstrapToken)("register", {
    protocol: "helmr.worker.v1",
    worker_instance_id: id,
    name: "w",
    version: "0.1.0",
    capacity: { runs: 4, builds: 1, cpu: 2, memory_mib: 4096 },
    capabilities: {
      driver: "gvisor",
      driver_version: "1",
      architecture: "x64",
      limits: { cpu: true, memory: true, disk: false },
      network: true,
    },
  });
  expect(status).toBe(200);
  return { id, post: poster(body.credential as string) };
}

async function enqueue(options: SeedTaskOptions = {}, traceContext?: string) {
  const task = await seedTask(database.db, scope, options);
  const session = await seedSession(database.db, scope, task);
  const run = await createRun(database.db, scope, {
    ...session,
    deploymentId: task.deploymentId,
    deploymentTaskId: task.deploymentTaskId,
    deploymentVersion: "1",
    taskId: task.taskId,
    queueName: task.queueName,
    payloadJson: '{"a":1.0}',
    retryPolicy: { enabled: false },
    maxDurationSeconds: 60,
    traceContext,
    apiVersion: "2026-06-06",
  });
  bus.publish("work:default");
  return run;
}

async function lease(post: Post, wanted: { max_runs?: number; max_builds?: number; wait_ms?: number } = {}) {
  const { status, body } = await post("lease", { max_runs: 1, max_builds: 0, wait_ms: 5000, ...wanted });
  expect(status).toBe(200);
  return leaseResponse.parse(body);
}

async function leaseRun(post: Post) {
  const [run] = (await lease(post)).runs;
  if (run === undefined) throw new Error("no run was leased");
  return run;
}

test("without a credential, with a void one, or with a wrong token: 401", async () => {
  expect((await poster("x".repeat(40))("lease", {})).status).toBe(401);
  expect((await poster("x".repeat(40))("register", {})).status).toBe(400);
  const { id, post } = await register();
  await register(id);
  expect((await post("lease", { max_runs: 1, max_builds: 0, wait_ms: 0 })).status).toBe(401);
});

test("a run over the wire: waiting lease, start, append, finish", async () => {
  const { post } = await register();
  const secret = { kind: "env", name: "TOKEN", env: "TOKEN" };
  await putSecret(database.db, secretCipher, { ...scope, actor: systemActor("test") }, "TOKEN", "s3cret");
  const waiting = leaseRun(post);
  const created = await enqueue({ secrets: [secret] });
  const run = await waiting;
  expect(run).toMatchObject({
    run_id: created.id,
    payload_json: '{"a":1.0}',
    task: { id: "hello", export_name: "hello" },
    secrets: [{ placement: secret, value: "s3cret" }],
  });
  const at = `leases/${run.lease_id}`;
  const { fencing } = run;
  expect((await post(`${at}/start`, { fencing, guest: { pooled: true, start_ms: 3.5 } })).status).toBe(200);
  const occurred_at = new Date().toISOString();
  const item = { kind: "log", number: 1, stream: "stdout", content_base64: btoa("hi"), occurred_at };
  expect(await post(`${at}/append`, { fencing, items: [item] })).toEqual({
    status: 200,
    body: { acknowledged: 1 },
  });
  const forged = {
    kind: "event",
    number: 2,
    event_kind: "run.completed",
    severity: "info",
    attributes: {},
    occurred_at,
  };
  expect((await post(`${at}/append`, { fencing, items: [forged] })).status).toBe(400);
  const outcome = { status: "succeeded", output_json: '{"b": 2}' };
  const lost = { status: 409, body: { code: "lease_lost" } };
  expect(await post(`${at}/finish`, { fencing: fencing + 1, outcome })).toMatchObject(lost);
  expect(await post(`${at}/finish`, finishRunRequest.parse({ fencing, outcome }))).toEqual({
    status: 200,
    body: { status: "accepted" },
  });
  expect(await post(`${at}/append`, { fencing, items: [item] })).toMatchObject(lost);
  expect(await getRun(database.db, scope, created.id)).toMatchObject({
    status: "succeeded",
    output: '{"b": 2}',
  });
  const events = await listRunEvents(database.db, scope, created.id, { after: 0, limit: 100 });
  expect(JSON.stringify(events)).not.toContain("s3cret");
});

test("a run whose secret is under a key that is gone fails with the key's id, and other work goes on", async () => {
  const { post } = await register();
  const gone = createSecretCipher({ current: randomBytes(32).toString("base64") });
  await putSecret(database.db, gone, { ...scope, actor: systemActor("test") }, "LOST", "planted-value");
  const created = await enqueue({ taskId: "lost", secrets: [{ kind: "env", name: "LOST", env: "LOST" }] });
  expect((await lease(post, { wait_ms: 0 })).runs).toEqual([]);
  expect(await getRun(database.db, scope, created.id)).toMatchObject({
    status: "failed",
    failure_kind: "secret_unreadable",
  });
  const events = JSON.stringify(
    await listRunEvents(database.db, scope, created.id, { after: 0, limit: 100 }),
  );
  expect(events).toContain(gone.currentKeyId);
  expect(events).not.toContain("planted-value");
});

test("a run whose secret is missing fails with a message that says what to do", async () => {
  const { post } = await register();
  const run = await enqueue({ secrets: [{ kind: "env", name: "NONE", env: "NONE" }] });
  expect((await lease(post, { wait_ms: 0 })).runs).toEqual([]);
  const after = await getRun(database.db, scope, run.id);
  expect(after).toMatchObject({ status: "failed", failure_kind: "secret_missing" });
  expect(JSON.stringify(after?.failure_detail)).toContain("helmr secret set");
});

test("a run's trace goes to workers that know of it; one of the version before gets what it knows", async () => {
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const { post } = await register();
  const lease = async (headers: Record<string, string>) => {
    const { id } = await enqueue({}, traceparent);
    const { body } = await post("lease", { max_runs: 1, max_builds: 0, wait_ms: 2000 }, headers);
    const [run] = (body as { runs: { run_id: string; lease_id: string; fencing: number }[] }).runs;
    expect(run?.run_id).toBe(id);
    await post(`leases/${run?.lease_id}/finish`, {
      fencing: run?.fencing,
      outcome: { status: "succeeded" },
    });
    return run;
  };
  expect(await lease({})).not.toHaveProperty("traceparent");
  expect(await lease({ [knownFieldsHeader]: knownFields })).toMatchObject({ traceparent });
});

test("a lease is given back once, by its worker: the run is queued again and uses up no try", async () => {
  const { post } = await register();
  const { post: other } = await register();
  const created = await enqueue();
  const first = await leaseRun(post);
  const back = { fencing: first.fencing, reason: "no_room" };
  const lost = { status: 409, body: { code: "lease_lost" } };
  expect(await other(`leases/${first.lease_id}/hand-back`, back)).toMatchObject(lost);
  expect((await post(`leases/${first.lease_id}/hand-back`, back)).status).toBe(200);
  expect(await post(`leases/${first.lease_id}/hand-back`, back)).toMatchObject(lost);
  const again = await leaseRun(post);
  expect(again).toMatchObject({ run_id: created.id, attempt_number: 1 });
  const begun = { fencing: again.fencing, guest: { pooled: true, start_ms: 1 } };
  expect((await post(`leases/${again.lease_id}/start`, begun)).status).toBe(200);
  // It has begun: the next one is an attempt of its own, and however often that is, no drain fails a run.
  for (let drains = 0; drains < 3; drains++) {
    await database.db
      .updateTable("runs")
      .set({ started_at: new Date() })
      .where("id", "=", created.id)
      .execute();
    const row = await database.db
      .selectFrom("runs")
      .select(["lease_id", "fencing"])
      .where("id", "=", created.id)
      .executeTakeFirstOrThrow();
    const drained = { fencing: Number(row.fencing), reason: "worker_drained" };
    expect((await post(`leases/${row.lease_id}/hand-back`, drained)).status).toBe(200);
    expect((await leaseRun(post)).attempt_number).toBe(drains + 2);
  }
});

test("a held heartbeat tells a cancel at once; registering anew ends the old leases", async () => {
  const { id, post } = await register();
  const created = await enqueue();
  const run = await leaseRun(post);
  const leases = [{ lease_id: run.lease_id, fencing: run.fencing }];
  const beat = post("heartbeat", { leases });
  await transaction(database.db, (tx) => requestCancel(tx, scope, created.id, { reason: "enough" }));
  bus.publish(`worker:${id}`);
  expect((await beat).body).toEqual({
    leases: [{ lease_id: run.lease_id, status: "active", cancel: { reason: "enough", force: false } }],
    draining: false,
  });
  const { post: again } = await register(id);
  expect((await again("heartbeat", { leases })).body).toMatchObject({ leases: [{ status: "lost" }] });
  expect(await getRun(database.db, scope, created.id)).toMatchObject({ status: "cancelled" });
});

const image = seededSandbox.definition.image;
const catalog = {
  format: 2,
  project: "p",
  tasks: [
    {
      id: "t",
      file_path: "t.ts",
      export_name: "t",
      sandbox_id: "box",
      max_duration_seconds: 900,
      queue: "task/t",
      retry: { enabled: false },
      secrets: [],
      has_payload: false,
    },
  ],
  queues: [{ id: "q", concurrency_limit: 3 }],
  sandboxes: [{ ...seededSandbox.definition, image: { ...image, steps: [...image.steps] } }],
};

async function enqueueBuild(): Promise<string> {
  const id = uuidv7();
  await sql`insert into deployments (id, environment_id, project_id, version, status, content_hash, source_digest,
      source_size_bytes, api_version, bundle_format_version, worker_protocol_version)
    values (${id}, ${scope.environmentId}, ${scope.projectId}, ${id}, 'queued', ${id}, 'sha256:22', 10, '2026-06-06', 2,
      'helmr.worker.v1')`.execute(database.db);
  return id;
}

async function leaseBuild(post: Post) {
  const [build] = (await lease(post, { max_runs: 0, max_builds: 1, wait_ms: 0 })).builds;
  if (build === undefined) throw new Error("no build was leased");
  return build;
}

test("a build over the wire, to its tasks and sandboxes", async () => {
  const { post } = await register();
  const id = await enqueueBuild();
  const build = await leaseBuild(post);
  expect(build).toMatchObject({ deployment_id: id, source_digest: "sha256:22" });
  const at = `builds/${build.lease_id}`;
  const { fencing } = build;
  const item = {
    kind: "build.step",
    message: "RUN \0 x",
    severity: "info",
    attributes: {},
    occurred_at: new Date().toISOString(),
  };
  for (const number of [1, 1, 2])
    expect((await post(`${at}/events`, { fencing, items: [{ ...item, number }] })).status).toBe(200);
  expect((await post(`${at}/secrets`, { fencing, names: ["TOKEN", "NO"] })).body).toEqual({
    values: { TOKEN: "s3cret" },
    missing: ["NO"],
  });
  const built = { ...seededSandbox, definition: catalog.sandboxes[0] };
  const outcome = { status: "built", catalog, sandboxes: [{ sandbox_id: "box", fingerprint: "f", built }] };
  expect(await post(`${at}/finish`, { fencing, outcome })).toEqual({
    status: 200,
    body: { status: "accepted" },
  });
  const { rows } =
    await sql`select (select count(*) from deployment_tasks where deployment_id = ${id}) as tasks,
    (select count(*) from deployment_sandboxes where deployment_id = ${id}) as sandboxes,
    (select json_agg(name order by name)::jsonb from deployment_queues where deployment_id = ${id}) as queues,
    (select status from deployments where id = ${id})`.execute(database.db);
  expect(rows).toEqual([{ tasks: 1, sandboxes: 1, queues: ["q", "task/t"], status: "deployed" }]);
  const events = await listDeploymentEvents(database.db, scope, id, { cursor: 0, limit: 100 });
  expect(events.map((event) => event.kind)).toEqual([
    "deployment.building",
    "build.step",
    "build.step",
    "deployment.build.warning",
    "deployment.deployed",
  ]);
  expect(events.at(-2)?.message).toMatch(/^helmr\.config\.ts names the project "p"; this is deployed to "/);
});

test("a build whose configuration names its project, by slug or by id, has no warning", async () => {
  const { post } = await register();
  const { rows } = await sql<{
    slug: string;
  }>`select slug from projects where id = ${scope.projectId}`.execute(database.db);
  for (const project of [rows[0]?.slug, scope.projectId]) {
    const id = await enqueueBuild();
    const build = await leaseBuild(post);
    const outcome = { status: "built", catalog: { ...catalog, project, tasks: [] }, sandboxes: [] };
    expect((await post(`builds/${build.lease_id}/finish`, { fencing: build.fencing, outcome })).status).toBe(
      200,
    );
    const events = await listDeploymentEvents(database.db, scope, id, { cursor: 0, limit: 100 });
    expect(events.map((event) => event.kind)).toEqual(["deployment.building", "deployment.deployed"]);
  }
});

test("a build that fails for a passing reason is tried three times", async () => {
  const { post } = await register();
  const id = await enqueueBuild();
  const failed = {
    status: "failed",
    failure_kind: "worker_failed",
    message: "no room",
    step: "RUN x",
    retryable: true,
  };
  for (const status of ["retry_scheduled", "retry_scheduled", "accepted"]) {
    const build = await leaseBuild(post);
    const answer = await post(`builds/${build.lease_id}/finish`, { fencing: build.fencing, outcome: failed });
    expect(answer.body).toEqual({ status });
  }
  const events = await listDeploymentEvents(database.db, scope, id, { cursor: 0, limit: 100 });
  expect(events.at(-1)).toMatchObject({
    kind: "deployment.failed",
    message: "RUN x: no room",
    attributes: { status: "failed", failure_kind: "worker_failed" },
  });
});
