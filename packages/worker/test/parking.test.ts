/** Waiting runs are saved by one worker and go on at another that shares nothing with it but the object store. */
import { createSecretCipher, putSecret } from "@helmr/store";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { System, type SystemWorker } from "./support/system.ts";
import { waitingTasks } from "./support/waiting-tasks.ts";

let system: System;
let first: SystemWorker;

beforeAll(async () => {
  system = await System.start();
  const cipher = createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") });
  for (const name of ["TOKEN", "KEY"])
    await putSecret(system.db, cipher, system.environment.scope, name, `${name}-value`);
  first = await system.worker();
  await system.deploy(waitingTasks);
});
afterAll(() => system.stop());

/** From now on another worker does everything; the old one is gone with its folder. */
async function changeWorker(): Promise<void> {
  await first.stop();
  first = await system.worker();
}

describe("a parked run", () => {
  it("goes on at another worker with its processes, memory, files, secrets and network, twice", async () => {
    const run = await system.run("everything");
    await system.parked(run);
    const digests = async () =>
      (
        await system.db
          .selectFrom("run_checkpoints")
          .select("artifact_digest")
          .where("run_id", "=", run.runId)
          .execute()
      ).map((row) => row.artifact_digest);
    const [saved] = await digests();
    await changeWorker();
    await system.complete(await system.awaitedToken(run), "first");
    await system.parked(run, 2);
    const [again] = await digests();
    expect(again).not.toBe(saved);
    await expect.poll(() => system.artifacts.has(saved ?? ""), { timeout: 20_000 }).toBe(false);
    await changeWorker();
    await system.complete(await system.awaitedToken(run, 2), "second");
    const { status, output, failure } = await system.finished(run);
    expect([status, failure]).toEqual(["succeeded", null]);
    const { before, seen, address } = output;
    expect(["127.0.0.1", "::1"]).toContain(address);
    expect(seen).toHaveLength(2);
    for (const [index, round] of seen.entries()) {
      expect(round).toMatchObject({
        answer: ["first", "second"][index],
        pid: before.pid,
        child: before.child,
        marker: `m${before.pid}`,
        tmp: "in memory",
        env: "TOKEN-value",
        file: "KEY-value",
        hostname: before.hostname,
        content: ["one\nround 1\n", "one\nround 1\nround 2\n"][index],
      });
    }
    // What the files were when the guest was saved for the second time is what they were after.
    expect(seen[1].files.map(([name]: [string]) => name)).toEqual(["file", "hard", "soft", "dir"]);
    expect(seen[0].files[0][1]).toMatchObject({ mode: 0o100640, size: 4, nlink: 2 });
    expect(seen[0].files[3][1]).toMatchObject({ mode: 0o40700, mtimeMs: 2_000_500 });
    expect(await system.stdout(run)).toBe("before\nround 1\nround 2\n");
    const events = await system.events(run);
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
    await expect.poll(() => system.artifacts.has(again ?? ""), { timeout: 20_000 }).toBe(false);
  });

  it("does so on an image with layers that only the first worker has built", async () => {
    const run = await system.run("layers");
    await system.parked(run);
    await changeWorker();
    await system.complete(await system.awaitedToken(run), 1);
    const { output, failure } = await system.finished(run);
    expect(failure).toBeNull();
    expect(output.before).toMatchObject({
      file: 0o104751,
      dir: [12, 34],
      docs: ["only"],
      issue: false,
      content: "built\n",
    });
    expect(output.after).toEqual(output.before);
  });

  it("is cancelled at once, and its checkpoint goes", async () => {
    const run = await system.run("asks");
    await system.parked(run);
    const stored = await system.db
      .selectFrom("run_checkpoints")
      .select("artifact_digest")
      .where("run_id", "=", run.runId)
      .executeTakeFirstOrThrow();
    await system.request("POST", `/runs/${run.runId}/cancel`, { reason: "enough" });
    expect((await system.finished(run)).status).toBe("cancelled");
    await expect.poll(() => system.artifacts.has(stored.artifact_digest), { timeout: 20_000 }).toBe(false);
  });

  it("goes on when its wait times out", async () => {
    const run = await system.run("asks", { timeout: 30 });
    await system.parked(run);
    expect(await system.finished(run)).toMatchObject({ status: "succeeded", output: "WaitTimeoutError" });
    expect(await system.kinds(run)).toContain("run_wait.timed_out");
  });

  it("uses up its max duration only while it is active", async () => {
    const run = await system.run("works", { beforeMs: 100, afterMs: 1000 }, { max_duration_seconds: 12 });
    await system.parked(run);
    await new Promise((resolve) => setTimeout(resolve, 13_000));
    await system.complete(await system.awaitedToken(run), 1);
    expect(await system.finished(run)).toMatchObject({ status: "succeeded", output: "worked" });
    const over = await system.run("works", { beforeMs: 4000, afterMs: 60_000 }, { max_duration_seconds: 7 });
    await system.parked(over);
    const { active_ms: active } = await system.row(over);
    expect(Number(active)).toBeGreaterThanOrEqual(4000);
    await system.complete(await system.awaitedToken(over), 1);
    expect(await system.finished(over)).toMatchObject({
      status: "failed",
      failure: { kind: "max_duration" },
    });
  });

  it("has said everything once and hears what was sent meanwhile", async () => {
    const rounds = 3;
    const run = await system.run("speaks", { rounds });
    for (let round = 1; round <= rounds; round++) {
      await system.parked(run, round);
      if (round < rounds) await system.send(run, "answers", { round });
      await system.complete(await system.awaitedToken(run, round), round);
    }
    const { output, failure } = await system.finished(run);
    expect([output, failure]).toEqual([[{ round: 1 }, { round: 2 }], null]);
    const records = await system.records(run, "news");
    expect(records.map(({ sequence }) => sequence)).toEqual(records.map((_, index) => index + 1));
    const said = records.map(({ data }) => (typeof data === "string" ? JSON.parse(data) : data));
    const expected = Array.from({ length: rounds }, (_, index) => [
      ...[0, 1, 2, 3, 4].map((at) => ({ round: index + 1, at })),
      { round: index + 1, at: "beside" },
    ]).flat();
    expect(said).toEqual(expected);
    const lines = Array.from({ length: rounds }, (_, index) => [
      ...[0, 1, 2, 3, 4].map((at) => `said ${index + 1}.${at}`),
      `waiting ${index + 1}`,
    ]).flat();
    expect((await system.stdout(run)).split("\n").slice(0, -1)).toEqual(lines);
  });
});
