import { rm } from "node:fs/promises";
import { catalog } from "@helmr/api";
import type { GuestMessage } from "@helmr/guest-protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runIndexer } from "../src/agent/index-run.ts";
import { TestAgent, type TestFolder, testFolder, writeFiles } from "./harness.ts";

let folder: TestFolder;
beforeAll(async () => {
  folder = await testFolder();
}, 60_000);
afterAll(() => folder.remove());

const config = `import { defineConfig } from "@helmr/sdk";
export default defineConfig({ project: "demo", dirs: ["tasks"] });`;
const sdk = `import { image, queue, sandbox, task } from "@helmr/sdk";`;
const box = `export const box = sandbox("box").image(image("box").from("node:24"));`;
const hello = (id: string, rest = "") =>
  `${sdk}\n${box}\nexport const hello = task({ id: "${id}", sandbox: box, run: async () => 1, ${rest} });`;

/** Index a source tree of exactly these files. */
async function index(files: Record<string, string>) {
  await rm(folder.source, { recursive: true });
  await writeFiles(folder.source, { "package.json": '{ "type": "module" }', ...files });
  const agent = new TestAgent(folder, { HELMR_TASK_HOST: "0" });
  try {
    await agent.wait("ready");
    await agent.link.send({ type: "index.start", source_root: folder.source });
    const result = await Promise.race([agent.wait("index.finished"), agent.wait("index.failed")]);
    return { result, stdout: agent.output("stdout").toString() };
  } finally {
    await agent.close();
  }
}

describe("indexing", () => {
  it("finds tasks, queues and sandboxes, and skips what is ignored", async () => {
    const { result, stdout } = await index({
      "helmr.config.ts": config,
      "tasks/hello.ts": `${sdk}
        ${box}
        export const slow = queue({ id: "slow", concurrencyLimit: 2 });
        export const hello = task({ id: "hello", sandbox: box, queue: slow, ttl: "10m", maxDuration: 60, run: async () => 1 });
        export const named = task({ id: "named", sandbox: box, queue: "slow", run: async () => 1,
          secrets: [{ name: "TOKEN", env: "TOKEN" }, { name: "KEY", file: "/run/key", mode: "0400" }], retry: { maxAttempts: 3 } });
        console.log("loaded");`,
      "tasks/deep/other.mts": `${sdk} enum E { A = "spare" } export const spare = sandbox(E.A).image(image("i").from("debian")).network({ internet: false }).resources({ cpu: 1, memory: "512Mi" });
        export const other = task({ id: "other", sandbox: spare, run: async () => 1 });`,
      "tasks/index.js": `export * from "./hello.ts";`,
      "tasks/hello.test.ts": "throw new Error('not to be loaded');",
      "tasks/_draft.ts": "throw new Error('not to be loaded');",
      "tasks/types.d.ts": "throw new Error('not to be loaded');",
      "tasks/node_modules/x/index.js": "throw new Error('not to be loaded');",
    });
    if (result.type !== "index.finished") throw new Error(result.problems.join("\n"));
    const found = catalog.parse(JSON.parse(result.catalog_json));
    expect(found.project).toBe("demo");
    expect(
      found.tasks.map((task) => [task.id, task.file_path, task.export_name, task.sandbox_id, task.queue]),
    ).toEqual([
      ["hello", "tasks/hello.ts", "hello", "box", "slow"],
      ["named", "tasks/hello.ts", "named", "box", "slow"],
      ["other", "tasks/deep/other.mts", "other", "spare", "task/other"],
    ]);
    expect(found.queues).toEqual([
      { id: "slow", concurrency_limit: 2 },
      { id: "task/other", concurrency_limit: null },
    ]);
    expect(
      found.sandboxes.map((sandbox) => [sandbox.id, sandbox.resources.memory_mib, sandbox.network.internet]),
    ).toEqual([
      ["box", 2048, true],
      ["spare", 512, false],
    ]);
    expect(stdout).toBe("loaded\n");
  });

  const other = (text: string) => ({ "tasks/hello.ts": hello("hello"), "tasks/other.ts": text });
  it.each<[string, Record<string, string>, string, RegExp[]]>([
    [
      "a missing config",
      { "tasks/hello.ts": hello("hello") },
      "missing_config",
      [/^helmr\.config\.ts is missing/],
    ],
    [
      "a config that is none",
      { "helmr.config.ts": "export default {};" },
      "invalid_definition",
      [/helmr\.config\.ts.*defineConfig/],
    ],
    [
      "a config that throws",
      { "helmr.config.ts": config.replace(`["tasks"]`, "[]") },
      "task_parse_failed",
      [/helmr\.config\.ts: .*dirs/],
    ],
    [
      "a missing folder",
      { "helmr.config.ts": config },
      "invalid_definition",
      [/folder "tasks" does not exist/],
    ],
    [
      "no tasks",
      { "helmr.config.ts": config, "tasks/empty.ts": "export {};" },
      "task_not_found",
      [/No task was found/],
    ],
    [
      "a default-exported task",
      {
        "helmr.config.ts": config,
        ...other(
          `${hello("my-job")} export default task({ id: "my-job", sandbox: box, run: async () => 1 });`,
        ),
      },
      "invalid_definition",
      [/^tasks\/other\.ts: the default export is a task; export it by name \(export const myJob/],
    ],
    [
      "duplicate ids",
      { "helmr.config.ts": config, ...other(hello("hello")) },
      "duplicate_task_id",
      [
        /^tasks\/other\.ts: export "hello": id: the task id "hello" is used by tasks\/hello\.ts: export "hello"/,
      ],
    ],
    [
      "conflicting queues",
      {
        "helmr.config.ts": config,
        ...other(`${sdk} queue({ id: "q", concurrencyLimit: 1 }); queue({ id: "q" });`),
      },
      "invalid_definition",
      [/queue\("q"\)/],
    ],
    [
      "conflicting queues, and not once more for the task that uses one",
      {
        "helmr.config.ts": config,
        ...other(`${sdk} queue({ id: "q", concurrencyLimit: 1 }); queue({ id: "q" });`),
        "tasks/hello.ts": hello("hello", `queue: "q"`),
      },
      "invalid_definition",
      [/queue\("q"\)/],
    ],
    [
      "conflicting sandboxes",
      {
        "helmr.config.ts": config,
        ...other(`${sdk} export const b = sandbox("box").image(image("box").from("debian"));`),
      },
      "invalid_definition",
      [
        /^tasks\/other\.ts: export "b": sandbox: the sandbox "box" is defined differently by tasks\/hello\.ts/,
      ],
    ],
    [
      "an unknown queue",
      { "helmr.config.ts": config, "tasks/hello.ts": hello("hello", `queue: "nope"`) },
      "invalid_definition",
      [/^tasks\/hello\.ts: export "hello": queue: no queue "nope"/],
    ],
    [
      "an allow list",
      {
        "helmr.config.ts": config,
        "tasks/hello.ts": hello("hello").replace(
          `from("node:24"))`,
          `from("node:24")).network({ internet: { allow: ["a.b"] } })`,
        ),
      },
      "invalid_definition",
      [/^tasks\/hello\.ts: export "box": .*allow/, /^tasks\/hello\.ts: export "hello": .*allow/],
    ],
    [
      "a reserved mount path",
      {
        "helmr.config.ts": config,
        "tasks/hello.ts": hello("hello").replace(`from("node:24"))`, `from("node:24")).workspace("/proc/x")`),
      },
      "task_parse_failed",
      [/^tasks\/hello\.ts: TypeError: sandbox\("box"\)\.workspace.*\/proc[\s\S]*tasks\/hello\.ts:2:/],
    ],
    [
      "fractional CPUs",
      {
        "helmr.config.ts": config,
        "tasks/hello.ts": hello("hello").replace(
          `from("node:24"))`,
          `from("node:24")).resources({ cpu: 1.5 })`,
        ),
      },
      "task_parse_failed",
      [/resources\.cpu/],
    ],
    [
      "a module that throws, and one with a syntax error",
      {
        "helmr.config.ts": config,
        "tasks/a.ts": `\nfunction deep() { throw new Error("boom"); }\ndeep();`,
        "tasks/b.ts": "export const x = 1;\nexport const y = = 2;",
      },
      "task_parse_failed",
      [
        /^tasks\/a\.ts: Error: boom\n\s+at deep \(tasks\/a\.ts:2:/,
        /^tasks\/b\.ts: tasks\/b\.ts:2\n[\s\S]*Expression expected/,
      ],
    ],
    [
      "a module that ends the process",
      { "helmr.config.ts": config, "tasks/a.ts": "process.exit(4);" },
      "task_parse_failed",
      [/^tasks\/a\.ts: .*exited with code 4/],
    ],
    [
      "a late exception",
      {
        "helmr.config.ts": config,
        "tasks/a.ts": `setTimeout(() => { throw new Error("late"); }); await new Promise((r) => setTimeout(r, 3000));`,
      },
      "task_parse_failed",
      [/^tasks\/a\.ts: Error: late/],
    ],
  ])("reports %s", async (_, files, kind, problems) => {
    const { result } = await index(files);
    expect(result).toMatchObject({ type: "index.failed", failure_kind: kind });
    if (result.type === "index.failed")
      expect(result.problems).toEqual(problems.map((p) => expect.stringMatching(p)));
  });

  it("names the module that never ends", async () => {
    await rm(folder.source, { recursive: true });
    await writeFiles(folder.source, { "helmr.config.ts": config, "tasks/a.ts": "for (;;) {}" });
    const sent: GuestMessage[] = [];
    await runIndexer({
      sourceRoot: folder.source,
      helmrFolder: folder.bundle,
      env: { PATH: process.env.PATH ?? "" },
      user: undefined,
      send: async (message) => void sent.push(message),
      moduleLimitMs: 3_000,
    });
    expect(sent).toEqual([
      {
        type: "index.failed",
        failure_kind: "task_parse_failed",
        problems: ["tasks/a.ts: loading took longer than 3 s; do no work at import."],
      },
    ]);
  });
});
