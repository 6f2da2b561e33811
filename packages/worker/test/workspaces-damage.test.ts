/** Workspaces when the object store fails, versions are damaged, and checkpoints cannot be restored. */
import { readFile, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { createSecretCipher, putSecret } from "@helmr/store";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { type StartedRun, System, type SystemWorker } from "./support/system.ts";
import { TestWorkspace } from "./support/workspace.ts";
import { workspaceTasks } from "./support/workspace-tasks.ts";

let system: System;
let worker: SystemWorker;
let storeFails = false;

beforeAll(async () => {
  system = await System.start();
  const cipher = createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") });
  await putSecret(system.db, cipher, system.environment.scope, "KEY", "the-secret-value");
  worker = await failing();
  await system.deploy(workspaceTasks);
});
afterEach(() => {
  storeFails = false;
});
afterAll(() => system.stop());

/** A worker that can store nothing while `storeFails`. */
function failing(): Promise<SystemWorker> {
  return system.worker({
    wrapArtifacts: (store) => ({
      get: (digest) => store.get(digest),
      has: (digest) => store.has(digest),
      delete: (digest) => store.delete(digest),
      put: (source, options) => {
        if (!storeFails) return store.put(source, options);
        source.destroy();
        return Promise.reject(new Error("the store takes nothing"));
      },
    }),
  });
}

function pathOf(digest: string): string {
  const hex = digest.slice("sha256:".length);
  return join(system.artifactsDir, "sha256", hex.slice(0, 2), hex);
}

async function instanceOf({ dir }: SystemWorker): Promise<string> {
  const text = await readFile(join(dir, "worker/instance.json"), "utf8");
  return (JSON.parse(text) as { worker_instance_id: string }).worker_instance_id;
}

async function workersOf(run: StartedRun): Promise<unknown[]> {
  const leased = (await system.events(run)).filter(({ kind }) => kind === "run_lease.leased");
  return leased.map(({ attributes }) => attributes.worker_instance_id);
}

it("keeps what could not be saved on its disk, for the next run there, and no other worker takes it", async () => {
  const workspace = await TestWorkspace.create(system);
  await system.finished(await workspace.run("writes", { files: { a: "saved" } }));
  storeFails = true;
  const unsaved = await workspace.run("writes", { files: { a: "unsaved" } });
  expect(await system.finished(unsaved)).toMatchObject({ status: "succeeded" });
  expect(await system.kinds(unsaved)).toContain("worker.workspace_save_failed");
  expect(await workspace.row()).toMatchObject({ dirty_state: "capture_failed" });
  expect(await workspace.files()).toEqual({ a: "saved" });

  const other = await system.worker();
  storeFails = false;
  const next = await workspace.run("writes", { reads: ["a"], files: { b: "later" } });
  expect((await system.finished(next)).output.found).toEqual({ a: "unsaved" });
  expect(await workersOf(next)).toEqual([await instanceOf(worker)]);
  expect(await workspace.row()).toMatchObject({ dirty_state: "clean" });
  expect(await workspace.files()).toEqual({ a: "unsaved", b: "later" });
  await other.stop();
});

it("says what is lost when the worker with unsaved files is gone, and goes on from the saved version", async () => {
  const workspace = await TestWorkspace.create(system);
  await system.finished(await workspace.run("writes", { files: { a: "saved" } }));
  storeFails = true;
  await system.finished(await workspace.run("writes", { files: { a: "unsaved" } }));
  await worker.stop();
  await system.db
    .updateTable("worker_instances")
    .set({ state: "gone" })
    .where("id", "=", await instanceOf(worker))
    .execute();
  worker = await failing();
  storeFails = false;
  const next = await workspace.run("writes", { reads: ["a"] });
  expect((await system.finished(next)).output.found).toEqual({ a: "saved" });
  // It changed nothing, and its save says all the same that nothing is missing any more.
  expect(await workspace.row()).toMatchObject({ dirty_state: "clean" });
});

it("a failed save of a live copy says that changes are lost, and the workspace goes on", async () => {
  const workspace = await TestWorkspace.create(system);
  await workspace.sh("echo 1 > a");
  await workspace.stop();
  await workspace.sh("echo 2 > a");
  storeFails = true;
  await expect(workspace.post("versions")).rejects.toThrow("the store takes nothing");
  await workspace.stop();
  expect(await workspace.copy()).toMatchObject({ state: "failed" });
  expect(await workspace.row()).toMatchObject({ dirty_state: "dirty_state_lost" });
  storeFails = false;
  expect(await workspace.sh("cat a")).toBe("1\n");
  await workspace.stop();
  expect(await workspace.row()).toMatchObject({ dirty_state: "clean" });
});

it("starts again with the files of a checkpoint that can never be restored", async () => {
  const retry = { enabled: true, maxAttempts: 2, backoff: { minMs: 100, maxMs: 100 } };
  const run = await system.run("waits", { files: { note: "kept" } }, { retry });
  await system.parked(run);
  const { artifact_digest: digest } = await system.db
    .selectFrom("run_checkpoints")
    .select("artifact_digest")
    .where("run_id", "=", run.runId)
    .executeTakeFirstOrThrow();
  await rm(pathOf(digest));
  await system.complete(await system.awaitedToken(run), 1);
  await system.complete(await system.awaitedToken(run, 2), "again");
  const { output } = await system.finished(run);
  expect(output).toMatchObject({ answer: "again", log: "before before after", note: "kept" });
});

it.each(["missing", "corrupt"])("says so when the version's artifacts are %s", async (what) => {
  const workspace = await TestWorkspace.create(system);
  await system.finished(await workspace.run("writes", { files: { a: "1" } }));
  const [version] = await workspace.versions();
  const path = pathOf(version?.manifest_digest ?? "");
  if (what === "missing") await rm(path);
  else await truncate(path, 10);
  await worker.stop();
  worker = await failing();
  const run = await workspace.run("writes", { reads: ["a"] });
  const { status, failure } = await system.finished(run);
  expect(status).toBe("failed");
  expect(failure).toMatchObject({ kind: "worker_failed", code: `workspace_version_artifact_${what}` });
  expect(failure.message).toContain(version?.manifest_digest);
  const exec = await workspace.ended(await workspace.start("true"));
  expect(exec).toMatchObject({ state: "failed" });
  expect(exec.error?.message).toContain(version?.manifest_digest);
  const code = `workspace_version_artifact_${what}`;
  expect(await workspace.copy()).toMatchObject({ state: "failed", error: { code } });
});

it("fails a parked run whose version is gone, and says which layer failed", async () => {
  const run = await system.run("waits", { files: { note: "kept" } });
  await system.parked(run);
  const workspace = await TestWorkspace.of(system, run);
  const [version] = await workspace.versions();
  await rm(pathOf(version?.manifest_digest ?? ""));
  await worker.stop();
  worker = await failing();
  await system.complete(await system.awaitedToken(run), "yes");
  const { status, failure } = await system.finished(run);
  expect(status).toBe("failed");
  expect(failure.message).toMatch(/^parked wait: .*workspace version/);
});
