import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runTask, type TestFolder, taskModule, testFolder } from "./harness.ts";

let folder: TestFolder;
beforeAll(async () => {
  folder = await testFolder();
}, 60_000);
afterAll(() => folder.remove());

/** Run a task with this body and give its outcome. */
async function outcomeOf(body: string, head = ""): Promise<unknown> {
  return (await runTask(folder, { "task.ts": taskModule(body, head) })).outcome;
}
const failure = (error: object, rest: object = {}) =>
  expect.objectContaining({
    status: "failed",
    failure_kind: "task_failed",
    error: expect.objectContaining(error),
    ...rest,
  });

describe("a task that succeeds", () => {
  it("gets its context, environment and working directory, and nothing of the agent", async () => {
    const { outcome } = await runTask(
      folder,
      {
        "task.ts": taskModule(`return {
          run: ctx.run, task: ctx.task, session: ctx.session, workspace: ctx.workspace, aborted: ctx.signal.aborted,
          cwd: process.cwd(), argv: process.argv.slice(1), execArgv: process.execArgv,
          env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !["PATH", "HOME"].includes(name))),
        };`),
      },
      {
        env: { RUN_VARIABLE: "from the run", NODE_ENV: "production" },
        secrets: [{ kind: "env", name: "token", env: "TOKEN", value: "s3cret" }],
      },
    );
    expect(outcome.status).toBe("succeeded");
    expect(JSON.parse((outcome as { output_json: string }).output_json)).toEqual({
      run: { id: "run-1", attemptId: "attempt-1", attemptNumber: 1, runLeaseId: "lease-1" },
      task: { id: "main" },
      session: { id: "session-1" },
      workspace: { path: folder.workspace, projectPath: folder.source },
      aborted: false,
      cwd: folder.workspace,
      argv: [join(folder.source, "task.ts")],
      execArgv: [],
      env: {
        IMAGE_VARIABLE: "from the image",
        RUN_VARIABLE: "from the run",
        NODE_ENV: "production",
        TOKEN: "s3cret",
      },
    });
  });

  it("may return nothing", async () => {
    expect(await outcomeOf("return undefined;")).toEqual({ status: "succeeded" });
  });

  it("uses what Node reads at its start", async () => {
    const { outcome } = await runTask(
      folder,
      {
        "task.ts": taskModule(
          "return process.execArgv.length + (process.env.NODE_OPTIONS ?? '') + globalThis.preloaded;",
        ),
      },
      { env: { NODE_OPTIONS: "--import=data:text/javascript,globalThis.preloaded=true" } },
    );
    expect(outcome).toEqual({
      status: "succeeded",
      output_json: '"0--import=data:text/javascript,globalThis.preloaded=truetrue"',
    });
  });

  it("reports metadata in order and logs through the logger", async () => {
    const { agent, stdout, stderr } = await runTask(folder, {
      "task.ts": taskModule(
        `metadata.set("step", 1); metadata.increment("step"); metadata.patch({ name: "x" }); logger.info("one", { a: 1 }); logger.error("two");`,
      ),
    });
    expect(agent.messages.filter((m) => m.type === "metadata").map((m) => m.operation)).toEqual([
      { op: "set", key: "step", value_json: "1" },
      { op: "increment", key: "step", amount: 1 },
      { op: "patch", value_json: '{"name":"x"}' },
    ]);
    expect(stdout).toContain("one");
    expect(stderr).toBe("two\n");
    expect(agent.messages.map((m) => m.type).filter((type) => type.startsWith("run."))).toEqual([
      "run.started",
      "run.finished",
    ]);
  });
});

describe("output", () => {
  it("arrives byte for byte, in order, before the end", async () => {
    const { agent } = await runTask(folder, {
      "task.ts": taskModule(`
        process.stdout.write(Buffer.from([0xff, 0xfe, 0x00, 0x0a]));
        for (let i = 0; i < 3000; i++) console.log("line " + i + " " + "x".repeat(i % 300));
        process.stderr.write(Buffer.alloc(300000, 0xe9));
      `),
    });
    const lines = Array.from({ length: 3000 }, (_, i) => `line ${i} ${"x".repeat(i % 300)}\n`).join("");
    const expected = Buffer.concat([Buffer.from([0xff, 0xfe, 0x00, 0x0a]), Buffer.from(lines)]);
    expect(agent.output("stdout").equals(expected)).toBe(true);
    expect(agent.output("stderr").equals(Buffer.alloc(300000, 0xe9))).toBe(true);
    expect(agent.messages.at(-1)?.type).toBe("run.finished");
  });

  it("of 64 MiB passes with bounded memory", async () => {
    await runTask(
      folder,
      {
        "task.ts": taskModule(
          `const b = Buffer.alloc(65536, 97); for (let i = 0; i < 1024; i++) process.stdout.write(b);`,
        ),
      },
      {},
      async (agent) => {
        await agent.wait("run.finished");
        expect(agent.output("stdout").length).toBe(64 * 1024 * 1024);
        const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${agent.child.pid}/status`, "utf8"))?.[1];
        expect(Number(peak)).toBeLessThan(300 * 1024);
      },
    );
  }, 60_000);

  it("written before process.exit is complete", async () => {
    const { outcome, stdout } = await runTask(folder, {
      "task.ts": taskModule(`process.stdout.write("y".repeat(1000000)); process.exit(3);`),
    });
    expect(outcome).toEqual(
      failure({ message: expect.stringContaining("exited with code 3") }, { exit_code: 3 }),
    );
    expect(stdout.length).toBe(1_000_000);
  });
});

describe("a task that fails", () => {
  it("by throwing an Error with causes", async () => {
    const outcome = (await outcomeOf(`
      let error: Error | undefined;
      for (let i = 8; i >= 0; i--) error = new Error("level " + i, { cause: error });
      throw error;`)) as { error: { message: string; stack: string; cause?: unknown } };
    expect(outcome).toEqual(
      failure({ name: "Error", message: "level 0", stack: expect.stringMatching(/task\.ts:7:/) }),
    );
    let depth = 0;
    for (
      let e: { cause?: unknown } | undefined = outcome.error;
      e?.cause !== undefined;
      e = e.cause as typeof e
    )
      depth++;
    expect(depth).toBe(5);
  });

  it.each([
    ["a string", `throw "boom";`, { message: "The task threw a string instead of an Error: 'boom'" }],
    [
      "an object",
      `throw { code: 7 };`,
      { message: "The task threw an object instead of an Error: { code: 7 }" },
    ],
    ["undefined", `throw undefined;`, { message: "The task threw undefined instead of an Error" }],
    ["null", `throw null;`, { message: "The task threw null instead of an Error" }],
    [
      "a hostile object",
      `throw new Proxy({}, { get() { throw 1; }, has() { throw 1; } });`,
      { name: "Error" },
    ],
    [
      "a rejection nobody handles",
      `Promise.reject(new TypeError("lost")); await new Promise((r) => setTimeout(r, 5000));`,
      { name: "TypeError", message: "Unhandled promise rejection: lost" },
    ],
    [
      "an exception in a callback",
      `setTimeout(() => { throw new Error("late"); }, 1); await new Promise((r) => setTimeout(r, 5000));`,
      { message: "Uncaught exception: late" },
    ],
  ])("with %s", async (_, body, error) => {
    expect(await outcomeOf(body)).toEqual(failure(error));
  });

  it("by exiting, even with code 0", async () => {
    expect(await outcomeOf("process.exit(0);")).toEqual(
      failure({ message: expect.stringContaining("code 0 before") }, { exit_code: 0 }),
    );
  });

  it("by a signal", async () => {
    expect(await outcomeOf(`process.kill(process.pid, "SIGKILL"); await new Promise(() => {});`)).toEqual(
      failure({ message: expect.stringContaining("SIGKILL") }, { signal: "SIGKILL" }),
    );
  });

  it("by writing to the agent's channel", async () => {
    const body = `(await import("node:fs")).writeSync(3, Buffer.from([0, 0, 0, 2, 123, 125])); await new Promise((r) => setTimeout(r, 5000));`;
    expect(await outcomeOf(body)).toEqual(failure({ message: expect.stringContaining("file descriptor 3") }));
  });

  it.each([
    ["a BigInt", "return { n: 1n };"],
    ["a cycle", "const a: { a?: unknown } = {}; a.a = a; return a;"],
    ["a function", "return () => 1;"],
    ["a throwing toJSON", `return { toJSON() { throw new Error("no"); } };`],
  ])("by returning %s", async (_, body) => {
    expect(await outcomeOf(body)).toMatchObject({
      status: "failed",
      failure_kind: "output_not_serializable",
    });
  });

  it("by returning too much", async () => {
    const outcome = await outcomeOf(`return "x".repeat(2_000_000);`);
    expect(outcome).toMatchObject({
      failure_kind: "output_too_large",
      error: { message: expect.stringContaining("2000002 bytes") },
    });
  });

  it("by a payload its schema refuses", async () => {
    const module = `import { z } from "zod"; import { image, sandbox, task } from "@helmr/sdk";
      export const main = task({ id: "main", sandbox: sandbox("b").image(image("b").from("node:24")),
        payload: z.object({ name: z.string() }), run: async (payload) => payload.name });`;
    const zod = join(import.meta.dirname, "../../../node_modules/zod/index.js");
    const files = { "task.ts": module.replace('"zod"', JSON.stringify(zod)) };
    const invalid = await runTask(folder, files, { payload_json: '{"name":5}' });
    expect(invalid.outcome).toMatchObject({
      failure_kind: "payload_invalid",
      error: { message: expect.stringContaining("name") },
    });
    const valid = await runTask(folder, files, { payload_json: '{"name":"Ada"}' });
    expect(valid.outcome).toEqual({ status: "succeeded", output_json: '"Ada"' });
  });
});

describe("a task module", () => {
  it.each([
    [
      "does not exist",
      {},
      { task: { id: "main", file_path: "none.ts", export_name: "main" } },
      "task_not_found",
      /no file none\.ts/,
    ],
    [
      "lacks the export",
      { "task.ts": taskModule("") },
      { task: { id: "main", file_path: "task.ts", export_name: "other" } },
      "task_not_found",
      /export "other"/,
    ],
    [
      "has another id there",
      { "task.ts": taskModule("") },
      { task: { id: "wrong", file_path: "task.ts", export_name: "main" } },
      "task_not_found",
      /is the task "main"/,
    ],
    [
      "does not parse",
      { "task.ts": "export const x = = 1;\n" },
      {},
      "task_parse_failed",
      /Expression expected/,
    ],
    [
      "throws at import",
      { "task.ts": `throw new RangeError("at import");` },
      {},
      "task_parse_failed",
      /at import/,
    ],
    ["misses an import", { "task.ts": `import "./nowhere.ts";` }, {}, "task_parse_failed", /nowhere/],
    [
      "uses an alias of its tsconfig, or of one that this extends",
      {
        "tsconfig.json": '{ // as tsc takes it\n "extends": "./tsconfig.base.json", }',
        "tsconfig.base.json":
          '{ "compilerOptions": { "paths": { "lib-of-ours": ["./src/lib.ts"], "shared/*": ["./src/*"] } } }',
        "task.ts": `import "shared/lib.ts";`,
      },
      {},
      "task_parse_failed",
      /"shared\/lib\.ts" is a path alias: tsconfig\.json declares "shared\/\*"/,
    ],
    ["uses a path alias", { "task.ts": `import "@/lib";` }, {}, "task_parse_failed", /tsconfig "paths"/],
  ])("that %s fails with the kind of it", async (_, files, changes, kind, message) => {
    const { outcome } = await runTask(folder, files, changes);
    expect(outcome).toMatchObject({
      status: "failed",
      failure_kind: kind,
      error: { message: expect.stringMatching(message) },
    });
  });

  it("shows where plain JavaScript does not parse", async () => {
    const { outcome } = await runTask(folder, {
      "task.ts": taskModule("", `import { x } from "./broken.mjs"; void x;`),
      "broken.mjs": "export const x = 1;\nexport const y = = 2;\n",
    });
    expect(outcome).toMatchObject({
      error: { stack: expect.stringMatching(/broken\.mjs:2\nexport const y = = 2;/) },
    });
  });

  it("may use enums, CommonJS and imports without extension, with the right lines in stacks", async () => {
    const { outcome } = await runTask(folder, {
      "task.ts": taskModule(
        `return [Colour.Green, half(10), four, legacy.five, new Point(6).x, index, whereThrown().split("\\n")[1].trim()];`,
        `import { Colour, Point, whereThrown } from "./lib/colour";
         import { half } from "./lib/half.js";
         import four from "./lib/four.cts";
         import legacy from "./legacy/five.ts";
         import { index } from "./lib";`,
      ),
      "lib/colour.ts": `export enum Colour { Red, Green }
export class Point { constructor(public readonly x: number) {} }
interface Gone { a: string }

export const whereThrown = (): string => new Error("here").stack ?? "";
`,
      "lib/half.ts": "export const half = (n: number): number => n / 2;",
      "lib/four.cts": "enum N { Four = 4 } module.exports = N.Four;",
      "lib/index.ts": "export const index: string = 'index';",
      "legacy/package.json": "{}",
      "legacy/five.ts": "namespace A { export const five: number = 5; } module.exports = { five: A.five };",
    });
    expect(outcome).toMatchObject({ status: "succeeded" });
    const values = JSON.parse((outcome as { output_json: string }).output_json) as unknown[];
    expect(values.slice(0, 6)).toEqual([1, 5, 4, 5, 6, "index"]);
    expect(values[6]).toMatch(/colour\.ts:5:\d+/);
  });
});

describe("the end of a run", () => {
  it("leaves no process of the task behind", async () => {
    const marker = `helmr-test-${process.pid}`;
    const { outcome } = await runTask(folder, {
      "task.ts": taskModule(`
        const { spawn } = await import("node:child_process");
        spawn("sleep", ["600"], { stdio: "inherit", argv0: "${marker}" });
        spawn("sleep", ["600"], { stdio: "ignore", detached: true, argv0: "${marker}" }).unref();
        return 1;`),
    });
    expect(outcome).toEqual({ status: "succeeded", output_json: "1" });
    const left = readdirSync("/proc").filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith(marker);
      } catch {
        return false;
      }
    });
    for (const pid of left) process.kill(Number(pid), "SIGKILL");
    // The detached one is a child of the task process when it ends: found by its parent only until then.
    expect(left.length).toBeLessThanOrEqual(1);
  });

  it("removes secret files from the workspace, but not what the task wrote", async () => {
    const { outcome } = await runTask(
      folder,
      {
        "task.ts": taskModule(`const fs = await import("node:fs");
          fs.writeFileSync("kept/mine", "x");
          return [fs.readFileSync("kept/token", "utf8"), (fs.statSync("kept/token").mode & 0o777).toString(8), fs.readFileSync("gone/deep/key", "utf8")];`),
      },
      {
        secrets: [
          { kind: "file", name: "token", path: "kept/token", mode: 0o400, value: "abc" },
          { kind: "dir", name: "key", path: join(folder.workspace, "gone/deep"), mode: 0o440, value: "def" },
        ],
      },
    );
    expect(outcome).toEqual({ status: "succeeded", output_json: '["abc","400","def"]' });
    expect(readdirSync(join(folder.workspace, "kept"))).toEqual(["mine"]);
    expect(existsSync(join(folder.workspace, "gone"))).toBe(false);
  });

  it("refuses a variable whose value has a NUL character, without showing the value", async () => {
    const { outcome } = await runTask(
      folder,
      { "task.ts": taskModule("") },
      { secrets: [{ kind: "env", name: "token", env: "NODE_TOKEN", value: "abc-value\0x" }] },
    );
    expect(outcome).toEqual(
      failure({ message: expect.stringMatching(/secret "token" cannot be the variable NODE_TOKEN/) }),
    );
    expect(JSON.stringify(outcome)).not.toContain("abc-value");
  });

  it("names a secret that cannot be written, without its value", async () => {
    const { outcome } = await runTask(
      folder,
      { "task.ts": taskModule("") },
      {
        secrets: [{ kind: "file", name: "token", path: "/proc/nowhere/x", mode: 0o400, value: "abc-value" }],
      },
    );
    expect(outcome).toEqual(
      failure({ message: expect.stringMatching(/secret "token" cannot be written to \/proc/) }),
    );
    expect(JSON.stringify(outcome)).not.toContain("abc-value");
  });
});

describe("cancel", () => {
  it.each([
    [
      "returns",
      `await new Promise((r) => ctx.signal.addEventListener("abort", r, { once: true })); return ctx.signal.reason.message;`,
    ],
    ["throws", `while (true) { ctx.signal.throwIfAborted(); await new Promise((r) => setTimeout(r, 5)); }`],
    [
      "leaves a rejection",
      `ctx.signal.addEventListener("abort", () => void Promise.reject(ctx.signal.reason)); await new Promise(() => {});`,
    ],
    ["exits", `ctx.signal.addEventListener("abort", () => process.exit(9)); await new Promise(() => {});`],
  ])("aborts the signal; the run is cancelled when the task %s", async (_, body) => {
    const { outcome } = await runTask(folder, { "task.ts": taskModule(body) }, {}, async (agent) => {
      await agent.wait("run.started");
      await agent.link.send({ type: "run.cancel", reason: "not needed", grace_ms: 1000 });
    });
    expect(outcome).toEqual({ status: "cancelled", reason: "not needed" });
  });
});
