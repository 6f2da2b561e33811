/** Workspaces over runs, commands, terminals and workers that share nothing but the object store. */
import { readdir, writeFile } from "node:fs/promises";
import { createSecretCipher, putSecret } from "@helmr/store";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type StartedRun, System, type SystemWorker } from "./support/system.ts";
import { TestWorkspace } from "./support/workspace.ts";
import { workspaceTasks } from "./support/workspace-tasks.ts";

let system: System;
let worker: SystemWorker;

beforeAll(async () => {
  system = await System.start();
  const cipher = createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") });
  await putSecret(system.db, cipher, system.environment.scope, "KEY", "the-secret-value");
  worker = await system.worker();
  await system.deploy(workspaceTasks);
});
afterAll(() => system.stop());

/** From now on another worker does everything; the old one is gone with its folder. */
async function changeWorker(): Promise<void> {
  await worker.stop();
  worker = await system.worker();
}

async function saying(run: StartedRun, text: string): Promise<void> {
  await system.until(async () => (await system.stdout(run)).includes(text));
}

describe("files of a run", () => {
  it("are there for the next run, on this worker and on another, also when it failed", async () => {
    const workspace = await TestWorkspace.create(system);
    const first = await workspace.run("writes", { files: { "a/b": "one", c: "two" } });
    expect(await system.finished(first)).toMatchObject({ status: "succeeded" });
    const second = await workspace.run("writes", {
      reads: ["a/b", "c"],
      files: { c: "three" },
      fails: true,
    });
    expect(await system.finished(second)).toMatchObject({ status: "failed" });
    await changeWorker();
    const third = await workspace.run("writes", { reads: ["a/b", "c"] });
    expect((await system.finished(third)).output.found).toEqual({ "a/b": "one", c: "three" });
    const versions = await workspace.versions();
    expect(versions.map(({ reason, run_id }) => [reason, run_id])).toEqual([
      ["run", first.runId],
      ["run", second.runId],
    ]);
    expect((await workspace.row()).current_version_id).toBe(versions[1]?.id);
  });

  it("cost nothing where there are none", async () => {
    const reserved = () => system.db.selectFrom("artifact_reservations").selectAll().execute();
    const before = await reserved();
    const run = await system.run("writes");
    await system.finished(run);
    const workspace = await TestWorkspace.of(system, run);
    expect(await workspace.versions()).toEqual([]);
    expect(await reserved()).toEqual(before);
    expect(await system.kinds(run)).not.toContain("run.workspace_saved");
  });

  it("hold no secret, while the run waits and after it", async () => {
    const run = await system.run("waits", { files: { note: "kept" } });
    await system.parked(run);
    const workspace = await TestWorkspace.of(system, run);
    expect(await workspace.files()).toEqual({ note: "kept", log: "before " });
    await changeWorker();
    await system.complete(await system.awaitedToken(run), "yes");
    const { output } = await system.finished(run);
    expect(output).toMatchObject({ answer: "yes", kept: true, log: "before after", key: "the-secret-value" });
    expect(await workspace.files()).toEqual({ note: "kept", log: "before after" });
  });

  it("that are FIFOs come back with the parked run", async () => {
    const run = await system.run("waits", { files: { "pipes/.keep": "" }, fifo: true });
    await system.parked(run);
    await changeWorker();
    await system.complete(await system.awaitedToken(run), "yes");
    expect((await system.finished(run)).output).toMatchObject({ isFifo: true, log: "before after" });
  });
});

describe("a live copy of its own", () => {
  it("carries out commands and a terminal, is read and saved while it lives, and its files stay", async () => {
    const workspace = await TestWorkspace.create(system);
    const before = await workspace.run("writes", { files: { "from-run": "1" } });
    await system.finished(before);
    expect(await workspace.sh("cat from-run; echo by exec > made; pwd")).toBe("1/workspace\n");
    const failing = await workspace.ended(await workspace.start("echo out; echo err >&2; exit 7"));
    expect(failing).toMatchObject({ state: "exited", exit_code: 7 });
    expect(await workspace.output(`execs/${failing.id}/stderr`)).toBe("err\n");

    const reader = await workspace.start("cat > stdin; echo done");
    await workspace.post(`execs/${reader}/stdin`, {
      offset: 0,
      data: Buffer.from("typed").toString("base64"),
    });
    await workspace.post(`execs/${reader}/stdin/close`);
    expect(await workspace.ended(reader)).toMatchObject({ exit_code: 0 });

    const sleeper = await workspace.start("sleep 600");
    await system.until(async () => (await workspace.get(`execs/${sleeper}`)).exec.state === "running");
    await workspace.post(`execs/${sleeper}/kill`, {});
    expect(await workspace.ended(sleeper)).toMatchObject({ state: "terminated", signal: "SIGTERM" });

    const { pty } = await workspace.post("pty", { cols: 100, rows: 30 });
    await system.until(async () => (await workspace.get(`pty/${pty.id}`)).pty.state === "open");
    const typed = Buffer.from("stty size; cat stdin; exit\n").toString("base64");
    await workspace.post(`pty/${pty.id}/input`, { offset: 0, data: typed });
    await system.until(async () => (await workspace.get(`pty/${pty.id}`)).pty.state === "closed");
    expect(await workspace.output(`pty/${pty.id}/output`)).toMatch(/30 100\r\ntyped/);

    const { version } = await workspace.post("versions", { message: "by hand" });
    expect(version).toMatchObject({ kind: "user", message: "by hand" });
    await workspace.sh("echo later > later");
    await workspace.stop();
    expect(await workspace.copy()).toMatchObject({ state: "stopped" });
    expect((await workspace.versions()).map(({ reason }) => reason)).toEqual(["run", "request", "stop"]);
    expect(Object.keys(await workspace.files(version.id)).sort()).toEqual(["from-run", "made", "stdin"]);

    await changeWorker();
    const after = await workspace.run("writes", { reads: ["made", "later", "stdin"] });
    expect((await system.finished(after)).output.found).toEqual({
      made: "by exec\n",
      later: "later\n",
      stdin: "typed",
    });
  });

  it("goes when a run waits for the workspace and nobody works in it, and not before", async () => {
    const workspace = await TestWorkspace.create(system);
    const exec = await workspace.start(
      "echo 1 > one; until test -e enough; do sleep 0.05; done; echo 2 > two",
    );
    await system.until(async () => (await workspace.get(`execs/${exec}`)).exec.state === "running");
    const run = await workspace.run("writes", { reads: ["one", "two"] });
    await system.until(async () => (await system.kinds(run)).includes("run.waiting_for_workspace"));
    expect((await system.row(run)).status).toBe("queued");
    await expect(workspace.start("true")).rejects.toThrow("workspace_writer_active");
    // One writer at a time: the file comes through the worker's own folder, as the guest's would.
    await system.until(async () => await touchInCopy(worker, "enough"));
    expect(await workspace.ended(exec)).toMatchObject({ exit_code: 0 });
    expect((await system.finished(run)).output.found).toEqual({ one: "1\n", two: "2\n" });
  });

  it("that is full says so in the guest alone", async () => {
    const workspace = await TestWorkspace.create(system);
    const id = await workspace.start("echo small > small; head -c 600M /dev/zero > big || echo full");
    expect(await workspace.ended(id)).toMatchObject({ exit_code: 0 });
    expect(await workspace.output(`execs/${id}/stdout`)).toBe("full\n");
    expect(await workspace.output(`execs/${id}/stderr`)).toMatch(/No space left/);
    expect(await workspace.sh("rm big; cat small")).toBe("small\n");
    await workspace.stop();
  });

  it("is saved when its worker drains or stops", async () => {
    const workspace = await TestWorkspace.create(system);
    await workspace.sh("echo 1 > one");
    await changeWorker();
    expect(await workspace.copy()).toMatchObject({ state: "stopped" });
    expect(await workspace.sh("cat one; echo 2 > two")).toBe("1\n");
    await worker.worker.drain();
    expect(await workspace.copy()).toMatchObject({ state: "stopped" });
    await changeWorker();
    expect(await workspace.sh("cat one two")).toBe("1\n2\n");
    await workspace.stop();
  });
});

describe("a run's guest as the live copy", () => {
  it("runs commands beside the task, which sees their files; they end with it", async () => {
    const run = await system.run("stays", { files: { mine: "task" } });
    await saying(run, "here");
    const workspace = await TestWorkspace.of(system, run);
    expect(await workspace.sh("cat mine; echo op > theirs")).toBe("task");
    expect(await workspace.copy()).toMatchObject({ run_id: run.runId, state: "running" });
    const left = await workspace.start("trap '' TERM; touch go; echo still; sleep 600");
    expect(await workspace.ended(left)).toMatchObject({ state: "terminated" });
    expect(await workspace.output(`execs/${left}/stdout`)).toBe("still\n");
    expect((await system.finished(run)).output).toEqual(["go", "mine", "theirs"]);
    expect(await workspace.copy()).toMatchObject({ state: "stopped" });
    expect(await workspace.files()).toEqual({ go: "", mine: "task", theirs: "op\n" });
  });

  it("comes back for an operator when the run is parked, is parked again, and goes on with its memory", async () => {
    const run = await system.run("waits", { files: { note: "old" } });
    await system.parked(run);
    await changeWorker();
    const workspace = await TestWorkspace.of(system, run);
    expect(await workspace.sh("cat note; echo new > note; ls conf")).toBe("oldkey\n");
    expect(await workspace.copy()).toMatchObject({ run_id: run.runId });
    await system.parked(run, 2);
    expect((await workspace.copy())?.ended_at).not.toBeNull();
    expect(await workspace.files()).toEqual({ note: "new\n", log: "before " });
    await changeWorker();
    await system.complete(await system.awaitedToken(run), "yes");
    expect((await system.finished(run)).output).toMatchObject({
      answer: "yes",
      kept: true,
      note: "new\n",
      log: "before after",
    });
  });

  it("is not parked while a command runs in it", async () => {
    const run = await system.run("waits");
    await system.parked(run);
    const workspace = await TestWorkspace.of(system, run);
    const exec = await workspace.start("read line; echo got $line");
    await system.until(async () => (await workspace.get(`execs/${exec}`)).exec.state === "running");
    // Several windows of waiting: it would be parked by now.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect((await system.kinds(run)).filter((kind) => kind === "run.parked")).toHaveLength(1);
    const data = Buffer.from("it\n").toString("base64");
    await workspace.post(`execs/${exec}/stdin`, { offset: 0, data });
    expect(await workspace.ended(exec)).toMatchObject({ exit_code: 0 });
    expect(await workspace.output(`execs/${exec}/stdout`)).toBe("got it\n");
    await system.parked(run, 2);
    await system.complete(await system.awaitedToken(run), "yes");
    expect((await system.finished(run)).output).toMatchObject({ answer: "yes", kept: true });
  });
});

/** Whether it was made in the only mounted workspace of the worker. */
async function touchInCopy({ dir }: SystemWorker, name: string): Promise<boolean> {
  const mounts = `${dir}/worker/workspaces/mounts`;
  const [mount] = await readdir(mounts);
  if (mount === undefined) return false;
  await writeFile(`${mounts}/${mount}/${name}`, "");
  return true;
}
