/** Live copies of workspaces and what is done in them: who wins each race, what ends with what. */
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import {
  type ActingScope,
  acknowledgeCommands,
  answerRequest,
  appendToMaterialization,
  askLive,
  attachRequested,
  bindRunCopies,
  claimMaterializations,
  claimRuns,
  closePty,
  closeStdin,
  createExec,
  createPty,
  createWait,
  expireLeases,
  expireMaterializations,
  expireRequests,
  expireWaits,
  finishMaterialization,
  finishRuns,
  getExec,
  getMaterialization,
  getPty,
  getRun,
  killExec,
  type MaterializationRef,
  noteWaitingForWorkspace,
  parkRun,
  pollWorkspaces,
  readChunks,
  releaseMaterializations,
  removeOldStreams,
  requestMaterialization,
  requestStop,
  resizePty,
  startMaterialization,
  startRuns,
  stopIdle,
  takeAnswer,
  transaction,
  writePtyInput,
  writeStdin,
  yieldToRuns,
} from "../src/index.ts";
import {
  type SeededTask,
  seedEnvironment,
  seedSession,
  seedStartedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

const compatibility = "gvisor test x64";
const lostAfterMs = 60_000;
const idleStopMs = 60_000;
let database: TestDatabase;
let scope: ActingScope;
let workers: [string, string];
let task: SeededTask;
let workspaceId: string;
beforeAll(async () => {
  database = await startTestDatabase();
  const environment = await seedEnvironment(database.db);
  ({ scope } = environment);
  const capabilities = { checkpoint_compatibility: compatibility };
  workers = [
    await seedWorker(database.db, environment.workerGroupId, capabilities),
    await seedWorker(database.db, environment.workerGroupId, capabilities),
  ];
  task = await seedTask(database.db, scope);
});
afterAll(() => database.stop());
beforeEach(async () => {
  await sql`delete from workspace_materializations`.execute(database.db);
  await sql`delete from runs`.execute(database.db);
  ({ workspaceId } = await seedSession(database.db, scope, task));
});

interface Copy extends MaterializationRef {
  readonly leaseId: string;
}

const exec = (command = ["true"], more: { idempotencyKey?: string } = {}) =>
  createExec(database.db, scope, workspaceId, { command, ...more });
const request = async () => {
  const requested = await requestMaterialization(database.db, scope, workspaceId);
  if (requested === undefined || requested === "stopping")
    throw new Error(`nothing was requested: ${requested}`);
  return requested;
};
const claim = (workerInstanceId = workers[0], limit = 10) =>
  claimMaterializations(database.db, { workerInstanceId, limit, lostAfterMs });
const claimRun = async (workerInstanceId = workers[0]) =>
  (await claimRuns(database.db, { workerInstanceId, limit: 1, leaseDurationMs: 30_000 }))[0];
const rowOf = (id: string) => getMaterialization(database.db, scope, { workspaceId, id });

/** A copy that a worker has. */
async function claimed(): Promise<Copy> {
  const [copy] = await claim();
  if (copy === undefined) throw new Error("nothing to claim");
  return {
    materializationId: copy.id,
    workerInstanceId: workers[0],
    fencing: copy.fencing,
    leaseId: copy.lease_id,
  };
}

async function up(): Promise<Copy> {
  await request();
  const copy = await claimed();
  await startMaterialization(database.db, { ...copy, idleStopMs });
  return copy;
}

async function createdExec(command?: string[]) {
  const created = await exec(command);
  if (created === undefined || created === "stopping") throw new Error("no exec");
  return created.row;
}

const appendItems = (copy: Copy, items: Parameters<typeof appendToMaterialization>[1]["items"]) =>
  appendToMaterialization(database.db, { ...copy, items });
const poll = (copy: Copy, afterSeq = 0) =>
  pollWorkspaces(database.db, copy.workerInstanceId, [
    { materializationId: copy.materializationId, fencing: copy.fencing, afterSeq },
  ]);
const kinds = async (copy: Copy, afterSeq = 0) =>
  (await poll(copy, afterSeq)).commands.map(({ command }) => command.kind);
const output = (number: number, resourceId: string, offset: number, text: string) =>
  ({
    kind: "output",
    number,
    resource_id: resourceId,
    stream: "stdout",
    offset,
    content_base64: Buffer.from(text).toString("base64"),
    observed_at: "2026-01-01T00:00:00Z",
  }) as const;
const code = (name: string) => expect.objectContaining({ code: name });

/** A run of the task in the test's workspace, with a lease. */
async function running(worker = workers[0]) {
  const { runId } = await seedStartedSession(database.db, scope, task);
  await sql`update runs set workspace_id = ${workspaceId} where id = ${runId}`.execute(database.db);
  const run = await claimRun(worker);
  if (run?.id !== runId) throw new Error("the run was not claimed");
  const lease = { workerInstanceId: worker, leaseId: run.lease_id, fencing: run.fencing };
  await startRuns(database.db, [{ ...lease, notes: [], guest: { pooled: false, startMs: 1 } }]);
  return { ...lease, runId };
}

async function queued(): Promise<string> {
  const { runId } = await seedStartedSession(database.db, scope, task);
  await sql`update runs set workspace_id = ${workspaceId} where id = ${runId}`.execute(database.db);
  return runId;
}

type Running = Awaited<ReturnType<typeof running>>;

async function waiting(run: Running): Promise<string> {
  const waitFor = { kind: "timer", dueAt: new Date(Date.now() + 3_600_000) } as const;
  const made = await createWait(database.db, { ...run, number: 1, waitFor, metadata: {}, tags: [] });
  if (made.status === "lost") throw new Error("lost");
  return made.wait.id;
}

const park = (run: Running, waitId: string) =>
  parkRun(database.db, {
    ...run,
    waitId,
    manifest: { compatibility },
    artifactDigest: `sha256:${waitId}`,
    sizeBytes: 1,
    timings: {},
  });
const stateOf = async (runId: string) => {
  const run = await getRun(database.db, scope, runId);
  return `${run?.status}/${run?.execution_status}`;
};

describe("a copy of its own", () => {
  test("is requested once, claimed once, started, stopped with a save, finished", async () => {
    const [first, second] = await Promise.all([request(), request()]);
    expect([first.created, second.created].sort()).toEqual([false, true]);
    expect(first.materialization.id).toBe(second.materialization.id);
    const claims = (await Promise.all([claim(workers[0]), claim(workers[1])])).flat();
    expect(claims).toHaveLength(1);
    const [copy] = claims;
    if (copy === undefined) throw new Error("unclaimed");
    const { rows } = await sql<{
      worker: string;
    }>`select worker_instance_id as worker from workspace_materializations
      where id = ${copy.id}`.execute(database.db);
    const ref = {
      materializationId: copy.id,
      workerInstanceId: rows[0]?.worker ?? "",
      fencing: copy.fencing,
    };
    expect(copy.deployment_id).toBe(task.deploymentId);
    expect(await rowOf(copy.id)).toMatchObject({ state: "materializing", claim_attempt: 1 });
    await startMaterialization(database.db, { ...ref, idleStopMs });
    expect(await rowOf(copy.id)).toMatchObject({ state: "running" });
    const stopped = await requestStop(database.db, scope, workspaceId, { idempotencyKeyTtlMs: 1000 });
    expect(stopped?.materialization?.state).toBe("stopping");
    expect(await kinds({ ...ref, leaseId: copy.lease_id })).toEqual(["stop"]);
    expect(await requestMaterialization(database.db, scope, workspaceId)).toBe("stopping");
    expect(await exec()).toBe("stopping");
    const ended = await finishMaterialization(database.db, { ...ref, outcome: { status: "stopped" } });
    expect(ended).toMatchObject({ state: "stopped", workspaceId });
    expect(
      await finishMaterialization(database.db, { ...ref, outcome: { status: "stopped" } }),
    ).toBeUndefined();
    expect((await request()).created).toBe(true);
  });

  test("that nobody has yet is stopped at once, with the exec in it", async () => {
    const created = await createdExec();
    const stopped = await requestStop(database.db, scope, workspaceId, { idempotencyKeyTtlMs: 1000 });
    expect(stopped).toMatchObject({
      materialization: { state: "stopped" },
      ended: { execIds: [created.id] },
    });
    expect(await getExec(database.db, scope, { workspaceId, id: created.id })).toMatchObject({
      state: "terminated",
    });
    expect(await claim()).toEqual([]);
  });

  test("that comes up just now is told to stop as soon as it names itself, and starts nothing", async () => {
    await createdExec();
    const copy = await claimed();
    expect((await poll(copy)).commands).toEqual([]);
    await requestStop(database.db, scope, workspaceId, { idempotencyKeyTtlMs: 1000 });
    expect(await kinds(copy)).toEqual(["stop"]);
    await startMaterialization(database.db, { ...copy, idleStopMs });
    expect(await rowOf(copy.materializationId)).toMatchObject({ state: "stopping" });
  });

  test("nothing to stop: said so, and a key gives the same answer again", async () => {
    const stop = () =>
      requestStop(database.db, scope, workspaceId, { idempotencyKey: "k", idempotencyKeyTtlMs: 60_000 });
    expect(await stop()).toEqual({ materialization: undefined });
    const { materialization } = await request();
    expect(await stop()).toEqual({ materialization: undefined });
    expect((await rowOf(materialization.id))?.state).toBe("requested");
  });

  test("a start that fails is tried again after a pause, three times; a final failure is not, and is said again", async () => {
    const { materialization } = await request();
    const fail = async (failure?: string) => {
      const copy = await claimed();
      const outcome = { status: "failed", message: "no room", unsaved: false, code: failure } as const;
      return (await finishMaterialization(database.db, { ...copy, outcome }))?.state;
    };
    const created = await createdExec();
    for (const state of ["requested", "requested", "failed"]) {
      await sql`update workspace_materializations set updated_at = now() - interval '1 minute'`.execute(
        database.db,
      );
      expect(await fail()).toBe(state);
      expect(await claim()).toEqual([]);
    }
    expect(await getExec(database.db, scope, { workspaceId, id: created.id })).toMatchObject({
      state: "failed",
      error: { message: "no room" },
    });
    expect((await rowOf(materialization.id))?.error).toEqual({ message: "no room" });
    await request();
    expect(await fail("workspace_version_artifact_corrupt")).toBe("failed");
    await expect(request()).rejects.toEqual(code("workspace_version_artifact_corrupt"));
  });

  test("a claim that never reached its worker is taken back and not counted", async () => {
    await request();
    const copy = await claimed();
    await releaseMaterializations(database.db, [copy.leaseId]);
    expect(await rowOf(copy.materializationId)).toMatchObject({ state: "requested", claim_attempt: 0 });
    const [again] = await claim();
    expect(again?.fencing).toBeGreaterThan(copy.fencing);
  });

  test("an archived workspace gets none", async () => {
    await sql`update workspaces set state = 'archived' where id = ${workspaceId}`.execute(database.db);
    await expect(request()).rejects.toEqual(code("workspace_not_active"));
    await expect(exec()).rejects.toEqual(code("workspace_not_active"));
    const elsewhere = { ...scope, environmentId: scope.projectId };
    expect(await requestMaterialization(database.db, elsewhere, workspaceId)).toBeUndefined();
  });

  test("that nobody takes fails in the end, and says what to do", async () => {
    const { materialization } = await request();
    expect(await expireMaterializations(database.db, { limit: 10, lostAfterMs })).toEqual([]);
    const ended = await expireMaterializations(database.db, { limit: 10, lostAfterMs: 0 });
    expect(ended).toMatchObject([{ state: "failed" }]);
    expect((await rowOf(materialization.id))?.error).toMatchObject({
      code: "workspace_materialization_not_runnable",
      message: expect.stringContaining("start a worker"),
    });
  });
});

test("a copy that a command asks for goes to another worker when the last one does not take it", async () => {
  await sql`update workspaces set worker_instance_id = ${workers[0]} where id = ${workspaceId}`.execute(
    database.db,
  );
  await createdExec();
  expect(await claim(workers[1])).toEqual([]);
  await sql`update workspace_materializations set created_at = now() - interval '3 seconds'`.execute(
    database.db,
  );
  expect(await claim(workers[1])).toHaveLength(1);
});

describe("a silent worker", () => {
  test("loses its copy: what ran there is lost, its late writes are refused, changes are said to be lost", async () => {
    const copy = await up();
    const created = await createdExec();
    await appendItems(copy, [{ kind: "exec.started", number: 1, exec_id: created.id, pid: 5 }]);
    await sql`update workspace_materializations set reservation_expires_at = now()`.execute(database.db);
    const [swept, late] = await Promise.all([
      expireMaterializations(database.db, { limit: 10, lostAfterMs }),
      appendItems(copy, [output(2, created.id, 0, "late")]),
    ]);
    const [ended] =
      swept.length > 0 ? swept : await expireMaterializations(database.db, { limit: 10, lostAfterMs });
    expect(ended).toMatchObject({ state: "lost", execIds: [created.id] });
    const row = await getExec(database.db, scope, { workspaceId, id: created.id });
    expect(row).toMatchObject({ state: "lost", stdout_cursor: late === undefined ? 0 : 4 });
    expect(row?.error).toMatchObject({ message: expect.stringContaining("last saved version") });
    expect(await appendItems(copy, [output(3, created.id, 0, "later")])).toBeUndefined();
    expect(await startMaterialization(database.db, { ...copy, idleStopMs })).toBeUndefined();
    expect((await poll(copy)).lost).toEqual([copy.materializationId]);
    const { rows } = await sql`select dirty_state from workspaces where id = ${workspaceId}`.execute(
      database.db,
    );
    expect(rows).toEqual([{ dirty_state: "dirty_state_lost" }]);
  });

  test("loses nothing when nothing ran; registering anew ends all of its copies and no other's", async () => {
    const copy = await up();
    expect(
      await expireMaterializations(database.db, { limit: 10, lostAfterMs, workerInstanceId: workers[1] }),
    ).toEqual([]);
    const ended = await expireMaterializations(database.db, {
      limit: 10,
      lostAfterMs,
      workerInstanceId: workers[0],
    });
    expect(ended.map((each) => each.materializationId)).toEqual([copy.materializationId]);
    const { rows } = await sql`select dirty_state from workspaces where id = ${workspaceId}`.execute(
      database.db,
    );
    expect(rows).toEqual([{ dirty_state: "clean" }]);
  });
});

test.each(["workspaces", "workspace_materializations"])(
  "registering anew waits for what somebody has locked just now: %s",
  async (table) => {
    const copy = await up();
    const id = table === "workspaces" ? workspaceId : copy.materializationId;
    const input = { limit: 10, lostAfterMs, workerInstanceId: workers[0] };
    const { locked, release } = {
      locked: Promise.withResolvers<void>(),
      release: Promise.withResolvers<void>(),
    };
    const holder = transaction(database.db, async (tx) => {
      await sql`select from ${sql.table(table)} where id = ${id} for update`.execute(tx);
      locked.resolve();
      await release.promise;
    });
    await locked.promise;
    const ended = expireMaterializations(database.db, input);
    const isWaiting = async () => {
      const { rows } = await sql`select from pg_locks where not granted`.execute(database.db);
      return rows.length > 0;
    };
    await vi.waitUntil(isWaiting, { timeout: 20_000, interval: 20 }).finally(() => release.resolve());
    await holder;
    expect(await ended).toMatchObject([{ materializationId: copy.materializationId, state: "lost" }]);
  },
);

test("a copy whose sandbox is gone is nobody's and fails with the next sweep; others are taken beside it", async () => {
  const created = await createdExec();
  const id = created.materialization_id ?? "";
  await sql`update workspace_materializations set deployment_sandbox_id = gen_random_uuid() where id = ${id}`.execute(
    database.db,
  );
  const gone = workspaceId;
  ({ workspaceId } = await seedSession(database.db, scope, task));
  await request();
  expect((await claim()).map((copy) => copy.workspace_id)).toEqual([workspaceId]);
  const ended = await expireMaterializations(database.db, { limit: 10, lostAfterMs });
  expect(ended).toMatchObject([{ materializationId: id, state: "failed", execIds: [created.id] }]);
  const row = await getMaterialization(database.db, scope, { workspaceId: gone, id });
  expect(row).toMatchObject({
    state: "failed",
    claim_attempt: 0,
    error: code("deployment_sandbox_artifact_missing"),
  });
  expect(await getExec(database.db, scope, { workspaceId: gone, id: created.id })).toMatchObject({
    state: "failed",
    error: code("deployment_sandbox_artifact_missing"),
  });
});

describe("execs", () => {
  test("one writer at a time: of two at once one is made, a terminal is refused, too", async () => {
    const made = await Promise.allSettled([exec(), exec()]);
    expect(made.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const refused = made.find((each) => each.status === "rejected");
    expect(refused?.reason).toEqual(code("workspace_writer_active"));
    await expect(createPty(database.db, scope, workspaceId, { cols: 80, rows: 24 })).rejects.toEqual(
      code("workspace_writer_active"),
    );
  });

  test("a key gives the same exec again, or says that it was used for another", async () => {
    const [first, again] = await Promise.all([
      exec(["ls"], { idempotencyKey: "a" }),
      exec(["ls"], { idempotencyKey: "a" }),
    ]);
    if (first === undefined || again === undefined || first === "stopping" || again === "stopping")
      throw new Error();
    expect(first.row.id).toBe(again.row.id);
    expect([first.cached, again.cached].sort()).toEqual([false, true]);
    await expect(exec(["rm"], { idempotencyKey: "a" })).rejects.toEqual(
      code("idempotency_fingerprint_mismatch"),
    );
  });

  test("from the request to its end: commands in order, each until it is acknowledged", async () => {
    const created = await createdExec(["cat"]);
    expect(created.state).toBe("materializing");
    const key = { workspaceId, id: created.id };
    await writeStdin(database.db, scope, key, { offset: 0, data: Buffer.from("hi") });
    const copy = await claimed();
    await startMaterialization(database.db, { ...copy, idleStopMs });
    expect((await getExec(database.db, scope, key))?.state).toBe("queued");
    await closeStdin(database.db, scope, key);
    await killExec(database.db, scope, key, "SIGTERM");
    const { commands } = await poll(copy);
    expect(commands.map(({ command }) => command.kind)).toEqual([
      "exec.start",
      "exec.stdin",
      "exec.stdin_close",
      "exec.signal",
    ]);
    expect(commands[1]?.data?.toString()).toBe("hi");
    const held = { materializationId: copy.materializationId, fencing: copy.fencing };
    await acknowledgeCommands(database.db, workers[1], [{ ...held, afterSeq: 99 }]);
    await acknowledgeCommands(database.db, workers[0], [{ ...held, afterSeq: commands[1]?.seq ?? 0 }]);
    expect(await kinds(copy)).toEqual(["exec.stdin_close", "exec.signal"]);
    await appendItems(copy, [
      { kind: "exec.started", number: 1, exec_id: created.id, pid: 7 },
      output(2, created.id, 0, "hi"),
      { kind: "exec.exited", number: 3, exec_id: created.id, state: "exited", exit_code: 3 },
    ]);
    expect(await getExec(database.db, scope, key)).toMatchObject({
      state: "exited",
      exit_code: 3,
      process_id: "7",
      stdout_cursor: 2,
      stdin_cursor: 2,
    });
    await expect(killExec(database.db, scope, key, "SIGKILL")).rejects.toEqual(
      code("workspace_exec_terminal"),
    );
  });

  test("a worker that takes nothing is not sent more than it can ever take; a stop still reaches it", async () => {
    const copy = await up();
    const created = await createdExec();
    const key = { workspaceId, id: created.id };
    await sql`update workspace_materializations set command_seq = command_seq + 10000 where id = ${copy.materializationId}`.execute(
      database.db,
    );
    const busy = expect.objectContaining({ status: 503, message: expect.stringContaining("try again") });
    await expect(killExec(database.db, scope, key, "SIGTERM")).rejects.toEqual(busy);
    await expect(writeStdin(database.db, scope, key, { offset: 0, data: Buffer.from("x") })).rejects.toEqual(
      busy,
    );
    expect(await kinds(copy)).toEqual(["exec.start"]);
    await requestStop(database.db, scope, workspaceId, { idempotencyKeyTtlMs: 1000 });
    expect(await kinds(copy)).toEqual(["exec.start", "stop"]);
    const [, last] = (await poll(copy)).commands;
    const held = {
      materializationId: copy.materializationId,
      fencing: copy.fencing,
      afterSeq: last?.seq ?? 0,
    };
    await acknowledgeCommands(database.db, workers[0], [held]);
    await expect(killExec(database.db, scope, key, "SIGTERM")).resolves.toBeDefined();
  });

  test("stop against exec: the exec ends with the copy, or comes too late", async () => {
    const copy = await up();
    const [made, stopped] = await Promise.all([
      exec(),
      requestStop(database.db, scope, workspaceId, { idempotencyKeyTtlMs: 1000 }),
    ]);
    expect(stopped?.materialization?.state).toBe("stopping");
    await finishMaterialization(database.db, { ...copy, outcome: { status: "stopped" } });
    if (made === undefined || made === "stopping") return;
    const row = await getExec(database.db, scope, { workspaceId, id: made.row.id });
    expect(row?.state).toBe("terminated");
  });

  test("a copy that nobody uses is stopped after a while; one in use is not", async () => {
    const copy = await up();
    const created = await createdExec();
    await sql`update workspaces set auto_stop_at = now() where id = ${workspaceId}`.execute(database.db);
    expect(await stopIdle(database.db, 10)).toEqual([]);
    await appendItems(copy, [
      { kind: "exec.exited", number: 1, exec_id: created.id, state: "exited", exit_code: 0 },
    ]);
    await sql`update workspaces set auto_stop_at = now() where id = ${workspaceId}`.execute(database.db);
    expect(await stopIdle(database.db, 10)).toMatchObject([{ materialization: { state: "stopping" } }]);
    expect(await stopIdle(database.db, 10)).toEqual([]);
  });
});

describe("output", () => {
  test("beyond 64 MiB the oldest chunks go, and the cursor that is too old is known by where the kept ones begin", async () => {
    const copy = await up();
    const created = await createdExec();
    const piece = "x".repeat(256 * 1024);
    let number = 0;
    for (let offset = 0; offset < 65 * 2 ** 20; offset += 4 * piece.length) {
      const items = [0, 1, 2, 3].map((at) => output(++number, created.id, offset + at * piece.length, piece));
      await appendItems(copy, items);
    }
    const key = { workspaceId, id: created.id };
    expect(await getExec(database.db, scope, key)).toMatchObject({
      stdout_cursor: 65 * 2 ** 20,
      stdout_retained: 2 ** 20,
    });
    const { rows } = await sql<{ bytes: number }>`select sum(octet_length(data))::bigint as bytes
      from workspace_stream_chunks where resource_id = ${created.id}`.execute(database.db);
    expect(rows[0]?.bytes).toBe(64 * 2 ** 20);
  });

  test("long after the end all of it goes, in pages, and readers are told from the first page on", async () => {
    const copy = await up();
    const old = await createdExec();
    const items = Array.from({ length: 250 }, (_, at) => output(at + 1, old.id, at, "x"));
    await appendItems(copy, items);
    await writeStdin(database.db, scope, { workspaceId, id: old.id }, { offset: 0, data: Buffer.from("in") });
    const exit = (number: number, id: string) =>
      ({ kind: "exec.exited", number, exec_id: id, state: "exited", exit_code: 0 }) as const;
    await appendItems(copy, [exit(251, old.id)]);
    const fresh = await createdExec();
    await appendItems(copy, [output(252, fresh.id, 0, "y"), exit(253, fresh.id)]);
    const pty = await createPty(database.db, scope, workspaceId, { cols: 80, rows: 24 });
    if (pty === undefined || pty === "stopping") throw new Error();
    const typed = { ...output(255, pty.row.id, 0, "z"), stream: "output" } as const;
    await appendItems(copy, [
      { kind: "pty.opened", number: 254, pty_id: pty.row.id, pid: 9 },
      typed,
      { kind: "pty.closed", number: 256, pty_id: pty.row.id, state: "closed" },
    ]);
    const active = await createdExec();
    await appendItems(copy, [output(257, active.id, 0, "w")]);
    await sql`update workspace_execs set exited_at = now() - interval '1 hour' where id = ${old.id}`.execute(
      database.db,
    );
    await sql`update workspace_ptys set closed_at = now() - interval '1 hour' where id = ${pty.row.id}`.execute(
      database.db,
    );
    const sweep = () => removeOldStreams(database.db, { limit: 10, keepMs: 1_800_000 });
    const read = (id: string, cursor: number) =>
      readChunks(
        database.db,
        scope,
        { workspaceId, id },
        { stream: "stdout", cursor, limit: 500, maxBytes: 1e6 },
      );
    const left = async (id: string) => {
      const { rows } = await sql`select from workspace_stream_chunks where resource_id = ${id}`.execute(
        database.db,
      );
      return rows.length;
    };
    expect(await sweep()).toBe(true);
    expect(await left(old.id)).toBe(51);
    expect(await read(old.id, 0)).toMatchObject({ retained: 250, cursor: 250, isOver: true });
    expect(await sweep()).toBe(false);
    expect(await sweep()).toBe(false);
    expect([await left(old.id), await left(pty.row.id)]).toEqual([0, 0]);
    expect([await left(fresh.id), await left(active.id)]).toEqual([1, 1]);
    expect(await read(fresh.id, 0)).toMatchObject({ retained: 0, cursor: 1 });
    expect(await getPty(database.db, scope, { workspaceId, id: pty.row.id })).toMatchObject({
      output_retained: 1,
    });
    const { rows } =
      await sql`select from workspace_execs where id = ${old.id} and streams_removed_at is not null`.execute(
        database.db,
      );
    expect(rows).toHaveLength(1);
  });
});

describe("terminals", () => {
  test("take no input before they are open, resize while open, close once; close against exit", async () => {
    const copy = await up();
    const created = await createPty(database.db, scope, workspaceId, { cols: 80, rows: 24 });
    if (created === undefined || created === "stopping") throw new Error();
    const key = { workspaceId, id: created.row.id };
    const type = () => writePtyInput(database.db, scope, key, { offset: 0, data: Buffer.from("x") });
    await expect(type()).rejects.toEqual(code("workspace_pty_not_open"));
    await expect(resizePty(database.db, scope, key, { cols: 1, rows: 1 })).rejects.toEqual(
      code("workspace_pty_not_open"),
    );
    await expect(closePty(database.db, scope, key)).rejects.toEqual(code("workspace_pty_not_open"));
    await appendItems(copy, [{ kind: "pty.opened", number: 1, pty_id: key.id, pid: 9 }]);
    expect((await type())?.chunk).toMatchObject({ offset_start: 0, offset_end: 1 });
    expect((await resizePty(database.db, scope, key, { cols: 100, rows: 30 }))?.row.state).toBe("resizing");
    await appendItems(copy, [{ kind: "pty.resized", number: 2, pty_id: key.id, cols: 100, rows: 30 }]);
    expect(await getPty(database.db, scope, key)).toMatchObject({ state: "open", cols: 100, rows: 30 });
    const [closed] = await Promise.allSettled([
      closePty(database.db, scope, key),
      appendItems(copy, [{ kind: "pty.closed", number: 3, pty_id: key.id, state: "closed" }]),
    ]);
    expect((await getPty(database.db, scope, key))?.state).toBe("closed");
    if (closed.status === "rejected") expect(closed.reason).toEqual(code("workspace_pty_not_open"));
    await expect(type().then((again) => again?.chunk.offset_end)).resolves.toBe(1);
    await expect(
      writePtyInput(database.db, scope, key, { offset: 1, data: Buffer.from("y") }),
    ).rejects.toEqual(code("workspace_pty_terminal"));
  });
});

describe("runs and copies of one workspace", () => {
  test("a run waits while there is a copy of its own, and gets the workspace when nobody uses that", async () => {
    const copy = await up();
    const runId = await queued();
    expect(await claimRun()).toBeUndefined();
    const created = await createdExec();
    expect(await yieldToRuns(database.db, workers[0])).toEqual([]);
    await appendItems(copy, [
      { kind: "exec.exited", number: 1, exec_id: created.id, state: "exited", exit_code: 0 },
    ]);
    expect(await yieldToRuns(database.db, workers[1])).toEqual([]);
    expect(await yieldToRuns(database.db, workers[0])).toMatchObject([
      { materialization: { state: "stopping" } },
    ]);
    await finishMaterialization(database.db, { ...copy, outcome: { status: "stopped" } });
    expect((await claimRun())?.id).toBe(runId);
  });

  test("a run that has waited for a minute is next: nothing new begins in the copy, nor in another one before it", async () => {
    const copy = await up();
    const first = await createdExec();
    const runId = await queued();
    const ended = (number: number, id: string) =>
      appendItems(copy, [{ kind: "exec.exited", number, exec_id: id, state: "exited", exit_code: 0 }]);
    await noteWaitingForWorkspace(database.db, { limit: 10, afterMs: 0 });
    await ended(1, first.id);
    const second = await createdExec(); // it has not waited for long
    await sql`update run_events set at = at - interval '61 seconds'
      where run_id = ${runId} and kind = 'run.waiting_for_workspace'`.execute(database.db);
    await ended(2, second.id);
    const refused = expect.objectContaining({
      code: "workspace_writer_active",
      message: expect.stringContaining("a run has waited"),
    });
    const pty = () => createPty(database.db, scope, workspaceId, { cols: 80, rows: 24 });
    await expect(exec()).rejects.toEqual(refused);
    await expect(pty()).rejects.toEqual(refused);
    expect(await yieldToRuns(database.db, workers[0])).toHaveLength(1);
    expect(await exec()).toBe("stopping");
    await finishMaterialization(database.db, { ...copy, outcome: { status: "stopped" } });
    await expect(exec()).rejects.toEqual(refused);
    expect((await claimRun())?.id).toBe(runId);
    expect((await createdExec()).materialization_id).not.toBe(copy.materializationId);
  });

  test("a run that waited and that no worker takes does not keep operators out of a workspace that nobody has", async () => {
    const copy = await up();
    const runId = await queued();
    await noteWaitingForWorkspace(database.db, { limit: 10, afterMs: 0 });
    await sql`update run_events set at = at - interval '61 seconds' where run_id = ${runId}`.execute(
      database.db,
    );
    await finishMaterialization(database.db, { ...copy, outcome: { status: "stopped" } });
    await expect(exec()).rejects.toEqual(code("workspace_writer_active"));
    await sql`update workspace_materializations set ended_at = ended_at - interval '11 seconds'
      where id = ${copy.materializationId}`.execute(database.db);
    expect(await createdExec()).toMatchObject({ state: "materializing" });
  });

  test("a run claimed while a copy is requested: one of them has the workspace, however they race", async () => {
    for (let round = 0; round < 20; round += 1) {
      ({ workspaceId } = await seedSession(database.db, scope, task));
      await queued();
      const [run] = await Promise.all([claimRun(), request().then(() => claim())]);
      await attachRequested(database.db, 10);
      const { rows } = await sql<{ own: boolean; state: string }>`
        select run_id is null as own, state from workspace_materializations
        where workspace_id = ${workspaceId} and ended_at is null`.execute(database.db);
      expect(rows).toHaveLength(1);
      expect(rows[0]?.own).toBe(run === undefined);
      if (run !== undefined) expect(rows[0]?.state).toBe("materializing");
    }
  });

  test("a copy is left alone while a claim of a queued run of its workspace is under way", async () => {
    await request();
    const runId = await queued();
    await transaction(database.db, async (tx) => {
      await sql`select from runs where id = ${runId} for update`.execute(tx);
      expect(await claim()).toEqual([]);
    });
    expect(await claim()).toHaveLength(1);
  });

  test("a claim of a run that began before the copy was claimed finds the run not due any more", async () => {
    await request();
    const runId = await queued();
    const due = sql<{ due: boolean }>`select available_at <= now() as due from runs where id = ${runId}`;
    await transaction(database.db, async (tx) => {
      expect((await due.execute(tx)).rows).toEqual([{ due: true }]);
      expect(await claim()).toHaveLength(1);
      expect((await due.execute(tx)).rows).toEqual([{ due: false }]);
    });
    expect((await due.execute(database.db)).rows).toEqual([{ due: true }]);
    expect(await claimRun()).toBeUndefined();
  });

  test("the guest of a run is offered with the run's lease and fencing, and ends with it", async () => {
    const run = await running();
    const { materialization, created } = await request();
    expect(created).toBe(true);
    expect(materialization).toMatchObject({
      run_id: run.runId,
      lease_id: run.leaseId,
      fencing_generation: run.fencing,
      state: "materializing",
    });
    const { attached } = await pollWorkspaces(database.db, workers[0], []);
    expect(attached).toMatchObject([
      { materializationId: materialization.id, runId: run.runId, leaseId: run.leaseId },
    ]);
    const copy = { ...run, materializationId: materialization.id };
    await startMaterialization(database.db, { ...copy, idleStopMs });
    const made = await createdExec();
    expect(made.state).toBe("queued");
    expect(await kinds(copy)).toEqual(["exec.start"]);
    await finishRuns(database.db, [{ ...run, outcome: { status: "succeeded" } }]);
    expect(await appendItems(copy, [output(1, made.id, 0, "late")])).toBeUndefined();
    expect(await expireMaterializations(database.db, { limit: 10, lostAfterMs })).toMatchObject([
      { state: "stopped", execIds: [made.id] },
    ]);
  });

  test("a lost run takes its copy with it", async () => {
    const run = await running();
    await request();
    const made = await createdExec();
    await sql`update runs set lease_expires_at = now() where id = ${run.runId}`.execute(database.db);
    await expireLeases(database.db, { limit: 10 });
    expect(await expireMaterializations(database.db, { limit: 10, lostAfterMs })).toMatchObject([
      { state: "lost", execIds: [made.id] },
    ]);
  });

  test("a parked run comes back, still waiting, for who wants to work in its workspace; then it parks again", async () => {
    const run = await running();
    const waitId = await waiting(run);
    const before = await request();
    expect(await park(run, waitId)).toMatchObject({ status: "parked", ended: { state: "stopped" } });
    expect(await rowOf(before.materialization.id)).toMatchObject({ state: "stopped" });
    const made = await createdExec();
    expect(await stateOf(run.runId)).toBe("queued/resume_queued");
    expect(await expireMaterializations(database.db, { limit: 10, lostAfterMs })).toEqual([]);
    const again = await claimRun(workers[1]);
    expect(again).toMatchObject({ id: run.runId });
    const lease = {
      workerInstanceId: workers[1],
      leaseId: again?.lease_id ?? "",
      fencing: again?.fencing ?? 0,
      runId: run.runId,
    };
    await bindRunCopies(database.db, workers[1]);
    const { attached } = await pollWorkspaces(database.db, workers[1], []);
    expect(attached).toMatchObject([{ runId: run.runId, leaseId: lease.leaseId, fencing: lease.fencing }]);
    await startRuns(database.db, [{ ...lease, notes: [], guest: { pooled: false, startMs: 1 } }]);
    expect(await stateOf(run.runId)).toBe("waiting/waiting");
    const copy = { ...lease, materializationId: attached[0]?.materializationId ?? "" };
    await startMaterialization(database.db, { ...copy, idleStopMs });
    expect((await park(lease, waitId)).status).toBe("resolved");
    await appendItems(copy, [
      { kind: "exec.exited", number: 1, exec_id: made.id, state: "exited", exit_code: 0 },
    ]);
    expect((await park(lease, waitId)).status).toBe("parked");
    expect(await stateOf(run.runId)).toBe("waiting/parked");
  });

  test("a parked run that no worker restores fails the copy that waits for it, and stays to be resumed", async () => {
    const run = await running();
    await park(run, await waiting(run));
    const made = await createdExec();
    await sql`update workspace_materializations set updated_at = now() - interval '61 seconds'`.execute(
      database.db,
    );
    const ended = await expireMaterializations(database.db, { limit: 10, lostAfterMs });
    expect(ended).toMatchObject([{ state: "failed", execIds: [made.id] }]);
    const row = await getExec(database.db, scope, { workspaceId, id: made.id });
    expect(row).toMatchObject({
      state: "failed",
      error: { message: expect.stringContaining("can restore it") },
    });
    expect(await stateOf(run.runId)).toBe("queued/resume_queued");
    expect((await claimRun(workers[1]))?.id).toBe(run.runId);
  });

  test("a wait that ends while its run comes back for an operator resumes it as ever", async () => {
    const run = await running();
    const waitId = await waiting(run);
    await park(run, waitId);
    await request();
    await sql`update run_waits set timeout_at = now() where id = ${waitId}`.execute(database.db);
    await expireWaits(database.db, { limit: 10 });
    expect(await stateOf(run.runId)).toBe("queued/resume_queued");
    expect((await claimRun(workers[1]))?.id).toBe(run.runId);
  });
});

describe("questions to a live copy", () => {
  test("are asked in order, answered once, and forgotten when nobody waits", async () => {
    const copy = await up();
    const question = { kind: "files", operation: "stat", path: "a", limit: 1 } as const;
    const asked = await askLive(database.db, scope, copy.materializationId, question, 60_000);
    if (asked === undefined) throw new Error();
    expect((await poll(copy)).commands).toMatchObject([
      { command: { ...question, request_id: asked.requestId } },
    ]);
    expect(await takeAnswer(database.db, scope, asked.requestId)).toMatchObject({ status: "pending" });
    const answer = { ...copy, requestId: asked.requestId, status: "done", result: { a: 1 } } as const;
    expect(await answerRequest(database.db, { ...answer, fencing: copy.fencing + 1 })).toBeUndefined();
    expect(await answerRequest(database.db, { ...answer, data: Buffer.from("x") })).toBe(true);
    expect(await answerRequest(database.db, answer)).toBe(false);
    expect(await takeAnswer(database.db, scope, asked.requestId)).toMatchObject({
      status: "done",
      result: { a: 1 },
    });
    expect(await takeAnswer(database.db, scope, asked.requestId)).toBeUndefined();
    const late = await askLive(database.db, scope, copy.materializationId, question, -1);
    expect(await expireRequests(database.db, 10)).toBe(1);
    expect((await poll(copy, asked.requestId === late?.requestId ? 0 : 1)).commands).toEqual([]);
  });

  test("end with the copy, and are not asked of one that stops", async () => {
    const copy = await up();
    const question = { kind: "save" } as const;
    const asked = await askLive(database.db, scope, copy.materializationId, question, 60_000);
    await requestStop(database.db, scope, workspaceId, { idempotencyKeyTtlMs: 1000 });
    expect(await askLive(database.db, scope, copy.materializationId, question, 60_000)).toBeUndefined();
    const ended = await finishMaterialization(database.db, { ...copy, outcome: { status: "stopped" } });
    expect(ended?.requestIds).toEqual([asked?.requestId]);
    expect(await takeAnswer(database.db, scope, asked?.requestId ?? "")).toMatchObject({
      status: "failed",
      result: { code: "workspace_not_live" },
    });
  });
});
