/** Workspaces over HTTP: made, listed, changed, archived, forked; their versions listed and restored. */
import { archiveWorkspace, purgeArchived, sweepIdempotencyKeys } from "@helmr/store";
import { type SeededTask, seedTask, seedVersion, testTree } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leaseRun } from "./support/runs.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let task: SeededTask;
beforeAll(async () => {
  server = await startTestServer();
  task = await seedTask(server.db, server.scope);
});
afterAll(() => server.stop());

const missing = "019a0000-0000-7000-8000-000000000000";
const create = (body: object = {}) => server.request("POST", "/workspaces", { sandbox_id: "box", ...body });
const newWorkspace = async (body: object = {}): Promise<string> => (await create(body)).body.workspace.id;
const read = async (id: string) => (await server.request("GET", `/workspaces/${id}`)).body.workspace;
const save = (id: string, ...contents: string[]) =>
  seedVersion(server.db, server.scope, id, testTree(...contents));
const auditOf = async (id: string) =>
  (
    await server.db
      .selectFrom("audit_log")
      .select(["action", "attributes"])
      .where("resource_id", "=", id)
      .orderBy("id")
      .execute()
  ).map(({ action }) => action);
const expectRefusal = (answer: { status: number; body: unknown }, status: number, code?: string) =>
  expect([answer.status, answer.body]).toEqual([
    status,
    { error: expect.any(String), ...(code === undefined ? {} : { code }) },
  ]);

describe("creating", () => {
  test("from the current deployment: the whole object", async () => {
    const { status, body } = await create({
      external_id: "mine",
      metadata: { a: 1 },
      tags: [" b", "a", "b"],
    });
    expect(status).toBe(201);
    const { workspace } = body;
    expect(workspace).toEqual({
      id: expect.any(String),
      project_id: server.scope.projectId,
      environment_id: server.scope.environmentId,
      deployment_sandbox_id: task.deploymentSandboxId,
      sandbox_id: "box",
      sandbox_fingerprint: "f",
      external_id: "mine",
      state: "active",
      desired_state: "active",
      dirty_state: "clean",
      metadata: { a: 1 },
      tags: ["a", "b"],
      last_activity_at: expect.any(String),
      created_at: expect.any(String),
      updated_at: expect.any(String),
    });
    expect(await read(workspace.id)).toEqual(workspace);
    expect(await auditOf(workspace.id)).toEqual(["workspace.create"]);
  });

  test("from a named deployment that is not current any more; not from one that is not there", async () => {
    const older = task;
    task = await seedTask(server.db, server.scope);
    const named = await create({ deployment_id: older.deploymentId });
    expect(named.body.workspace.deployment_sandbox_id).toBe(older.deploymentSandboxId);
    expect((await create()).body.workspace.deployment_sandbox_id).toBe(task.deploymentSandboxId);
    expectRefusal(await create({ deployment_id: missing }), 409, "sandbox_not_deployed");
    expectRefusal(await create({ sandbox_id: "other" }), 409, "sandbox_not_deployed");
    await sql`update deployments set status = 'building' where id = ${older.deploymentId}`.execute(server.db);
    expectRefusal(await create({ deployment_id: older.deploymentId }), 409, "sandbox_not_deployed");
    await sql`update deployments set status = 'deployed' where id = ${older.deploymentId}`.execute(server.db);
  });

  test.each([
    [{ sandbox_id: "" }],
    [{ sandbox_id: 1 }],
    [{ deployment_id: "x" }],
    [{ tags: Array.from({ length: 11 }, (_, n) => `t${n}`) }],
    [{ tags: [""] }],
    [{ metadata: [] }],
    [{ idempotency_key: "k", idempotency_key_ttl: "1d" }],
    [{ idempotency_key: "k", idempotency_key_ttl: "0s" }],
    [{ external_id: "x".repeat(600) }],
    [{ unknown: 1 }],
  ])("refuses %j", async (body) => expectRefusal(await create(body), 400));

  test("an external id is one workspace's", async () => {
    await newWorkspace({ external_id: "taken" });
    expectRefusal(await create({ external_id: "taken" }), 409);
    const answers = await Promise.all(Array.from({ length: 5 }, () => create({ external_id: "raced" })));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409]);
  });

  test("an idempotency key: the same again is cached, other parameters are refused, over time it is new", async () => {
    const body = { idempotency_key: "once", metadata: { a: 1 }, idempotency_key_ttl: "1h30m" };
    const first = await create(body);
    expect(first.body.is_cached).toBeUndefined();
    const again = await create(body);
    expect([again.status, again.body]).toEqual([201, { ...first.body, is_cached: true }]);
    for (const other of [{ metadata: { a: 2 } }, { external_id: "e" }, { tags: ["t"] }]) {
      expectRefusal(await create({ ...body, ...other }), 409, "idempotency_fingerprint_mismatch");
    }
    await sql`update idempotency_keys set expires_at = now()`.execute(server.db);
    const later = await create({ ...body, metadata: { a: 2 } });
    expect(later.body.workspace.id).not.toBe(first.body.workspace.id);
    expect(await sweepIdempotencyKeys(server.db, 100)).toBe(0);
  });

  test("of concurrent requests with one key one makes it; the others are told to ask again, or get it", async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => create({ idempotency_key: "concurrent" })),
    );
    const made = answers.filter(({ status, body }) => status === 201 && body.is_cached !== true);
    expect(made).toHaveLength(1);
    for (const answer of answers.filter(({ status }) => status !== 201)) {
      expect([answer.status, answer.headers.get("retry-after"), answer.body.code]).toEqual([
        202,
        "1",
        "idempotency_pending",
      ]);
    }
  });
});

describe("reading and changing", () => {
  test("lists newest first, by state, external id and tag", async () => {
    const [a, b] = [await newWorkspace({ tags: ["l", "x"] }), await newWorkspace({ tags: ["l"] })];
    const list = async (query: string) =>
      (await server.request("GET", `/workspaces?${query}`)).body.workspaces.map(
        (workspace: { id: string }) => workspace.id,
      );
    expect(await list("tag=l")).toEqual([b, a]);
    expect(await list("tag=x")).toEqual([a]);
    expect(await list("tag=l&limit=1")).toEqual([b]);
    expect(await list("external_id=mine")).toHaveLength(1);
    await server.request("DELETE", `/workspaces/${a}`);
    expect(await list("state=archived&tag=l")).toEqual([a]);
    expect(await list("state=active&tag=l")).toEqual([b]);
    for (const query of ["limit=0", "limit=201", "limit=x", "state=gone", "tag="]) {
      expectRefusal(await server.request("GET", `/workspaces?${query}`), 400);
    }
  });

  test("what is not there is 404, what is no UUID 400", async () => {
    for (const [method, path, body] of [
      ["GET", "", undefined],
      ["PATCH", "", {}],
      ["DELETE", "", undefined],
      ["POST", "/fork", {}],
      ["GET", "/versions", undefined],
      ["GET", `/versions/${missing}`, undefined],
      ["POST", `/versions/${missing}/restore`, {}],
    ] as const) {
      const answer = await server.request(method, `/workspaces/${missing}${path}`, body);
      expect([answer.status, answer.body]).toEqual([404, { error: "workspace not found" }]);
      expectRefusal(await server.request(method, `/workspaces/x${path}`, body), 400);
    }
  });

  test("metadata and tags are replaced, each when it is given", async () => {
    const id = await newWorkspace({ metadata: { a: 1 }, tags: ["t"] });
    const patch = (body: unknown) => server.request("PATCH", `/workspaces/${id}`, body);
    expect((await patch({ metadata: { b: 2 } })).body.workspace).toMatchObject({
      metadata: { b: 2 },
      tags: ["t"],
    });
    const cleared = (await patch({ tags: [], metadata: {} })).body.workspace;
    expect([cleared.tags, cleared.metadata]).toEqual([undefined, undefined]);
    for (const body of [{ state: "archived" }, { tags: "t" }, [], ""]) expectRefusal(await patch(body), 400);
    expect(await auditOf(id)).toEqual(["workspace.create", "workspace.update", "workspace.update"]);
  });
});

describe("in use", () => {
  test("a run holds it: dirty, neither archived nor restored; queued for it, it is not archived", async () => {
    const id = await newWorkspace();
    const version = await save(id, "before");
    const { body } = await server.request("POST", "/sessions", { task_id: "hello", workspace_id: id });
    const archive = () => server.request("DELETE", `/workspaces/${id}`);
    const restore = () => server.request("POST", `/workspaces/${id}/versions/${version}/restore`);
    expectRefusal(await archive(), 409, "workspace_in_use");
    expect((await restore()).status).toBe(201);
    expect((await read(id)).dirty_state).toBe("clean");
    const run = await leaseRun(server, body.run.id);
    expect((await read(id)).dirty_state).toBe("dirty");
    for (const answer of [await archive(), await restore()]) expectRefusal(answer, 409, "workspace_in_use");
    await run.finish({ status: "succeeded" });
    expect((await read(id)).dirty_state).toBe("clean");
    expect((await archive()).status).toBe(200);
  });

  test("a live copy of its own, until it ends", async () => {
    const id = await newWorkspace();
    const version = await save(id, "x");
    await sql`insert into workspace_materializations (id, environment_id, project_id, workspace_id, deployment_sandbox_id, state)
      values (gen_random_uuid(), ${server.scope.environmentId}, ${server.scope.projectId}, ${id},
        ${task.deploymentSandboxId}, 'requested')`.execute(server.db);
    expectRefusal(await server.request("DELETE", `/workspaces/${id}`), 409, "workspace_in_use");
    const restore = `/workspaces/${id}/versions/${version}/restore`;
    expectRefusal(await server.request("POST", restore), 409, "workspace_in_use");
    expect((await read(id)).dirty_state).toBe("clean");
    await sql`update workspace_materializations set state = 'running' where workspace_id = ${id}`.execute(
      server.db,
    );
    expect((await read(id)).dirty_state).toBe("dirty");
    await sql`update workspace_materializations set state = 'stopped', ended_at = now() where workspace_id = ${id}`.execute(
      server.db,
    );
    expect((await server.request("DELETE", `/workspaces/${id}`)).status).toBe(200);
  });
});

describe("archiving", () => {
  test("it is answered whole, again the same; nothing starts in it, its versions are still there", async () => {
    const id = await newWorkspace({ external_id: "archived" });
    const version = await save(id, "kept");
    const first = await server.request("DELETE", `/workspaces/${id}`);
    expect(first.body.workspace).toMatchObject({
      id,
      state: "archived",
      desired_state: "archived",
      archived_at: expect.any(String),
      auto_delete_at: expect.any(String),
    });
    const days = (Date.parse(first.body.workspace.auto_delete_at) - Date.now()) / 86_400_000;
    expect(Math.round(days)).toBe(30);
    expect((await server.request("DELETE", `/workspaces/${id}`)).body).toEqual(first.body);
    expect((await auditOf(id)).filter((action) => action === "workspace.archive")).toHaveLength(1);
    const start = await server.request("POST", "/sessions", { task_id: "hello", workspace_id: id });
    expectRefusal(start, 409, "workspace_not_active");
    expectRefusal(await server.request("PATCH", `/workspaces/${id}`, {}), 409, "workspace_not_active");
    const restore = await server.request("POST", `/workspaces/${id}/versions/${version}/restore`);
    expectRefusal(restore, 409, "workspace_not_active");
    expect((await server.request("GET", `/workspaces/${id}/versions/${version}`)).status).toBe(200);
    expect((await server.request("POST", `/workspaces/${id}/fork`)).status).toBe(201);
  });

  test("when its time is over its versions go, it stays to be read, and its external id is free", async () => {
    const id = await newWorkspace({ external_id: "purged" });
    for (let n = 0; n < 12; n += 1) await save(id, `${n}`);
    await archiveWorkspace(server.db, server.scope, id, 0);
    await sql`update workspaces set auto_delete_at = now() - interval '1 s' where id = ${id}`.execute(
      server.db,
    );
    expect(await purgeArchived(server.db)).toBe(true);
    expect(await read(id)).toMatchObject({ state: "deleting", desired_state: "deleted" });
    expectRefusal(await server.request("POST", `/workspaces/${id}/fork`), 409, "workspace_not_active");
    while (await purgeArchived(server.db));
    const gone = await read(id);
    expect(gone).toMatchObject({ state: "deleted", deleted_at: expect.any(String) });
    expect([gone.current_version_id, gone.external_id, gone.auto_delete_at]).toEqual(
      Array(3).fill(undefined),
    );
    expect((await server.request("GET", `/workspaces/${id}/versions`)).body).toEqual({ versions: [] });
    const listed = (await server.request("GET", "/workspaces?limit=200")).body.workspaces;
    expect(listed.map((workspace: { id: string }) => workspace.id)).not.toContain(id);
    expect((await server.request("GET", "/workspaces?state=deleted")).body.workspaces).toHaveLength(1);
    await newWorkspace({ external_id: "purged" });
  });
});

describe("versions and forks", () => {
  test("newest first, by kind; each is read by its workspace only", async () => {
    const [id, other] = [await newWorkspace(), await newWorkspace()];
    const versions = [await save(id, "1"), await save(id, "2"), await save(id, "3")];
    const list = async (query = "") =>
      (await server.request("GET", `/workspaces/${id}/versions${query}`)).body.versions.map(
        (version: { id: string }) => version.id,
      );
    expect(await list()).toEqual([...versions].reverse());
    expect(await list("?limit=1")).toEqual(versions.slice(-1));
    expect(await list("?kind=user")).toHaveLength(3);
    expect(await list("?kind=system")).toEqual([]);
    for (const query of ["?kind=x", "?limit=0", "?limit=201"]) {
      expectRefusal(await server.request("GET", `/workspaces/${id}/versions${query}`), 400);
    }
    const one = await server.request("GET", `/workspaces/${id}/versions/${versions[1]}`);
    expect(one.body.version).toEqual({
      id: versions[1],
      workspace_id: id,
      parent_version_id: versions[0],
      kind: "user",
      state: "ready",
      content_digest: testTree("2").contentDigest,
      size_bytes: 1,
      artifact_encoding: "helmr.tree.v1",
      artifact_entry_count: 1,
      promoted_at: expect.any(String),
      created_at: expect.any(String),
    });
    const elsewhere = await server.request("GET", `/workspaces/${other}/versions/${versions[1]}`);
    expect([elsewhere.status, elsewhere.body]).toEqual([404, { error: "version not found" }]);
    const restored = await server.request("POST", `/workspaces/${other}/versions/${versions[1]}/restore`);
    expect([restored.status, restored.body]).toEqual([404, { error: "version not found" }]);
  });

  test("a restored version is a new one, with what is said about it", async () => {
    const id = await newWorkspace();
    const [first, second] = [await save(id, "1"), await save(id, "2")];
    const restore = await server.request("POST", `/workspaces/${id}/versions/${first}/restore`, {
      message: " back ",
    });
    expect(restore.body.version).toMatchObject({
      parent_version_id: second,
      kind: "user",
      message: "back",
      content_digest: testTree("1").contentDigest,
    });
    expect((await read(id)).current_version_id).toBe(restore.body.version.id);
    expect(await auditOf(id)).toContain("workspace.restore");
  });

  test("a fork starts with a version's files, and goes its own way", async () => {
    const id = await newWorkspace({ tags: ["t"], metadata: { a: 1 }, external_id: "source" });
    const [first] = [await save(id, "1"), await save(id, "2")];
    const fork = (body?: object) => server.request("POST", `/workspaces/${id}/fork`, body);
    const current = (await fork()).body.workspace;
    expect(current).toMatchObject({ sandbox_id: "box", tags: ["t"], metadata: { a: 1 }, state: "active" });
    expect(current.external_id).toBeUndefined();
    const versions = (await server.request("GET", `/workspaces/${current.id}/versions`)).body.versions;
    expect(versions).toMatchObject([
      { id: current.current_version_id, content_digest: testTree("2").contentDigest, kind: "user" },
    ]);
    const named = (await fork({ version_id: first, tags: [], external_id: "forked" })).body.workspace;
    expect([named.tags, named.external_id]).toEqual([undefined, "forked"]);
    await save(named.id, "own");
    expect((await read(id)).current_version_id).not.toBe(named.current_version_id);
    expectRefusal(await fork({ external_id: "forked" }), 409);
    expectRefusal(await fork({ version_id: current.current_version_id }), 404);
    expectRefusal(await fork({ version_id: "x" }), 400);
    const empty = await server.request("POST", `/workspaces/${await newWorkspace()}/fork`);
    expect([empty.status, empty.body.workspace.current_version_id]).toEqual([201, undefined]);
    expect(await auditOf(named.id)).toEqual(["workspace.fork", "workspace.upload"]);
  });
});
