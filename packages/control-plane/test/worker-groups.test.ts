/** Worker groups over HTTP: who administers them, tokens, credentials, and where work goes. Workers are raw HTTP here. */
import { randomBytes, randomUUID } from "node:crypto";
import { createDeployment, requestMaterialization } from "@helmr/store";
import { type SeededTask, seedSession, seedStartedSession, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Answer, startTestServer, type TestServer } from "./support/server.ts";

const operatorToken = randomBytes(32).toString("base64url");
let server: TestServer;
let owner: string;
beforeAll(async () => {
  server = await startTestServer({ operatorToken });
  owner = (await server.newMember("owner")).token;
});
afterAll(() => server.stop());

const operate = (method: string, path: string, body?: object): Promise<Answer> =>
  server.request(method, path, body, { key: operatorToken });

interface TestWorker {
  readonly id: string;
  credential: string;
  post(path: string, body: object, credential?: string): Promise<Answer>;
}

const capabilities = {
  driver: "gvisor",
  driver_version: "1",
  architecture: "x64",
  limits: { cpu: true, memory: true, disk: true },
  network: true,
};

function registration(id: string, capacity: object = {}) {
  return {
    protocol: "helmr.worker.v1",
    worker_instance_id: id,
    name: "w",
    version: "0.1.0",
    capacity: { runs: 4, builds: 1, cpu: 8, memory_mib: 8192, ...capacity },
    capabilities,
  };
}

const postAs = (credential: string, path: string, body: object) =>
  server.request("POST", `/worker/v1/${path}`, undefined, {
    key: credential,
    raw: JSON.stringify(body),
    headers: { "content-type": "application/json" },
  });

async function registerIn(secret: string, capacity?: object, id: string = randomUUID()): Promise<TestWorker> {
  const answer = await postAs(secret, "register", registration(id, capacity));
  expect(answer.status).toBe(200);
  const worker: TestWorker = {
    id,
    credential: answer.body.credential,
    post: (path, body, credential = worker.credential) => postAs(credential, path, body),
  };
  return worker;
}

async function newGroup(name: string): Promise<string> {
  expect((await operate("POST", "/worker-groups", { name })).status).toBe(201);
  const made = await operate("POST", `/worker-groups/${name}/tokens`, { name: "test" });
  expect(made.status).toBe(201);
  return made.body.secret;
}

const defaultSecret = async (): Promise<string> =>
  (await operate("POST", "/worker-groups/default/tokens", { name: "test" })).body.secret;

const lease = (worker: TestWorker, max: object = {}) =>
  worker.post("lease", { max_runs: 10, max_builds: 0, max_materializations: 0, wait_ms: 0, ...max });

describe("who administers", () => {
  const statusOf = async (key: string, on = server) =>
    (await on.request("GET", "/worker-groups", undefined, { key })).status;

  test("the operator token and owners, never an API key; the operator token is nothing elsewhere", async () => {
    expect(await statusOf(operatorToken)).toBe(200);
    expect(await statusOf(owner)).toBe(200);
    expect(await statusOf(server.key)).toBe(401);
    expect(await statusOf(`${operatorToken}x`)).toBe(401);
    expect((await server.request("GET", "/projects", undefined, { key: operatorToken })).status).toBe(401);
  });

  test("in a managed cloud no member, and no member routes an environment", async () => {
    const cloud = await startTestServer({ operatorToken, deploymentMode: "managed-cloud" });
    try {
      const member = (await cloud.newMember("owner")).token;
      expect(await statusOf(member, cloud)).toBe(403);
      expect(await statusOf(operatorToken, cloud)).toBe(200);
      const { projectId, environmentId } = cloud.scope;
      const body = { slug: "production", name: "P", color_hex: "#112233", worker_group: "default" };
      const path = `/projects/${projectId}/environments/${environmentId}`;
      expect((await cloud.request("PATCH", path, body, { key: member })).status).toBe(403);
      const route = { environment_id: environmentId };
      const routed = await cloud.request("POST", "/worker-groups/default/environments", route, {
        key: operatorToken,
      });
      expect(routed.status).toBe(200);
    } finally {
      await cloud.stop();
    }
  });
});

describe("a group", () => {
  test("is created once, labelled, renamed, and deleted when nothing refers to it", async () => {
    const named = { name: "lab", labels: { zone: "a", "example.com/tier": "large" } };
    const created = await server.request("POST", "/worker-groups", named, { key: owner });
    expect(created.body).toMatchObject({ ...named, environments: 0, workers: { active: 0 } });
    expect((await operate("POST", "/worker-groups", { name: "lab" })).status).toBe(409);
    expect((await operate("POST", "/worker-groups", { name: "Lab!" })).status).toBe(400);
    const renamed = await operate("PATCH", "/worker-groups/lab", { name: "lab-2", labels: {} });
    expect(renamed.body).toMatchObject({ id: created.body.id, name: "lab-2", labels: {} });
    expect((await operate("GET", `/worker-groups/${created.body.id}`)).body.name).toBe("lab-2");
    const { secret } = (await operate("POST", "/worker-groups/lab-2/tokens", { name: "t" })).body;
    const worker = await registerIn(secret);
    const refused = await operate("DELETE", "/worker-groups/lab-2");
    expect(refused).toMatchObject({ status: 409, body: { error: expect.stringMatching(/1 workers/) } });
    expect((await operate("DELETE", `/workers/${worker.id}`)).status).toBe(409);
    await sql`update worker_instances set state = 'gone' where id = ${worker.id}`.execute(server.db);
    expect((await operate("DELETE", `/workers/${worker.id}`)).status).toBe(204);
    expect((await operate("GET", `/workers/${worker.id}`)).status).toBe(404);
    expect((await operate("DELETE", "/worker-groups/lab-2")).status).toBe(204);
    expect((await operate("GET", "/worker-groups/lab-2")).status).toBe(404);
    const audit = await server.request("GET", "/audit-log?action=worker_group.create", undefined, {
      key: owner,
    });
    expect(JSON.stringify(audit.body)).toContain(created.body.id);
  });

  test("default stays as it is", async () => {
    expect((await operate("DELETE", "/worker-groups/default")).status).toBe(400);
    expect((await operate("PATCH", "/worker-groups/default", { name: "x" })).status).toBe(400);
    expect((await operate("PATCH", "/worker-groups/default", { labels: { a: "b" } })).status).toBe(200);
  });
});

describe("bootstrap tokens", () => {
  test("the secret is shown once; expired and revoked ones let nobody register, also again", async () => {
    await newGroup("tokens");
    const path = "/worker-groups/tokens/tokens";
    const soon = { name: "soon", expires_at: new Date(Date.now() + 3_600_000).toISOString() };
    const { token, secret } = (await operate("POST", path, soon)).body;
    expect(secret).toMatch(/^hlmr_bt_[A-Za-z0-9_-]{43}$/);
    expect(token).toMatchObject({ name: "soon", status: "active", prefix: secret.slice(0, 16) });
    const worker = await registerIn(secret);
    const [listed] = (await operate("GET", path)).body.tokens;
    expect(listed).toMatchObject({ id: token.id, last_used_at: expect.any(String) });
    expect(JSON.stringify(listed)).not.toContain(secret);
    expect((await operate("GET", `/workers/${worker.id}`)).body).toMatchObject({
      bootstrap_token_id: token.id,
      worker_group: { name: "tokens" },
    });
    await sql`update worker_bootstrap_tokens set expires_at = now() where id = ${token.id}`.execute(
      server.db,
    );
    expect((await postAs(secret, "register", registration(worker.id))).status).toBe(401);
    const other = (await operate("POST", path, { name: "other" })).body;
    const revoked = await operate("DELETE", `${path}/${other.token.id}`);
    expect(revoked.body.status).toBe("revoked");
    expect((await postAs(other.secret, "register", registration(randomUUID()))).status).toBe(401);
    // Who has joined goes on.
    expect((await worker.post("heartbeat", { leases: [] })).status).toBe(200);
    const past = { name: "past", expires_at: new Date(Date.now() - 1000).toISOString() };
    expect((await operate("POST", path, past)).status).toBe(400);
  });

  test("a worker does not change its group by registering again", async () => {
    const secret = await newGroup("elsewhere");
    const worker = await registerIn(await defaultSecret());
    expect((await postAs(secret, "register", registration(worker.id))).status).toBe(401);
  });
});

describe("credentials", () => {
  test("a rotation whose answer was lost locks nobody out; what it gave is void after the next one", async () => {
    const worker = await registerIn(await defaultSecret());
    const old = worker.credential;
    const lost = (await worker.post("rotate-credential", {})).body;
    expect(Date.parse(lost.previous_valid_until)).toBeGreaterThan(Date.now() + 200_000);
    const again = await worker.post("rotate-credential", {}, old);
    expect(again.status).toBe(200);
    worker.credential = again.body.credential;
    expect((await worker.post("heartbeat", { leases: [] })).status).toBe(200);
    expect((await worker.post("heartbeat", { leases: [] }, old)).status).toBe(200);
    expect((await worker.post("heartbeat", { leases: [] }, lost.credential)).status).toBe(401);
    await sql`update worker_instances set previous_valid_until = now() where id = ${worker.id}`.execute(
      server.db,
    );
    expect((await worker.post("rotate-credential", {}, old)).status).toBe(401);
    expect((await worker.post("rotate-credential", {})).status).toBe(200);
  });

  test("a revoked credential is refused, and the worker registers anew", async () => {
    const secret = await defaultSecret();
    const worker = await registerIn(secret);
    const path = `/workers/${worker.id}/revoke-credential`;
    expect((await operate("POST", path)).status).toBe(200);
    // Remembered for some seconds by who has seen it.
    const isRefused = async () => (await worker.post("heartbeat", { leases: [] })).status === 401;
    await vi.waitUntil(isRefused, { timeout: 60_000, interval: 250 });
    await registerIn(secret, {}, worker.id);
  });
});

describe("draining", () => {
  test("an operator's drain holds through restarts, and ends with undrain; a worker's own with its process", async () => {
    const secret = await newGroup("drains");
    const worker = await registerIn(secret);
    const beat = async (body: object = {}) =>
      (await worker.post("heartbeat", { leases: [], ...body })).body.draining;
    const stateOf = async () => (await operate("GET", `/workers/${worker.id}`)).body.state;
    expect(await beat()).toBe(false);
    expect(await beat({ state: "draining" })).toBe(true);
    expect(await stateOf()).toBe("draining");
    expect(await beat()).toBe(false);
    expect((await operate("POST", `/workers/${worker.id}/drain`)).body.state).toBe("draining");
    const { credential } = await registerIn(secret, {}, worker.id);
    worker.credential = credential;
    expect(await beat()).toBe(true);
    const free = { cpu: 1, memory_mib: 2, disk_mib: 3, slots: 4 };
    await beat({ capacity_free: free });
    expect((await operate("POST", `/workers/${worker.id}/undrain`)).body).toMatchObject({
      state: "active",
      reported_free: free,
    });
    expect(await beat()).toBe(false);
  });
});

describe("work goes to the group of its deployment", () => {
  let theirs: TestWorker;
  let ours: TestWorker;
  let before: SeededTask;
  let after: SeededTask;
  beforeAll(async () => {
    ours = await registerIn(await defaultSecret());
    theirs = await registerIn(await newGroup("special"));
    before = await seedTask(server.db, server.scope, { taskId: "before" });
    const { projectId, environmentId } = server.scope;
    const body = { slug: "production", name: "Production", color_hex: "#112233", worker_group: "special" };
    const path = `/projects/${projectId}/environments/${environmentId}`;
    const patched = await server.request("PATCH", path, body, { key: owner });
    expect(patched).toMatchObject({ status: 200, body: { worker_group: "special" } });
    const missing = await server.request("PATCH", path, { ...body, worker_group: "none" }, { key: owner });
    expect(missing.status).toBe(400);
    after = await seedTask(server.db, server.scope, { taskId: "after" });
    await sql`update deployments set worker_group_id = (select id from worker_groups where name = 'special')
      where id = ${after.deploymentId}`.execute(server.db);
  });

  test("builds", async () => {
    const source = {
      contentHash: `sha256:${randomUUID()}`,
      sourceDigest: `sha256:${randomBytes(32).toString("hex")}`,
      sourceSizeBytes: 1,
      apiVersion: "2026-06-06",
      bundleFormatVersion: 2,
      workerProtocolVersion: "helmr.worker.v1",
    };
    const { deployment } = await createDeployment(server.db, server.scope, source, async () => true);
    expect((await lease(ours, { max_runs: 0, max_builds: 5 })).body.builds).toEqual([]);
    const { builds } = (await lease(theirs, { max_runs: 0, max_builds: 5 })).body;
    expect(builds).toMatchObject([{ deployment_id: deployment.id }]);
    // Whoever builds an environment's images says for which processor they are.
    expect((await operate("GET", `/workers/${theirs.id}`)).body.held.builds).toBe(1);
  });

  test("runs, of the deployment before the change still where that went", async () => {
    // The current deployment is `after`; a run of the older one is a continuation's.
    const later = await seedStartedSession(server.db, server.scope, after);
    const hinted: string[] = [];
    const topic = (
      await server.db
        .selectFrom("worker_groups")
        .select("id")
        .where("name", "=", "special")
        .executeTakeFirstOrThrow()
    ).id;
    using _subscription = withUnsubscribe(server.bus.subscribe(`work:${topic}`, () => hinted.push(topic)));
    expect((await lease(ours)).body.runs).toEqual([]);
    const started = await server.request("POST", "/sessions", { task_id: "after" });
    await vi.waitUntil(() => hinted.length > 0, { timeout: 10_000 });
    const ids = (await lease(theirs)).body.runs.map((run: { run_id: string }) => run.run_id);
    expect(ids.sort()).toEqual([later.runId, started.body.run.id].sort());
    await sql`update current_deployments set deployment_id = ${before.deploymentId}
      where environment_id = ${server.scope.environmentId}`.execute(server.db);
    const earlier = await seedStartedSession(server.db, server.scope, before);
    expect((await lease(theirs)).body.runs).toEqual([]);
    expect((await lease(ours)).body.runs).toMatchObject([{ run_id: earlier.runId }]);
  });

  test("live copies of workspaces", async () => {
    const { workspaceId } = await seedSession(server.db, server.scope, after);
    await requestMaterialization(server.db, server.scope, workspaceId);
    const wanted = { max_runs: 0, max_materializations: 5 };
    expect((await lease(ours, wanted)).body.materializations).toEqual([]);
    expect((await lease(theirs, wanted)).body.materializations).toMatchObject([
      { workspace_id: workspaceId },
    ]);
  });

  test("a group with deployments is not deleted", async () => {
    const refused = await operate("DELETE", "/worker-groups/special");
    expect(refused).toMatchObject({ status: 409, body: { error: expect.stringMatching(/deployments/) } });
    expect((await operate("GET", "/worker-groups/special/environments")).body.environments).toMatchObject([
      { environment_id: server.scope.environmentId },
    ]);
  });
});

function withUnsubscribe(subscription: { unsubscribe(): void }): Disposable {
  return { [Symbol.dispose]: () => subscription.unsubscribe() };
}
