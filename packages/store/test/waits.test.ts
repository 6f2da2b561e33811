/** Waits: what ends them, whatever races; parking and resuming; input that nobody waits for. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type ActingScope,
  appendInput,
  appendRunOutput,
  type ClaimedRun,
  cancelToken,
  claimRuns,
  completeToken,
  continueSessions,
  countRuns,
  createToken,
  createWait,
  discardUnrecorded,
  expireLeases,
  expireWaits,
  failRestore,
  finishRuns,
  getRun,
  getSession,
  type LeaseRef,
  listRunEvents,
  noteUnresumable,
  parkRun,
  type RunOutcome,
  readResume,
  readRunStream,
  removeDiscardedArtifacts,
  requestCancel,
  startRuns,
  transaction,
  type WaitFor,
} from "../src/index.ts";
import {
  type SeededTask,
  seedEnvironment,
  seedStartedSession,
  seedStream,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

const compatibility = "gvisor test x64";
let database: TestDatabase;
let scope: ActingScope;
let workerGroupId: string;
let workers: [string, string];
let task: SeededTask;
beforeAll(async () => {
  database = await startTestDatabase();
  const environment = await seedEnvironment(database.db);
  ({ scope, workerGroupId } = environment);
  const capabilities = { checkpoint_compatibility: compatibility };
  workers = [
    await seedWorker(database.db, environment.workerGroupId, capabilities),
    await seedWorker(database.db, environment.workerGroupId, capabilities),
  ];
  task = await seedTask(database.db, scope);
  await seedStream(database.db, task, "answers", "input");
  await seedStream(database.db, task, "news", "output");
});
afterAll(() => database.stop());

interface Leased extends LeaseRef {
  readonly claimed: ClaimedRun;
  readonly runId: string;
  readonly sessionId: string;
}

const start = () => seedStartedSession(database.db, scope, task);

async function lease(workerInstanceId = workers[0]): Promise<Leased> {
  const [claimed] = await claimRuns(database.db, { workerInstanceId, limit: 1, leaseDurationMs: 30_000 });
  if (claimed === undefined) throw new Error("nothing to claim");
  const ref = { workerInstanceId, leaseId: claimed.lease_id, fencing: claimed.fencing };
  await startRuns(database.db, [{ ...ref, notes: [], guest: { pooled: false, startMs: 1 } }]);
  return { ...ref, claimed, runId: claimed.id, sessionId: claimed.session_id };
}

const claimNothing = (workerInstanceId: string) =>
  claimRuns(database.db, { workerInstanceId, limit: 1, leaseDurationMs: 30_000 });

async function running(): Promise<Leased> {
  await start();
  return await lease();
}

async function wait(run: LeaseRef, waitFor: WaitFor, number = 1) {
  const made = await createWait(database.db, { ...run, number, waitFor, metadata: {}, tags: [] });
  if (made.status === "lost") throw new Error("the lease is lost");
  return made.wait;
}

const park = (run: LeaseRef, waitId: string, digest = `sha256:${waitId}`) =>
  parkRun(database.db, {
    ...run,
    waitId,
    manifest: { compatibility },
    artifactDigest: digest,
    sizeBytes: 10,
    timings: { save: 1 },
  });
const finish = async (run: LeaseRef, outcome: RunOutcome = { status: "succeeded" }) =>
  (await finishRuns(database.db, [{ ...run, outcome }]))[0]?.status;
const stateOf = async (run: { runId: string }) => {
  const row = await getRun(database.db, scope, run.runId);
  return `${row?.status}/${row?.execution_status}`;
};
const kinds = async (run: { runId: string }) =>
  (await listRunEvents(database.db, scope, run.runId, { after: 0, limit: 1000 })).map((event) => event.kind);
const send = (run: { sessionId: string }, data: unknown, correlationId?: string) =>
  appendInput(database.db, scope, { id: run.sessionId }, "answers", {
    data: JSON.stringify(data),
    correlationId,
  });
const token = async (timeoutMs = 60_000) =>
  (await createToken(database.db, scope, { timeoutMs, tags: [], metadata: {} })).token.id;
const hour = () => new Date(Date.now() + 3_600_000);
const discarded = async (digest: string) =>
  (await database.db.selectFrom("discarded_artifacts").selectAll().where("digest", "=", digest).execute())
    .length;

describe("a wait of a run that has its guest", () => {
  test("for a token: the completion goes on with it, once", async () => {
    const run = await running();
    const id = await token();
    const made = await wait(run, { kind: "token", tokenId: id });
    expect(made.status).toBe("pending");
    expect(await stateOf(run)).toBe("waiting/waiting");
    // V3: the same request again.
    expect((await wait(run, { kind: "token", tokenId: id })).id).toBe(made.id);
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => completeToken(database.db, scope, id, { dataJson: '{"b":1,"a":2}' })),
    );
    expect(answers.map((answer) => answer.status).sort()).toEqual([
      ...Array.from({ length: 4 }, () => "already_completed"),
      "completed",
    ]);
    expect(answers.flatMap((answer) => answer.resolved)).toEqual([
      { waitId: made.id, runId: run.runId, workerInstanceId: run.workerInstanceId, workerGroupId },
    ]);
    expect(await stateOf(run)).toBe("running/running");
    expect(await finish(run)).toBe("accepted");
    expect(await kinds(run)).toEqual([
      "run.created",
      "run_lease.leased",
      "run_lease.started",
      "run_wait.created",
      "run_wait.completed",
      "run.completed",
    ]);
    await expect(completeToken(database.db, scope, id, { dataJson: "{}" })).rejects.toMatchObject({
      code: "token_completion_conflict",
    });
  });

  test("for what is there already: the run does not begin to wait", async () => {
    const run = await running();
    const id = await token();
    await completeToken(database.db, scope, id, { dataJson: "7" });
    expect(await wait(run, { kind: "token", tokenId: id })).toMatchObject({
      status: "completed",
      result: "7",
    });
    expect(await wait(run, { kind: "timer", dueAt: new Date(0) }, 2)).toMatchObject({ status: "completed" });
    const cancelled = await token();
    await cancelToken(database.db, scope, cancelled);
    expect(await wait(run, { kind: "token", tokenId: cancelled }, 3)).toMatchObject({ status: "cancelled" });
    expect(await stateOf(run)).toBe("running/running");
    await expect(wait(run, { kind: "token", tokenId: run.runId }, 4)).rejects.toMatchObject({
      code: "token_not_found",
    });
    await expect(wait(run, { kind: "stream", stream: "nope" }, 4)).rejects.toMatchObject({
      code: "stream_not_found",
    });
    await expect(wait(run, { kind: "stream", stream: "news" }, 4)).rejects.toMatchObject({
      code: "stream_not_found",
    });
    await finish(run);
  });

  test("timeouts and timers end by time, and a completion in the same moment wins or loses, never both", async () => {
    const run = await running();
    await wait(run, { kind: "stream", stream: "answers", timeoutMs: 1 });
    await new Promise((resolve) => setTimeout(resolve, 5));
    const [sent, expired] = await Promise.all([send(run, "x"), expireWaits(database.db, { limit: 10 })]);
    expect((sent?.resolved.length ?? 0) + expired.length).toBe(1);
    expect(await stateOf(run)).toBe("running/running");
    const outcome = (await kinds(run)).filter((kind) => kind.startsWith("run_wait."));
    expect(outcome).toHaveLength(2);
    const timer = await wait(run, { kind: "timer", dueAt: new Date(Date.now() + 20) }, 2);
    // On a busy host it is due before it is made.
    let due: unknown[] = timer.status === "pending" ? [] : [timer];
    while (due.length === 0) due = await expireWaits(database.db, { limit: 10 });
    expect((await kinds(run)).at(-1)).toBe("run_wait.completed");
    await finish(run);
    await continueSessions(database.db, { limit: 10 });
    const next = await getSession(database.db, scope, { id: run.sessionId });
    // What timed out first was never taken: it starts the next run. What was taken does not.
    if (expired.length === 1) await finish(await lease());
    else expect(next?.current_run_id).toBe(run.runId);
  });

  test("a cancel ends a waiting run, and no wait begins after it was asked for", async () => {
    const run = await running();
    const made = await wait(run, { kind: "timer", dueAt: hour() });
    await transaction(database.db, (tx) => requestCancel(tx, scope, run.runId, { reason: "enough" }));
    expect(await stateOf(run)).toBe("waiting/cancelling");
    expect(await park(run, made.id)).toMatchObject({ status: "resolved" });
    expect(await finish(run, { status: "cancelled", reason: "enough" })).toBe("accepted");
    expect(await stateOf(run)).toBe("cancelled/finished");
    const row = await database.db
      .selectFrom("run_waits")
      .select("status")
      .where("id", "=", made.id)
      .executeTakeFirst();
    expect(row?.status).toBe("cancelled");
  });
});

describe("parking", () => {
  test("lets go of worker, lane and workspace, and the wait's end queues the run to go on, anywhere", async () => {
    const run = await running();
    const id = await token();
    const made = await wait(run, { kind: "token", tokenId: id });
    expect(await park(run, made.id)).toMatchObject({ status: "parked", runId: run.runId });
    expect(await stateOf(run)).toBe("waiting/parked");
    expect(await park(run, made.id)).toEqual({ status: "lost" });
    expect(
      await claimRuns(database.db, { workerInstanceId: workers[1], limit: 5, leaseDurationMs: 1000 }),
    ).toEqual([]);
    const { resolved } = await completeToken(database.db, scope, id, { dataJson: '"yes"' });
    expect(resolved).toEqual([{ waitId: made.id, runId: run.runId, workerInstanceId: null, workerGroupId }]);
    expect(await stateOf(run)).toBe("queued/resume_queued");
    const again = await lease(workers[1]);
    expect(again.claimed).toMatchObject({
      id: run.runId,
      attempt_number: 1,
      attempt_id: run.claimed.attempt_id,
    });
    expect(again.claimed.workspace_is_here).toBe(false);
    expect(again.fencing).toBe(run.fencing + 1);
    expect(await readResume(database.db, run.runId)).toMatchObject({
      artifactDigest: `sha256:${made.id}`,
      wait: { id: made.id, number: 1, status: "completed", result: '"yes"' },
    });
    expect(await finish(run)).toBe("lost");
    expect(await finish(again)).toBe("accepted");
    expect(await discarded(`sha256:${made.id}`)).toBe(1);
    expect((await kinds(run)).filter((kind) => kind === "run.parked")).toHaveLength(1);
  });

  test("a worker that cannot restore it leaves it alone", async () => {
    const run = await running();
    const id = await token();
    const made = await wait(run, { kind: "token", tokenId: id });
    await park(run, made.id);
    await completeToken(database.db, scope, id, { dataJson: "1" });
    await database.db
      .updateTable("worker_instances")
      .set({ capabilities: JSON.stringify({ checkpoint_compatibility: "other" }) })
      .where("id", "=", workers[1])
      .execute();
    expect(
      await claimRuns(database.db, { workerInstanceId: workers[1], limit: 5, leaseDurationMs: 1000 }),
    ).toEqual([]);
    await database.db
      .updateTable("worker_instances")
      .set({ capabilities: JSON.stringify({ checkpoint_compatibility: compatibility }) })
      .where("id", "=", workers[1])
      .execute();
    await finish(await lease());
  });

  test("the completion wins over a checkpoint that is not recorded yet", async () => {
    const run = await running();
    const id = await token();
    const made = await wait(run, { kind: "token", tokenId: id });
    await completeToken(database.db, scope, id, { dataJson: "1" });
    expect(await park(run, made.id)).toMatchObject({ status: "resolved" });
    expect(await stateOf(run)).toBe("running/running");
    await finish(run);
  });

  test("racing with the completion, the run ends up going on exactly once", async () => {
    for (let round = 0; round < 10; round += 1) {
      const run = await running();
      const id = await token();
      const made = await wait(run, { kind: "token", tokenId: id });
      const [parked, completed] = await Promise.all([
        park(run, made.id),
        completeToken(database.db, scope, id, { dataJson: "1" }),
      ]);
      expect(completed.resolved).toHaveLength(1);
      if (parked.status === "parked") {
        expect(completed.resolved[0]?.workerInstanceId).toBeNull();
        expect(await finish(await lease())).toBe("accepted");
      } else {
        expect(completed.resolved[0]?.workerInstanceId).toBe(run.workerInstanceId);
        expect(await finish(run)).toBe("accepted");
      }
    }
  });

  test("a parked run is cancelled at once, and its checkpoint goes", async () => {
    const run = await running();
    const made = await wait(run, { kind: "timer", dueAt: hour() });
    await park(run, made.id);
    const result = await transaction(database.db, (tx) =>
      requestCancel(tx, scope, run.runId, { reason: "no" }),
    );
    expect(result?.outcome).toBe("applied");
    expect(await stateOf(run)).toBe("cancelled/finished");
    expect(await discarded(`sha256:${made.id}`)).toBe(1);
  });

  test("a lost worker: the run goes on from its checkpoint, and the waits after it never were", async () => {
    const run = await running();
    const id = await token();
    await park(run, (await wait(run, { kind: "token", tokenId: id })).id);
    await completeToken(database.db, scope, id, { dataJson: "1" });
    const second = await lease();
    await wait(second, { kind: "timer", dueAt: new Date(0) }, 2);
    const later = await wait(second, { kind: "timer", dueAt: hour() }, 3);
    await expireLeases(database.db, { limit: 10, workerInstanceId: second.workerInstanceId });
    expect(await stateOf(run)).toBe("queued/resume_queued");
    const third = await lease(workers[1]);
    expect((await readResume(database.db, run.runId))?.wait).toMatchObject({
      number: 1,
      status: "completed",
    });
    const other = await wait(third, { kind: "token", tokenId: await token() }, 2);
    expect(other).toMatchObject({ kind: "token", status: "pending" });
    expect(other.id).not.toBe(later.id);
    // A second checkpoint takes the place of the first.
    const first = await readResume(database.db, run.runId);
    await park(third, other.id);
    expect(await discarded(first?.artifactDigest ?? "")).toBe(1);
    expect((await readResume(database.db, run.runId))?.wait.id).toBe(other.id);
    await transaction(database.db, (tx) => requestCancel(tx, scope, run.runId, { reason: "done" }));
  });

  test("restores that fail: other workers try, then the retry policy decides, then the run fails with the reason", async () => {
    const run = await running();
    const id = await token();
    const made = await wait(run, { kind: "token", tokenId: id });
    await park(run, made.id);
    await completeToken(database.db, scope, id, { dataJson: "1" });
    for (let tries = 1; tries <= 3; tries += 1) {
      await database.db
        .updateTable("runs")
        .set({ available_at: new Date(0) })
        .where("id", "=", run.runId)
        .execute();
      // While another worker may manage, one that failed is not asked again.
      if (tries === 2) expect(await claimNothing(workers[0])).toEqual([]);
      const failing = await lease(workers[(tries - 1) % 2]);
      const failed = await failRestore(database.db, {
        ...failing,
        message: "a bit flipped",
        permanent: false,
      });
      expect(failed.status).toBe("accepted");
      expect(await stateOf(run)).toBe(tries < 3 ? "queued/resume_queued" : "failed/finished");
    }
    expect(await getRun(database.db, scope, run.runId)).toMatchObject({ failure_kind: "restore_failed" });
    expect((await kinds(run)).filter((kind) => kind === "run.restore_failed")).toHaveLength(3);
    expect(await discarded(`sha256:${made.id}`)).toBe(1);
  });
});

describe("artifacts of checkpoints", () => {
  const digestOf = (id: string) => `sha256:${id.replaceAll("-", "").repeat(2)}`;

  test("that a worker cannot tell about are kept while its lease lives, or a run refers to them, else removed", async () => {
    const run = await running();
    const made = await wait(run, { kind: "token", tokenId: await token() });
    const [unrecorded, recorded] = [digestOf(run.runId), digestOf(made.id)];
    const settle = () =>
      discardUnrecorded(database.db, [
        { digest: unrecorded, leaseId: run.leaseId },
        { digest: recorded, leaseId: run.leaseId },
      ]);
    expect(await settle()).toEqual([]);
    await park(run, made.id, recorded);
    expect((await settle()).sort()).toEqual([recorded, unrecorded].sort());
    expect(await discarded(unrecorded)).toBe(1);
    expect(await discarded(recorded)).toBe(0);
    // Whatever is on the list, what a run refers to is not removed.
    await database.db.insertInto("discarded_artifacts").values({ digest: recorded }).execute();
    const removed: string[] = [];
    const remove = async (digest: string) => void removed.push(digest);
    await removeDiscardedArtifacts(database.db, { limit: 1000, graceMs: 0, remove });
    expect(removed).toContain(unrecorded);
    expect(removed).not.toContain(recorded);
    expect((await discarded(unrecorded)) + (await discarded(recorded))).toBe(0);
    await transaction(database.db, (tx) => requestCancel(tx, scope, run.runId, { reason: "done" }));
  });

  test("stay on the list when they cannot be removed", async () => {
    const digest = digestOf(crypto.randomUUID());
    await database.db.insertInto("discarded_artifacts").values({ digest }).execute();
    const remove = () => Promise.reject(new Error("503"));
    const failing = removeDiscardedArtifacts(database.db, { limit: 1000, graceMs: 0, remove });
    await expect(failing).rejects.toThrow("503");
    expect(await discarded(digest)).toBe(1);
  });
});

test("a run that no living worker can restore says so once, with what it needs", async () => {
  const run = await running();
  const id = await token();
  const made = await wait(run, { kind: "token", tokenId: id });
  await parkRun(database.db, {
    ...run,
    waitId: made.id,
    manifest: { compatibility: "of no worker" },
    artifactDigest: `sha256:${made.id}`,
    sizeBytes: 1,
    timings: {},
  });
  await completeToken(database.db, scope, id, { dataJson: "1" });
  const note = (afterMs: number) => noteUnresumable(database.db, { limit: 10, afterMs });
  expect(await note(60_000)).toEqual([]);
  expect((await Promise.all([note(0), note(0)])).flat()).toMatchObject([{ runId: run.runId }]);
  expect(await note(0)).toEqual([]);
  const events = await listRunEvents(database.db, scope, run.runId, { after: 0, limit: 100 });
  expect(events.filter((event) => event.kind === "run.resume_waiting")).toMatchObject([
    { attributes: { compatibility: "of no worker" } },
  ]);
  await transaction(database.db, (tx) => requestCancel(tx, scope, run.runId, { reason: "done" }));
});

test("a cancel that was asked for while a restore failed ends the run", async () => {
  const run = await running();
  const id = await token();
  await park(run, (await wait(run, { kind: "token", tokenId: id })).id);
  await completeToken(database.db, scope, id, { dataJson: "1" });
  const failing = await lease(workers[1]);
  await transaction(database.db, (tx) => requestCancel(tx, scope, run.runId, { reason: "enough" }));
  await failRestore(database.db, { ...failing, message: "m", permanent: false });
  expect(await stateOf(run)).toBe("cancelled/finished");
  expect((await kinds(run)).slice(-2)).toEqual(["run.restore_failed", "run.cancelled"]);
});

describe("input", () => {
  test("goes to the run that waits for it, by correlation id, and each record to one wait", async () => {
    const run = await running();
    const made = await wait(run, { kind: "stream", stream: "answers", correlationId: "b" });
    expect((await send(run, "for a", "a"))?.continuation).toBe("accepted_run_pending");
    expect(await stateOf(run)).toBe("waiting/waiting");
    const sent = await send(run, "for b", "b");
    expect(sent?.resolved).toMatchObject([{ waitId: made.id }]);
    // What came before is there for the next wait that takes all.
    const rest = await wait(run, { kind: "stream", stream: "answers", afterSequence: 0 }, 2);
    expect(JSON.parse(rest.result ?? "")).toMatchObject({ sequence: 1, data: "for a", correlation_id: "a" });
    await finish(run);
    await continueSessions(database.db, { limit: 10 });
    expect((await getSession(database.db, scope, { id: run.sessionId }))?.current_run_id).toBe(run.runId);
  });

  test("nobody took starts the session's next run, once; a session that ended takes none", async () => {
    const run = await running();
    expect((await send(run, 1))?.continuation).toBe("accepted_run_pending");
    expect((await send(run, 2))?.continuation).toBe("duplicate");
    await finish(run);
    expect(
      (await Promise.all([1, 2, 3].map(() => continueSessions(database.db, { limit: 10 })))).flat(),
    ).toHaveLength(1);
    const next = await lease();
    expect(await getRun(database.db, scope, next.runId)).toMatchObject({
      turn_index: 1,
      previous_run_id: run.runId,
      reason: "input",
    });
    for (const expected of [1, 2]) {
      const read = await readRunStream(database.db, {
        ...next,
        stream: "answers",
        direction: "input",
        take: true,
        limit: 1,
        afterSequence: expected === 1 ? undefined : expected - 1,
      });
      expect(read).toMatchObject({ status: "read", records: [{ sequence: expected, data: `${expected}` }] });
    }
    await finish(next);
    expect((await send(run, 3))?.continuation).toBe("created");
    const last = await lease();
    // A run that ended has taken what it took: the next one reads on.
    const read = await wait(last, { kind: "stream", stream: "answers" });
    expect(JSON.parse(read.result ?? "")).toMatchObject({ sequence: 3 });
    await finish(last);
    await database.db
      .updateTable("sessions")
      .set({ status: "closed" })
      .where("id", "=", run.sessionId)
      .execute();
    await expect(send(run, 4)).rejects.toMatchObject({ code: "session_terminal" });
  });

  const take = (run: Leased, afterSequence?: number) =>
    readRunStream(database.db, {
      ...run,
      stream: "answers",
      direction: "input",
      take: true,
      limit: 1,
      afterSequence,
    });

  test.each([
    { status: "succeeded" } as const,
    { status: "failed", failureKind: "task_failed", message: "m", detail: {}, retryable: false } as const,
  ])("that a run has left starts the next one, until all is taken: it $status", async (outcome) => {
    const run = await running();
    for (const n of [1, 2, 3]) await send(run, n);
    await finish(run, outcome);
    for (const expected of [1, 2, 3]) {
      expect(await continueSessions(database.db, { limit: 10 })).toHaveLength(1);
      const next = await lease();
      expect(await take(next)).toMatchObject({ records: [{ sequence: expected }] });
      expect(await continueSessions(database.db, { limit: 10 })).toHaveLength(0);
      await finish(next, outcome);
    }
    expect(await continueSessions(database.db, { limit: 10 })).toHaveLength(0);
  });

  test("that a run took nothing of, and that a cancelled one left, starts no further run", async () => {
    const run = await running();
    for (const n of [1, 2]) await send(run, n);
    await finish(run);
    expect(await continueSessions(database.db, { limit: 10 })).toHaveLength(1);
    const idle = await lease();
    await finish(idle);
    expect(await continueSessions(database.db, { limit: 10 })).toHaveLength(0);
    expect((await send(run, 3))?.continuation).toBe("created");
    const cancelled = await lease();
    await take(cancelled);
    await transaction(database.db, (tx) => requestCancel(tx, scope, cancelled.runId, { reason: "enough" }));
    await finish(cancelled);
    expect(await stateOf(cancelled)).toBe("cancelled/finished");
    expect(await continueSessions(database.db, { limit: 10 })).toHaveLength(0);
  });

  test("an attempt that starts again reads its input again", async () => {
    const run = await running();
    await send(run, "first");
    expect((await wait(run, { kind: "stream", stream: "answers" })).status).toBe("completed");
    await expireLeases(database.db, { limit: 10, workerInstanceId: run.workerInstanceId });
    const again = await lease();
    expect(again.claimed.attempt_number).toBe(2);
    expect(await wait(again, { kind: "stream", stream: "answers" })).toMatchObject({ status: "completed" });
    await finish(again);
  });

  test("the same idempotency key is the same record", async () => {
    const run = await running();
    const once = () =>
      appendInput(database.db, scope, { id: run.sessionId }, "answers", {
        data: '{"a":1}',
        idempotencyKey: "k",
      });
    const answers = await Promise.all([once(), once(), once()]);
    expect(new Set(answers.map((answer) => answer?.record.sequence))).toEqual(new Set([1]));
    expect(answers.filter((answer) => answer?.status === "created")).toHaveLength(1);
    await expect(
      appendInput(database.db, scope, { id: run.sessionId }, "answers", { data: "2", idempotencyKey: "k" }),
    ).rejects.toMatchObject({ code: "idempotency_fingerprint_mismatch" });
    await finish(run);
    await continueSessions(database.db, { limit: 10 });
    await finish(await lease());
  });
});

test("output of a run is numbered without gaps, and the counts per status are right after all of this", async () => {
  const run = await running();
  const append = (number: number) =>
    appendRunOutput(database.db, {
      ...run,
      stream: "news",
      record: { data: `${number}`, idempotencyKey: `n${number}` },
    });
  await Promise.all([1, 2, 3, 3, 2, 1].map(append));
  const read = await readRunStream(database.db, {
    ...run,
    stream: "news",
    direction: "output",
    take: false,
    limit: 500,
  });
  expect(read.status === "read" && read.records.map((record) => record.sequence)).toEqual([1, 2, 3]);
  await finish(run);
  const rows = await database.db
    .selectFrom("runs")
    .select(["status"])
    .where("environment_id", "=", scope.environmentId)
    .execute();
  const counts = await countRuns(database.db, scope);
  for (const [status, count] of Object.entries(counts)) {
    expect([status, count]).toEqual([status, rows.filter((row) => row.status === status).length]);
  }
});
