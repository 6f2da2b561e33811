/** A worker that drains: what is here is finished, parked, saved, or given back, and goes on elsewhere. */
import { createSecretCipher, putSecret } from "@helmr/store";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type StartedRun, System, type SystemWorker } from "./support/system.ts";
import { TestWorkspace } from "./support/workspace.ts";
import { workspaceTasks } from "./support/workspace-tasks.ts";

let system: System;
/** Waits stay hot for longer than any test lasts. */
const hot = { parkAfterMs: 3_600_000 };

beforeAll(async () => {
  system = await System.start();
  const cipher = createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") });
  await putSecret(system.db, cipher, system.environment.scope, "KEY", "the-secret-value");
  const builder = await system.worker();
  await system.deploy(workspaceTasks);
  await builder.stop();
});
afterAll(() => system.stop());

const nothing = {
  runs: { finished: 0, parked: 0, handed_back: 0, lost: 0 },
  builds: { finished: 0, handed_back: 0 },
  copies: { saved: 0, unsaved: 0 },
  left: 0,
};

async function saying(run: StartedRun, text: string): Promise<void> {
  await system.until(async () => (await system.stdout(run)).includes(text));
}

/** With `work`, on a worker that nobody else uses; the next one begins where it ended. */
async function onWorker<T>(work: (worker: SystemWorker) => Promise<T>): Promise<T> {
  const worker = await system.worker(hot);
  try {
    return await work(worker);
  } finally {
    await worker.stop();
  }
}

describe("a draining worker", () => {
  it("lets runs end, parks at once what waits, saves live copies, and takes nothing new", async () => {
    const { waiting, ending, late, workspace } = await onWorker(async ({ worker }) => {
      const waiting = await system.run("waits", { files: { note: "kept" } });
      await system.awaitedToken(waiting);
      const ending = await system.run("stays", { files: { mine: "task" } });
      await saying(ending, "here");
      const workspace = await TestWorkspace.create(system);
      await workspace.sh("echo unsaved > file");
      const busy = await workspace.start("trap '' TERM; sleep 600");
      await system.until(async () => (await workspace.get(`execs/${busy}`)).exec.state === "running");
      const operated = await TestWorkspace.of(system, waiting);
      const terminal = await operated.start("sleep 600");
      await system.until(async () => (await operated.get(`execs/${terminal}`)).exec.state === "running");

      const drained = worker.drain();
      await system.parked(waiting);
      const late = await system.run("writes", { files: { late: "1" } });
      expect(await workspace.ended(busy)).toMatchObject({ state: "terminated" });
      expect(await operated.ended(terminal)).toMatchObject({ state: "terminated" });
      expect((await system.row(ending)).status).toBe("running");
      // What ends it comes from outside: the workspace of a run takes commands no more.
      await system.request("POST", `/runs/${ending.runId}/cancel`, { reason: "enough" });
      const summary = await drained;
      expect(summary).toEqual({
        ...nothing,
        runs: { ...nothing.runs, finished: 1, parked: 1 },
        copies: { saved: 1, unsaved: 0 },
      });
      expect((await system.row(late)).status).toBe("queued");
      return { waiting, ending, late, workspace };
    });
    expect((await system.finished(ending)).status).toBe("cancelled");
    expect(await workspace.copy()).toMatchObject({ state: "stopped" });
    expect(await workspace.files()).toEqual({ file: "unsaved\n" });
    await onWorker(async () => {
      expect((await system.finished(late)).status).toBe("succeeded");
      await system.complete(await system.awaitedToken(waiting), "yes");
      expect((await system.finished(waiting)).output).toMatchObject({ answer: "yes", kept: true });
      expect(await workspace.sh("cat file")).toBe("unsaved\n");
      await workspace.stop();
    });
  });

  it("gives back what does not end in time: it begins anew elsewhere, and uses up no try", async () => {
    const run = await onWorker(async ({ worker }) => {
      const run = await system.run("stays", { files: { mine: "first" } });
      await saying(run, "here");
      expect(await worker.drain({ timeoutMs: 200 })).toEqual({
        ...nothing,
        runs: { ...nothing.runs, handed_back: 1 },
      });
      return run;
    });
    expect(await system.row(run)).toMatchObject({ status: "queued", execution_status: "queued" });
    const events = await system.events(run);
    expect(events.map(({ kind }) => kind).slice(-3)).toEqual([
      "run.execution_lost",
      "run.workspace_changes_lost",
      "run_lease.abandoned_requeued",
    ]);
    expect(events.at(-1)?.attributes).toMatchObject({ reason: "worker_drained" });
    await onWorker(async () => {
      await system.until(async () => (await system.stdout(run)).split("here").length === 3);
      const workspace = await TestWorkspace.of(system, run);
      await workspace.start("touch go");
      expect(await system.finished(run)).toMatchObject({ status: "succeeded" });
    });
    expect((await system.row(run)).attempt_number - (await system.row(run)).lost_count).toBe(1);
  });

  it("gives back a run that was restored: it goes on from its checkpoint, in the same attempt", async () => {
    const run = await onWorker(async ({ worker }) => {
      const run = await system.run("waits");
      await system.awaitedToken(run);
      await worker.drain();
      return run;
    });
    const { attempt_id: attempt } = await system.row(run);
    // Somebody asks for the guest of the parked run, which brings it up again.
    const workspace = await TestWorkspace.of(system, run);
    await onWorker(async ({ worker }) => {
      const exec = await workspace.start("trap '' TERM; sleep 600");
      await system.until(async () => (await workspace.get(`execs/${exec}`)).exec.state === "running");
      const summary = await worker.drain({ timeoutMs: 0 });
      expect(summary.runs).toEqual({ ...nothing.runs, handed_back: 1 });
    });
    expect(await system.row(run)).toMatchObject({ execution_status: "resume_queued", lost_count: 0 });
    await onWorker(async () => {
      await system.complete(await system.awaitedToken(run), "yes");
      expect((await system.finished(run)).output).toMatchObject({ answer: "yes" });
    });
    expect((await system.row(run)).attempt_id).toBe(attempt);
  });

  it("gives back a live copy that is not up: its command runs elsewhere, and nobody is told of an end", async () => {
    const workspace = await TestWorkspace.create(system);
    let drained: Promise<unknown> | undefined;
    const worker = await system.worker({
      ...hot,
      onDebugPoint: async (point) => {
        if (point === "copy.leased") drained ??= worker.worker.drain();
      },
    });
    const exec = await workspace.start("echo done");
    await system.until(async () => drained !== undefined);
    await drained;
    await worker.stop();
    expect(await workspace.copy()).toMatchObject({ state: "requested", worker_instance_id: null });
    await onWorker(async () => {
      expect(await workspace.ended(exec)).toMatchObject({ state: "exited", exit_code: 0 });
      await workspace.stop();
    });
  });

  it("hands a run on that nobody has begun, as if it had not been leased", async () => {
    const run = await onWorker(async ({ worker }) => {
      const run = await system.run("writes");
      await system.until(async () => (await system.row(run)).status === "running");
      await worker.drain({ timeoutMs: 0 });
      return run;
    });
    await onWorker(() => system.finished(run));
    const { attempt_number: attempts, lost_count: losses } = await system.row(run);
    expect(attempts - losses).toBe(1);
  });
});
