/** Runs in real guests: outcome, logs, limits, cancellation, lost leases, workspaces. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Bench, type BuiltDeployment } from "./support/bench.ts";
import { project } from "./support/projects.ts";

const tasks = {
  hello:
    'console.log("out"); console.error("err"); metadata.set("step", 1); return { ok: true, cwd: process.cwd(), node: process.versions.node };',
  fails: 'throw new Error("no luck", { cause: new TypeError("inner") });',
  exits: "process.exit(3);",
  waits:
    'console.log("ready"); await new Promise((resolve) => ctx.signal.addEventListener("abort", resolve)); console.log("aborted"); return "late";',
  deaf: 'console.log("ready"); for (;;) await new Promise((resolve) => setTimeout(resolve, 1000));',
  hungry: "const all = []; for (;;) { const b = Buffer.alloc(32 * 1024 * 1024, 1); all.push(b); }",
  flood:
    'const line = Buffer.alloc(64 * 1024, "x"); const { writeSync } = await import("node:fs"); for (let i = 0; i < 4096; i += 1) writeSync(1, line); return "done";',
  counts:
    'const fs = await import("node:fs"); const n = fs.existsSync("n") ? Number(fs.readFileSync("n", "utf8")) : 0; fs.writeFileSync("n", String(n + 1)); return n + 1;',
  fills:
    'const fs = await import("node:fs"); try { for (let i = 0; i < 200; i += 1) fs.writeFileSync("f" + i, Buffer.alloc(1024 * 1024)); return "no limit"; } catch (error) { return error.code; }',
  secret: "return process.env.TOKEN;",
};

describe("runs", () => {
  let bench: Bench;
  let deployment: BuiltDeployment;
  beforeAll(async () => {
    bench = await Bench.start();
    deployment = await bench.deploy(
      project({ tasks, sandbox: '.resources({ cpu: 1, memory: "256Mi", disk: "64Mi" })' }),
    );
  });
  afterAll(() => bench.stop());

  it("reports output, logs in order and metadata", async () => {
    const { record, outcome } = bench.run(deployment, "hello");
    expect(await outcome).toMatchObject({ status: "succeeded" });
    expect(JSON.parse(((await outcome) as { output_json: string }).output_json)).toMatchObject({
      ok: true,
      cwd: "/workspace",
    });
    expect(record.log("stdout")).toBe("out\n");
    expect(record.log("stderr")).toBe("err\n");
    expect(record.items.map((item) => item.number)).toEqual(record.items.map((_, index) => index + 1));
    expect(record.items.some((item) => item.kind === "metadata")).toBe(true);
    expect(record.started?.guest.pooled).toBe(false);
  });

  it("reports a thrown error with its cause, and an exit code", async () => {
    expect(await bench.run(deployment, "fails").outcome).toMatchObject({
      status: "failed",
      failure_kind: "task_failed",
      message: "no luck",
      detail: { name: "Error", cause: { name: "TypeError", message: "inner" } },
    });
    expect(await bench.run(deployment, "exits").outcome).toMatchObject({ status: "failed", exit_code: 3 });
  });

  it("cancels through ctx.signal, kills who does not listen, and at once when forced", async () => {
    for (const [task, force] of [
      ["waits", false],
      ["deaf", false],
      ["deaf", true],
    ] as const) {
      const { record, outcome } = bench.run(deployment, task);
      await record.until(() => record.log("stdout").includes("ready"));
      record.cancel = { reason: "enough", force };
      expect(await outcome).toEqual({ status: "cancelled", reason: "enough" });
      if (task === "waits") expect(record.log("stdout")).toContain("aborted");
    }
  });

  it("ends a run at its max duration", async () => {
    const { outcome } = bench.run(deployment, "deaf", { max_duration_seconds: 1 });
    expect(await outcome).toMatchObject({
      status: "failed",
      failure_kind: "max_duration",
      detail: { limit_seconds: 1 },
    });
  });

  it("says that memory ran out", async () => {
    const outcome = await bench.run(deployment, "hungry").outcome;
    expect(outcome.status).toBe("failed");
    expect(JSON.stringify(outcome)).toMatch(/memory/);
  });

  it("bounds a flood of output, marks the cut, and lets the run succeed", async () => {
    const { record, outcome } = bench.run(deployment, "flood");
    expect(await outcome).toMatchObject({ status: "succeeded", output_json: '"done"' });
    expect(record.logBytes).toBeLessThan(65 * 1024 * 1024);
    expect(
      record.items.some((item) => item.kind === "event" && item.event_kind === "worker.log_truncated"),
    ).toBe(true);
    expect(record.log("stderr")).toContain("log output cut");
  });

  it("keeps a workspace between runs, each workspace apart, and bounds its disk", async () => {
    const workspace_id = randomUUID();
    expect(await bench.run(deployment, "counts", { workspace_id }).outcome).toMatchObject({
      output_json: "1",
    });
    expect(await bench.run(deployment, "counts", { workspace_id }).outcome).toMatchObject({
      output_json: "2",
    });
    expect(await bench.run(deployment, "counts").outcome).toMatchObject({ output_json: "1" });
    expect(await bench.run(deployment, "fills").outcome).toMatchObject({ output_json: '"ENOSPC"' });
  });

  it("gives secrets to the task and to nothing else", async () => {
    const { record, outcome } = bench.run(deployment, "secret", {
      secrets: [{ placement: { kind: "env", name: "token", env: "TOKEN" }, value: "s3cr3t-value" }],
    });
    expect(await outcome).toMatchObject({ output_json: '"s3cr3t-value"' });
    expect(JSON.stringify(record.items)).not.toContain("s3cr3t-value");
  });

  it("drops a run whose lease is lost", async () => {
    const { record } = bench.run(deployment, "deaf");
    await record.until(() => record.log("stdout").includes("ready"));
    record.lost = true;
    expect(await bench.run(deployment, "hello").outcome).toMatchObject({ status: "succeeded" });
    expect(record.outcome).toBeUndefined();
  });
});

describe("the pool", () => {
  it("gives a run a guest that is up, once, and fills behind it", async () => {
    const bench = await Bench.start({ pool: { perSandbox: 1, maxGuests: 2, idleTtlMs: 60_000 } });
    try {
      const deployment = await bench.deploy(
        project({ tasks, sandbox: '.resources({ cpu: 1, memory: "256Mi", disk: "64Mi" })' }),
      );
      let pooled = 0;
      for (let index = 0; index < 20 && pooled < 2; index += 1) {
        const { record, outcome } = bench.run(deployment, "counts");
        expect(await outcome).toMatchObject({ status: "succeeded", output_json: "1" });
        if (record.started?.guest.pooled === true) pooled += 1;
      }
      expect(pooled).toBe(2);
    } finally {
      await bench.stop();
    }
  });
});
