/**
 * The published package: complete, free of Node and of TypeScript imports, usable from every runtime, with types that
 * work outside this repository.
 */
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { createContext, runInContext } from "node:vm";
import { buildSdkPackage, type SdkPackage } from "@helmr/sdk/package";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sdkVersion } from "../src/version.ts";
import { type Answer, json, ScriptedServer, stream } from "../test-support/scripted-server.ts";
import { finishedRun, frame, wireRun, wireSession } from "../test-support/wire-objects.ts";

const run = promisify(execFile);
const require = createRequire(import.meta.url);
const server = new ScriptedServer();
let folder: string;
let packageDir: string;
let built: SdkPackage;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdk-package-"));
  process.env.XDG_CACHE_HOME = join(folder, "cache");
  packageDir = join(folder, "app", "node_modules", "@helmr", "sdk");
  built = await buildSdkPackage(packageDir);
  await writeFile(join(folder, "app", "package.json"), '{ "type": "module" }');
  await symlink(dirname(require.resolve("zod/package.json")), join(folder, "app", "node_modules", "zod"));
  await server.start();
});
afterAll(async () => {
  delete process.env.XDG_CACHE_HOME;
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

/** What `client` (below) asks for. */
const script: readonly Answer[] = [
  json({ session: wireSession, run: wireRun }, 201),
  stream([
    frame(1, "log.stdout", { bytes: 1, observed_seq: 1 }),
    frame(2, "run.completed", { exit_code: 0 }),
  ]),
  json(finishedRun),
  json({ stdout_base64: "aGk=", stderr_base64: "", cursor: "1", truncated: false }),
];
const client = `
  const client = new HelmrClient({ url, apiKey: "k" });
  const { run } = await client.sessions.start("hello", { a: 1 }, { idempotencyKey: "once" });
  const types = [];
  for await (const event of client.runs.events.subscribe(run)) types.push(event.type);
  const { output } = await client.runs.wait(run);
  const { stdout } = await client.runs.logs.retrieve(run);
  const answer = JSON.stringify([types, output, stdout]);
`;
const expectedAnswer = '[["log","task_result"],{"greeting":"hi"},"hi"]';

async function files(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Programs of this name on the PATH. */
async function installed(name: string): Promise<boolean> {
  const dirs = (process.env.PATH ?? "").split(delimiter);
  const found = await Promise.all(dirs.map((dir) => readdir(dir).catch(() => [])));
  return found.flat().includes(name);
}

describe("the package", () => {
  it("has the version of package.json everywhere", async () => {
    const source = JSON.parse(
      await readFile(require.resolve("@helmr/sdk").replace(/src.index\.ts$/, "package.json"), "utf8"),
    );
    const manifest = JSON.parse(await readFile(join(packageDir, "package.json"), "utf8"));
    expect([built.version, manifest.version, sdkVersion]).toEqual([
      source.version,
      source.version,
      source.version,
    ]);
    expect(manifest.dependencies).toBeUndefined();
  });

  it("imports nothing but its own JavaScript files", async () => {
    const all = await files(join(packageDir, "lib"));
    expect(all.filter((path) => !path.endsWith(".js") && !path.endsWith(".d.ts"))).toEqual([]);
    for (const path of all) {
      const text = await readFile(path, "utf8");
      for (const [, from, dynamic] of text.matchAll(/\bfrom "([^"\n]+)";$|\bimport\("([^"\n]+)"\)/gm)) {
        const target = from ?? dynamic;
        expect(target, path).toMatch(/^\.{1,2}\/.+\.js$/);
        const file = join(dirname(path), target ?? "");
        expect(all).toContain(path.endsWith(".d.ts") ? file.replace(/\.js$/, ".d.ts") : file);
      }
      if (path.endsWith(".js")) expect(text).not.toMatch(/\brequire\(|\bBuffer\b|__dirname/);
    }
  });

  it("is built once per content, also by two at a time, and replaces what was there", async () => {
    const other = join(folder, "other");
    await mkdir(other, { recursive: true });
    await writeFile(join(other, "stale.txt"), "");
    const results = await Promise.all([buildSdkPackage(other), buildSdkPackage(join(folder, "third"))]);
    expect(results).toEqual([built, built]);
    expect(await readdir(other)).toEqual(["LICENSE", "README.md", "lib", "package.json"]);
    expect(await readdir(join(folder, "cache", "helmr", "sdk-package"))).toEqual([built.contentHash]);
  });
});

describe("the client", () => {
  it("runs with web globals alone", async () => {
    const entry = `import { HelmrClient } from "@helmr/sdk"; globalThis.main = async (url) => { ${client} return answer; };`;
    const { outputFiles } = await build({
      stdin: { contents: entry, resolveDir: join(folder, "app") },
      bundle: true,
      write: false,
      format: "iife",
      platform: "browser",
      logLevel: "silent",
    });
    const { AbortController, URL, URLSearchParams, TextEncoder, TextDecoder, atob, crypto, fetch } =
      globalThis;
    const web = { AbortController, URL, URLSearchParams, TextEncoder, TextDecoder, atob, crypto, fetch };
    const warnings: string[] = [];
    const context = createContext({
      ...web,
      setTimeout,
      clearTimeout,
      structuredClone,
      console: { warn: (text: string) => warnings.push(text) },
    });
    runInContext(outputFiles[0]?.text ?? "", context);
    server.script(...script);
    expect(await (context as { main(url: string): Promise<string> }).main(server.url)).toBe(expectedAnswer);
    expect(warnings).toHaveLength(1);
  });

  it.for([
    { name: "node", args: [] },
    { name: "bun", args: ["run"] },
    { name: "deno", args: ["run", "--allow-net", "--allow-env"] },
  ])("runs under $name, where it is installed", async ({ name, args }, { skip }) => {
    if (!(await installed(name))) skip(`${name} is not on the PATH`);
    const file = join(folder, "app", `${name}.mjs`);
    await writeFile(
      file,
      `import { HelmrClient } from "@helmr/sdk"; const url = "${server.url}"; ${client} console.log(answer);`,
    );
    server.script(...script);
    const { stdout } = await run(name, [...args, file], { timeout: 60_000, cwd: join(folder, "app") });
    expect(stdout.trim()).toBe(expectedAnswer);
  });
});

describe("authoring with the package", () => {
  it("is understood by another copy of the SDK", async () => {
    const copy = join(folder, "copy");
    await cp(packageDir, copy, { recursive: true });
    const file = join(folder, "app", "author.mjs");
    await writeFile(
      file,
      `import { image, queue, sandbox, task } from "@helmr/sdk";
       import { catalogTaskEntry, isTask, queueDefinitions, taskRunner } from ${JSON.stringify(join(copy, "lib", "internal.js"))};
       const made = task({ id: "t", sandbox: sandbox("s").image(image("i").from("x")), queue: queue({ id: "q" }), run: () => 42 });
       const entry = catalogTaskEntry(made, "t.ts", "made");
       console.log(JSON.stringify([isTask(made), entry.queue, queueDefinitions().length, await taskRunner(made)(undefined, {})]));`,
    );
    const { stdout } = await run(process.execPath, [file], { timeout: 60_000 });
    expect(stdout.trim()).toBe('[true,"q",1,42]');
  });

  it("has types that flow outside this repository", async () => {
    const app = join(folder, "app");
    await writeFile(
      join(app, "app.ts"),
      `import { HelmrClient, image, sandbox, task } from "@helmr/sdk";
       import { taskDefinition } from "@helmr/sdk/internal";
       import * as z from "zod";
       const box = sandbox("s").image(image("i").from("x"));
       export const audit = task({ id: "audit", sandbox: box, payload: z.object({ n: z.number() }), run: async ({ n }, ctx) => [n, ctx.run.id] as const });
       const { run } = await new HelmrClient().sessions.startAndWait(audit, { n: 1 });
       export const output: readonly [number, string] | undefined = run.output;
       export const hasPayload: boolean = taskDefinition(audit).hasPayload;
       // @ts-expect-error wrong payload
       await new HelmrClient().sessions.start(audit, { n: "1" });`,
    );
    await expectToCompile("app.ts");
  });

  it("compiles the examples of docs/sdk.md, docs/waits.md, docs/schedules.md and the README", async () => {
    const documents = [
      "../../../docs/sdk.md",
      "../../../docs/waits.md",
      "../../../docs/schedules.md",
      "../README.md",
    ];
    const texts = await Promise.all(
      documents.map((path) => readFile(new URL(path, import.meta.url), "utf8")),
    );
    const examples = texts
      .flatMap((text) => [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)])
      .map(([, code]) => code ?? "");
    expect(examples.length).toBeGreaterThan(5);
    await Promise.all(
      examples.map((code, index) => writeFile(join(folder, "app", `example-${index}.ts`), code)),
    );
    await expectToCompile(...examples.map((_, index) => `example-${index}.ts`));
  });
});

/** Compiles files of the application outside this repository, declarations of the package included. */
async function expectToCompile(...names: string[]): Promise<void> {
  const tsc = join(dirname(require.resolve("typescript/package.json")), "bin", "tsc");
  const options = [
    "--strict",
    "--module",
    "nodenext",
    "--target",
    "es2022",
    "--lib",
    "es2022,dom",
    "--noEmit",
  ];
  const args = [tsc, ...options, "--types", "", "--skipLibCheck", "false", ...names];
  const compiled = run(process.execPath, args, { cwd: join(folder, "app"), timeout: 60_000 });
  const output = await compiled.then(
    ({ stdout }) => stdout,
    (error: { stdout?: string }) => error.stdout ?? String(error),
  );
  expect(output).toBe("");
}
