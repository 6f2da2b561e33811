/** Deleting environments and projects: what it says first, what it refuses, what is left of it, and who races it. */
import {
  type ActingScope,
  appendToRun,
  createDeployment,
  extendLeases,
  finishRuns,
  type LeaseRef,
  purgePage,
  startRuns,
  systemActor,
} from "@helmr/store";
import { seedTask, seedVersion, seedWorker, testTree } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { claimRun, leaseRun } from "./support/runs.ts";
import { type Answer, startTestServer, type TestServer } from "./support/server.ts";
import { openStream, takeAll } from "./support/sse.ts";

let server: TestServer;
let admin: { token: string; userId: string };
beforeAll(async () => {
  server = await startTestServer();
  admin = await server.newMember("admin");
});
afterAll(() => server.stop());

const call = (method: string, path: string, body?: unknown, key = admin.token) =>
  server.request(method, path, body, { key });

interface Place {
  readonly scope: ActingScope;
  /** Of CRUD and of prefixed routes. */
  readonly path: string;
  readonly key: string;
}

let places = 0;
/** An environment of the test's project with a deployed task `hello`. */
async function newPlace(): Promise<Place> {
  places += 1;
  const { organizationId, projectId, actor } = server.scope;
  const body = { slug: `place-${places}`, color_hex: "#000000" };
  const made = await call("POST", `/projects/${projectId}/environments`, body);
  expect(made.status).toBe(201);
  const scope = { organizationId, projectId, environmentId: made.body.id, actor };
  await seedTask(server.db, scope);
  const path = `/projects/${projectId}/environments/${scope.environmentId}`;
  return { scope, path, key: await server.newKey(scope) };
}

const start = (place: Place, body: object = {}): Promise<Answer> =>
  call("POST", `${place.path}/sessions`, { task_id: "hello", ...body });

async function purgeAll(): Promise<void> {
  while ((await purgePage(server.db)) !== undefined);
}

const digest = `sha256:${"ab".repeat(32)}`;
const newDeployment = (scope: ActingScope) =>
  createDeployment(
    server.db,
    scope,
    {
      contentHash: digest,
      sourceDigest: digest,
      sourceSizeBytes: 1,
      apiVersion: "2026-06-06",
      bundleFormatVersion: 2,
      workerProtocolVersion: "helmr.worker.v1",
    },
    async () => true,
  );

interface Ids {
  readonly environment: string;
  readonly runs: string[];
  readonly deployments: string[];
  readonly sessions: string[];
  readonly session_streams: string[];
  readonly workspaces: string[];
  readonly workspace_versions: string[];
  readonly workspace_materializations: string[];
}

/** Rows of the environment in every table that can hold some, also by its runs and deployments: read from the schema. */
async function rowsOf(ids: Ids) {
  const { rows: columns } = await sql<{ table_name: string; column_name: string }>`
    select c.table_name, c.column_name from information_schema.columns c
    join information_schema.tables t using (table_schema, table_name)
    where c.table_schema = 'public' and t.table_type = 'BASE TABLE' and c.table_name <> 'audit_log'
      and c.column_name in ('environment_id', 'run_id', 'deployment_id', 'session_id', 'stream_id', 'workspace_id',
        'version_id', 'materialization_id') order by 1, 2`.execute(server.db);
  const counts: Record<string, number> = {};
  for (const { table_name, column_name } of columns) {
    const wanted = {
      environment_id: [ids.environment],
      run_id: ids.runs,
      deployment_id: ids.deployments,
      session_id: ids.sessions,
      stream_id: ids.session_streams,
      workspace_id: ids.workspaces,
      version_id: ids.workspace_versions,
      materialization_id: ids.workspace_materializations,
    };
    const { rows } = await sql<{ n: number }>`select count(*) as n from ${sql.table(table_name)}
      where ${sql.ref(column_name)} = any (${wanted[column_name as keyof typeof wanted]}::uuid[])`.execute(
      server.db,
    );
    counts[table_name] = Math.max(counts[table_name] ?? 0, rows[0]?.n ?? 0);
  }
  return counts;
}

async function idsOf({ scope }: Place): Promise<Ids> {
  const read = async (table: Exclude<keyof Ids, "environment">) =>
    (
      await server.db
        .selectFrom(table)
        .select("id")
        .where("environment_id", "=", scope.environmentId)
        .execute()
    ).map(({ id }) => id);
  return {
    environment: scope.environmentId,
    runs: await read("runs"),
    deployments: await read("deployments"),
    sessions: await read("sessions"),
    session_streams: await read("session_streams"),
    workspaces: await read("workspaces"),
    workspace_versions: await read("workspace_versions"),
    workspace_materializations: await read("workspace_materializations"),
  };
}

/** Something in every table. */
async function fill(place: Place) {
  const started = await start(place, { idempotency_key: "k", payload: { n: 1 } });
  await call("PUT", `${place.path}/secrets/A`, { value: "v" });
  const schedule = { deduplication_key: "k", task: "hello", cron: "0 0 1 1 *" };
  expect((await call("POST", `${place.path}/schedules`, schedule)).status).toBe(201);
  await fillWorkspace(place);
  await newDeployment(place.scope);
  const [deployment] = (await idsOf(place)).deployments;
  await sql`insert into paused_queues (environment_id, name) values (${place.scope.environmentId}, 'q')`.execute(
    server.db,
  );
  await sql`insert into deployment_queues (deployment_id, name) values (${deployment}, 'q')`.execute(
    server.db,
  );
  const runId = started.body.run.id;
  const worker = await leaseRun(server, runId);
  await worker.log("stdout", "hello");
  await call("POST", `${place.path}/runs/${runId}/cancel`, {});
  const sessionId = started.body.session.id;
  await fillWaits({ environmentId: place.scope.environmentId, runId, sessionId, deployment });
  return { runId, sessionId };
}

/** What a workspace has, its live copy still up. */
async function fillWorkspace(place: Place): Promise<void> {
  const { environmentId, projectId } = place.scope;
  const { body } = await call("POST", `${place.path}/workspaces`, { sandbox_id: "box" });
  const workspace = body.workspace.id;
  for (const content of ["a", "b"]) {
    await seedVersion(server.db, place.scope, workspace, testTree(content, workspace));
  }
  const [copy, exec, pty] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
  for (const statement of [
    sql`insert into artifact_reservations (digest, lease_id) values ('x', gen_random_uuid()) on conflict do nothing`,
    sql`insert into workspace_materializations (id, environment_id, project_id, workspace_id, deployment_sandbox_id, state)
      values (${copy}, ${environmentId}, ${projectId}, ${workspace}, gen_random_uuid(), 'running')`,
    sql`insert into workspace_commands (materialization_id, seq, body)
      select ${copy}, n, '{}' from generate_series(1, 300) n`,
    sql`insert into workspace_requests (id, materialization_id, environment_id, status, params, expires_at)
      values (gen_random_uuid(), ${copy}, ${environmentId}, 'pending', '{}', now())`,
    sql`insert into workspace_execs (id, environment_id, workspace_id, materialization_id, command, state)
      values (${exec}, ${environmentId}, ${workspace}, ${copy}, '["true"]', 'running')`,
    sql`insert into workspace_ptys (id, environment_id, workspace_id, materialization_id, cols, rows, state)
      values (${pty}, ${environmentId}, ${workspace}, ${copy}, 80, 24, 'open')`,
    sql`insert into workspace_stream_chunks (resource_id, stream, offset_start, offset_end, id, workspace_id, data, observed_at)
      select r, 'stdout', n, n + 1, gen_random_uuid(), ${workspace}, 'x', now()
      from generate_series(1, 500) n, unnest(${[exec, pty, crypto.randomUUID()]}::uuid[]) r`,
  ]) {
    await statement.execute(server.db);
  }
}

/** Rows of what a run waits for, as it parks. */
async function fillWaits(ids: {
  environmentId: string;
  runId: string;
  sessionId: string;
  deployment: string | undefined;
}): Promise<void> {
  const { environmentId, runId, sessionId, deployment } = ids;
  const [stream, token, wait] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
  for (const statement of [
    sql`insert into deployment_streams (deployment_id, name, direction) values (${deployment}, 's', 'input')`,
    sql`insert into session_streams (id, environment_id, session_id, name, direction)
      values (${stream}, ${environmentId}, ${sessionId}, 's', 'input')`,
    sql`insert into stream_records (stream_id, sequence, id, data, content_type)
      select ${stream}, n, gen_random_uuid(), '1', 'application/json' from generate_series(1, 3000) n`,
    sql`insert into stream_cursors (stream_id, correlation_id) values (${stream}, '')`,
    sql`insert into session_continuations (session_id, environment_id) values (${sessionId}, ${environmentId})`,
    sql`insert into public_access_tokens (id, environment_id, token_hash, scope_type, session_id, stream, expires_at)
      values (gen_random_uuid(), ${environmentId}, 'h', 'session.output.read', ${sessionId}, 's', now())`,
    sql`insert into tokens (id, environment_id, status, timeout_at)
      values (${token}, ${environmentId}, 'pending', now() + interval '1 day')`,
    sql`insert into run_waits (id, environment_id, run_id, attempt_number, number, kind, status, params, stream_id, token_id,
        resolved_at)
      values (${wait}, ${environmentId}, ${runId}, 1, 1, 'stream', 'cancelled', '{}', ${stream}, ${token}, now())`,
    sql`insert into run_checkpoints (id, run_id, wait_id, manifest, artifact_digest, size_bytes)
      values (gen_random_uuid(), ${runId}, ${wait}, '{}', ${`image of ${runId}`}, 1)`,
  ]) {
    await statement.execute(server.db);
  }
}

describe("an environment with something in every table", () => {
  test("says what would go, refuses while work is live, and leaves nothing when forced", async () => {
    const place = await newPlace();
    const { runId, sessionId } = await fill(place);
    const preview = await call("GET", `${place.path}/deletion`);
    expect([preview.status, preview.body]).toEqual([
      200,
      {
        counts: {
          environments: 1,
          sessions: 1,
          runs: 1,
          live_runs: 1,
          workspaces: 2,
          deployments: 2,
          live_deployments: 1,
          secrets: 1,
          api_keys: 1,
        },
      },
    ]);
    const refused = await call("DELETE", place.path);
    expect(refused).toMatchObject({
      status: 409,
      body: { error: expect.stringMatching(/unfinished runs and deployments.*force=true/) },
    });
    expect((await call("GET", `${place.path}/runs/${runId}`)).status).toBe(200);
    const ids = await idsOf(place);
    const before = await rowsOf(ids);
    expect(Object.entries(before).filter(([, n]) => n === 0)).toEqual([]);

    expect((await call("DELETE", `${place.path}?force=true`)).status).toBe(204);
    // Gone for everybody at once, before it is emptied.
    for (const [path, status] of [
      [place.path, 404],
      [`${place.path}/runs/${runId}`, 404],
      [`${place.path}/sessions/${sessionId}`, 404],
      [`${place.path}/secrets/A`, 404],
    ] as const) {
      expect((await call("GET", path)).status).toBe(status);
    }
    expect((await call("GET", "/runs", undefined, place.key)).status).toBe(401);
    expect((await rowsOf(ids)).runs).toBe(1);
    await purgeAll();
    const after = await rowsOf(ids);
    expect(Object.entries(after).filter(([, n]) => n > 0)).toEqual([]);
    expect(Object.keys(after)).toEqual(Object.keys(before));
    const { rows: discarded } =
      await sql`select from discarded_artifacts where digest = ${`image of ${runId}`}`.execute(server.db);
    expect(discarded).toHaveLength(1);
    const { rows: ofVersions } = await sql`select from discarded_artifacts
      where digest = any (${["a", "b"].flatMap((content) => testTree(content, ids.workspaces[1] ?? "").artifacts)})`.execute(
      server.db,
    );
    expect(ofVersions.length).toBeGreaterThan(0);
    const { rows } = await sql`select action, attributes from audit_log
      where resource_id = ${place.scope.environmentId} order by id desc limit 1`.execute(server.db);
    expect(rows).toMatchObject([{ action: "environment.delete", attributes: { force: true } }]);
  });

  test("a project goes with its environments, those of other projects stay", async () => {
    const project = (await call("POST", "/projects", { slug: "goes" })).body;
    const [production] = project.environments;
    const { organizationId, actor } = server.scope;
    const scope = { organizationId, projectId: project.id, environmentId: production.id, actor };
    await seedTask(server.db, scope);
    const place = { scope, path: `/projects/goes/environments/production`, key: await server.newKey(scope) };
    const stays = await newPlace();
    const kept = await start(stays);
    await start(place);
    const preview = await call("GET", `/projects/${project.id}/deletion`);
    expect(preview.body.counts).toMatchObject({ environments: 2, sessions: 1, live_runs: 1 });
    expect((await call("DELETE", `/projects/${project.id}`)).status).toBe(409);
    const ids = await idsOf(place);
    expect((await call("DELETE", `/projects/${project.id}?force=1`)).status).toBe(204);
    expect((await call("GET", `${place.path}/runs`)).status).toBe(404);
    expect((await call("GET", "/runs", undefined, place.key)).status).toBe(401);
    expect((await call("POST", "/projects", { slug: "goes" })).status).toBe(201);
    await purgeAll();
    expect(Object.values(await rowsOf(ids)).filter((n) => n > 0)).toEqual([]);
    const { rows } = await sql`select from projects where id = ${project.id}`.execute(server.db);
    expect(rows).toEqual([]);
    expect((await call("GET", `${stays.path}/runs/${kept.body.run.id}`)).status).toBe(200);
  });
});

test("finished work and failed builds do not hold a deletion", async () => {
  const place = await newPlace();
  const { body } = await start(place);
  await (await leaseRun(server, body.run.id)).finish();
  expect((await call("DELETE", place.path)).status).toBe(204);
  await purgeAll();
});

test("a worker that still holds a lease is told, and every write of its is refused as lost", async () => {
  const place = await newPlace();
  const queued = await start(place, { priority: 1 });
  const { body } = await start(place);
  const workerInstanceId = await seedWorker(server.db, server.environment.workerGroupId);
  const claimed = await claimRun(server.db, workerInstanceId, body.run.id);
  const lease: LeaseRef = { workerInstanceId, leaseId: claimed.lease_id, fencing: claimed.fencing };
  expect((await call("DELETE", `${place.path}?force=true`)).status).toBe(204);
  const cancelled = (await purgePage(server.db))?.cancelledRuns ?? [];
  expect(cancelled).toEqual(
    expect.arrayContaining([
      { runId: claimed.id, workerInstanceId },
      { runId: queued.body.run.id, workerInstanceId: null },
    ]),
  );
  await purgeAll();
  const [started] = await startRuns(server.db, [
    { ...lease, notes: [], guest: { pooled: false, startMs: 1 } },
  ]);
  expect(started).toEqual({ status: "lost" });
  const item = { kind: "log", number: 1, stream: "stdout", content: Buffer.from("x") } as const;
  const occurredAt = new Date().toISOString();
  expect(await appendToRun(server.db, { ...lease, items: [{ ...item, occurredAt }] })).toBeUndefined();
  const [beat] = await extendLeases(server.db, {
    workerInstanceId,
    leases: [lease],
    leaseDurationMs: 60_000,
  });
  expect(beat?.status).toBe("lost");
  const outcome = { status: "succeeded", outputJson: "1" } as const;
  expect(await finishRuns(server.db, [{ ...lease, outcome }])).toEqual([{ status: "lost" }]);
  const none = { deployments: [], sessions: [], session_streams: [], workspaces: [] };
  const ids = {
    environment: place.scope.environmentId,
    runs: [claimed.id],
    ...none,
    workspace_versions: [],
    workspace_materializations: [],
  };
  expect(Object.values(await rowsOf(ids)).filter((n) => n > 0)).toEqual([]);
});

test("open streams end, of members and of API keys", async () => {
  const place = await newPlace();
  const { body } = await start(place);
  const streams = await Promise.all([
    openStream(`${server.url}/api${place.path}/runs/${body.run.id}/events?follow=1`, admin.token),
    openStream(`${server.url}/api/runs/${body.run.id}/logs?follow=1`, place.key),
  ]);
  for (const stream of streams) expect(stream.response.status).toBe(200);
  expect((await call("DELETE", `${place.path}?force=true`)).status).toBe(204);
  for (const stream of streams) await takeAll(stream);
  await purgeAll();
});

describe("races", () => {
  const writers: [string, (place: Place, n: number) => Promise<number | undefined>][] = [
    ["starts by session", async (place, n) => (await start(place, { external_id: `e-${n}` })).status],
    [
      "starts by key",
      async (place) => (await call("POST", "/sessions", { task_id: "hello" }, place.key)).status,
    ],
    [
      "secrets",
      async (place, n) => (await call("PUT", `${place.path}/secrets/S${n}`, { value: "v" })).status,
    ],
    [
      "keys",
      async (place) => {
        const permissions = [{ scopes: ["runs:read"] }];
        return (await call("POST", `${place.path}/api-keys`, { name: "n", permissions })).status;
      },
    ],
    [
      "promotions",
      async (place) => {
        const [deployment] = (await idsOf(place)).deployments;
        if (deployment === undefined) return undefined;
        return (await call("POST", `${place.path}/deployments/${deployment}/promote`, {})).status;
      },
    ],
  ];

  test.each(writers)("%s are deleted with the environment, or refused", async (_name, write) => {
    for (let round = 0; round < 4; round += 1) {
      const place = await newPlace();
      const before = await idsOf(place);
      const [deleted, ...statuses] = await Promise.all([
        new Promise((resolve) => setTimeout(resolve, round * 4)).then(() =>
          call("DELETE", `${place.path}?force=true`),
        ),
        ...Array.from({ length: 6 }, (_each, n) => write(place, n)),
        purgeAll(),
      ]);
      expect(deleted.status).toBe(204);
      for (const status of statuses) expect([200, 201, 401, 404, undefined]).toContain(status);
      // The last word is the schema's: one more purge after everybody is done.
      await purgeAll();
      expect(Object.values(await rowsOf(before)).filter((n) => n > 0)).toEqual([]);
      const { rows } = await sql`select from environments where id = ${place.scope.environmentId}`.execute(
        server.db,
      );
      expect(rows).toEqual([]);
    }
    const { rows: orphans } = await sql`select id from runs r
      where not exists (select from environments e where e.id = r.environment_id)`.execute(server.db);
    expect(orphans).toEqual([]);
  });

  test("without force: either the start is seen, or it finds the environment closed", async () => {
    for (let round = 0; round < 8; round += 1) {
      const place = await newPlace();
      const [deleted, ...starts] = await Promise.all([
        new Promise((resolve) => setTimeout(resolve, round * 2)).then(() => call("DELETE", place.path)),
        ...Array.from({ length: 3 }, () => start(place)),
      ]);
      const statuses = starts.map(({ status }) => status);
      expect([204, 409]).toContain(deleted.status);
      if (deleted.status === 204) {
        expect(new Set(statuses)).toEqual(new Set([404]));
      } else {
        expect(statuses).toContain(201);
        for (const status of statuses) expect(status).toBe(201);
      }
    }
    await purgeAll();
  });

  test("a start that has read the environment before the mark is waited for", async () => {
    const place = await newPlace();
    const { environmentId } = place.scope;
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let reading: (value?: unknown) => void = () => {};
    const hasLock = new Promise((resolve) => {
      reading = resolve;
    });
    const open = server.db.transaction().execute(async (tx) => {
      await sql`select from environments where id = ${environmentId} for key share`.execute(tx);
      reading();
      await held;
      await sql`insert into api_keys (id, environment_id, name, key_hash, key_prefix, scopes)
        values (gen_random_uuid(), ${environmentId}, 'late', 'late', 'late', '{}')`.execute(tx);
    });
    await hasLock;
    const deleting = call("DELETE", place.path);
    await vi.waitUntil(async () => {
      const { rows } = await sql`select from pg_stat_activity where wait_event_type = 'Lock'
        and query like '%from environments%for update%'`.execute(server.db);
      return rows.length > 0;
    }, 30_000);
    release();
    await open;
    expect((await deleting).status).toBe(204);
    const { rows } = await sql`select from api_keys where environment_id = ${environmentId}`.execute(
      server.db,
    );
    expect(rows).toEqual([]);
    expect((await start(place)).status).toBe(404);
    await purgeAll();
  });

  test("an environment that is added to a project while it is deleted goes too, or is refused", async () => {
    for (let round = 0; round < 4; round += 1) {
      const project = (await call("POST", "/projects", { slug: `raced-${round}` })).body;
      const add = (n: number) =>
        call("POST", `/projects/${project.id}/environments`, { slug: `e-${n}`, color_hex: "#000000" });
      const [deleted, ...added] = await Promise.all([
        call("DELETE", `/projects/${project.id}`),
        ...Array.from({ length: 4 }, (_each, n) => add(n)),
      ]);
      expect(deleted.status).toBe(204);
      for (const { status } of added) expect([201, 404]).toContain(status);
      await purgeAll();
      const { rows } = await sql`select id from environments where project_id = ${project.id}`.execute(
        server.db,
      );
      expect(rows).toEqual([]);
    }
  });

  test("two purges at once", async () => {
    const place = await newPlace();
    await Promise.all(Array.from({ length: 10 }, () => start(place)));
    const ids = await idsOf(place);
    await call("DELETE", `${place.path}?force=true`);
    await Promise.all([purgeAll(), purgeAll(), purgeAll()]);
    await purgeAll();
    expect(Object.values(await rowsOf(ids)).filter((n) => n > 0)).toEqual([]);
  });
});

test("a deployment is refused where the environment is being deleted, and when its source was removed meanwhile", async () => {
  const place = await newPlace();
  const removed = createDeployment(
    server.db,
    place.scope,
    {
      contentHash: digest,
      sourceDigest: digest,
      sourceSizeBytes: 1,
      apiVersion: "2026-06-06",
      bundleFormatVersion: 2,
      workerProtocolVersion: "helmr.worker.v1",
    },
    async () => false,
  );
  await expect(removed).rejects.toMatchObject({ status: 503 });
  await call("DELETE", place.path);
  await expect(newDeployment({ ...place.scope, actor: systemActor("test") })).rejects.toMatchObject({
    status: 404,
  });
  await purgeAll();
});
