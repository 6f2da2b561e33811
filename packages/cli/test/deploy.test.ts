/** `helmr init` and `helmr deploy` against a scripted server. */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { extract } from "tar-stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { helmr } from "./support/helmr.ts";
import { type Answer, type Asked, scriptedServer, stream } from "./support/scripted-server.ts";
import { deployment, event, ids, task } from "./support/wire.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-deploy-test-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const manifest = {
  name: "x",
  type: "module",
  packageManager: "npm@11.0.0",
  dependencies: { "@helmr/sdk": "*" },
};
const config = `import { defineConfig } from "@helmr/sdk";\nexport default defineConfig({ project: "default", dirs: ["tasks"] });\n`;

async function project(files: Readonly<Record<string, string | undefined>> = {}): Promise<string> {
  const all = {
    "package.json": JSON.stringify(manifest),
    "helmr.config.ts": config,
    "tasks/hello.ts": "export {};\n",
    ...files,
  };
  for (const [path, text] of Object.entries(all)) {
    if (text === undefined) continue;
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
  return dir;
}

const base = `/deployments/${ids.deployment}`;
const built = deployment({ status: "deployed", tasks: [task] });
const routes = (fields: Record<string, Answer> = {}): Record<string, Answer> => ({
  "POST /deployments": { status: 201, json: deployment() },
  [`GET ${base}`]: { json: built },
  [`GET ${base}/events`]: stream("deployment_event", [
    { id: 1, data: event(1, "deployment.queued", { message: "waiting for a worker" }) },
    { id: 2, data: event(2, "deployment.deployed", { message: "built" }) },
  ]),
  [`POST ${base}/promote`]: { json: deployment({ status: "deployed", tasks: null }) },
  ...fields,
});

async function uploaded(asked: Asked | undefined) {
  const body = asked?.body ?? Buffer.alloc(0);
  const form = await new Response(new Uint8Array(body), {
    headers: { "content-type": asked?.headers["content-type"] ?? "" },
  }).formData();
  const file = form.get("deployment_source");
  if (!(file instanceof File)) throw new Error("no deployment_source");
  const tar = Buffer.from(await file.arrayBuffer());
  const names: string[] = [];
  const entries = extract();
  Readable.from([tar]).pipe(entries);
  for await (const entry of entries) {
    names.push(entry.header.name);
    entry.resume();
  }
  return {
    metadata: JSON.parse(String(form.get("metadata"))),
    fields: [...form.keys()],
    fileName: file.name,
    tar,
    names,
  };
}

describe("init", () => {
  it("writes a project that deploys as it is, with the SDK where editors look for it", async () => {
    const target = join(dir, "My Project");
    const made = await helmr(["init", target, "--json"]);
    expect(made.exitCode, made.err).toBe(0);
    expect(JSON.parse(made.out)).toMatchObject({
      dir: target,
      files: expect.arrayContaining(["tasks/hello.ts"]),
    });
    expect(JSON.parse(await readFile(join(target, "package.json"), "utf8"))).toMatchObject({
      name: "my-project",
    });
    expect((await stat(join(target, "node_modules/@helmr/sdk/package.json"))).isFile()).toBe(true);
    await using server = await scriptedServer(routes());
    const deployed = await helmr(["deploy", target], { url: server.url });
    expect(deployed.exitCode, deployed.err).toBe(0);
    const { names } = await uploaded(server.asked[0]);
    expect(names).toEqual([
      ".gitignore",
      "helmr.config.ts",
      "package.json",
      "tasks/",
      "tasks/hello.ts",
      "tsconfig.json",
    ]);
  });

  it("says the next command as it has to be typed", async () => {
    const spaced = await helmr(["init", "it's mine"], { cwd: dir });
    expect(spaced.err).toContain("helmr deploy 'it'\\''s mine'\n");
    const plain = await helmr(["init", "größe"], { cwd: dir });
    expect(plain.err).toContain("helmr deploy größe\n");
  });

  it.runIf(process.platform === "linux")("ends where no folder can be made", async () => {
    const refused = await helmr(["init", "/proc/helmr-project"]);
    expect(refused.exitCode).toBe(2);
    expect(refused.err).toMatch(/the folder \/proc\/helmr-project cannot be made: ENOENT/);
  });

  it("never overwrites without --force", async () => {
    await writeFile(join(dir, "package.json"), "mine");
    const refused = await helmr(["init", dir]);
    expect(refused.exitCode).toBe(2);
    expect(refused.err).toMatch(/package\.json is there already[\s\S]*--force/);
    expect(await readFile(join(dir, "package.json"), "utf8")).toBe("mine");
    expect(await readdir(dir)).toEqual(["package.json"]);
    expect((await helmr(["init", dir, "--force"])).exitCode).toBe(0);
    expect(await readFile(join(dir, "package.json"), "utf8")).not.toBe("mine");
  });
});

describe("deploy", () => {
  it("uploads metadata first and the tar it hashed, watches the build, promotes", async () => {
    await using server = await scriptedServer(routes());
    const files = {
      ".env": "SECRET=1",
      "node_modules/x/i.js": "",
      "tasks/hello.test.ts": "",
      "tasks/_draft.ts": "",
    };
    const result = await helmr(["deploy", await project(files)], { url: server.url });
    expect(result.exitCode, result.err).toBe(0);
    const { metadata, fields, fileName, tar, names } = await uploaded(server.asked[0]);
    expect(fields).toEqual(["metadata", "deployment_source"]);
    expect(fileName).toBe("deployment-source.tar");
    expect(metadata).toEqual({
      project_id: "",
      content_hash: `sha256:${createHash("sha256").update(tar).digest("hex")}`,
      api_version: "2026-06-06",
      cli_version: "0.1.0",
      bundle_format_version: 2,
      worker_protocol_version: "helmr.worker.v1",
    });
    expect(names).toEqual(["helmr.config.ts", "package.json", "tasks/", "tasks/hello.ts"]);
    expect(result.err).toMatch(
      /uploading 3 files[\s\S]*waiting for a worker[\s\S]*built[\s\S]*20260606\.1 is current/,
    );
    expect(result.out).toBe("hello\ttask/hello\ttasks/hello.ts\thello\n");
    const promotion = server.asked.at(-1);
    expect(promotion?.path).toBe(`${base}/promote`);
    expect(JSON.parse(String(promotion?.body))).toEqual({ reason: "deploy" });
  });

  it("says what is wrong with TMPDIR", async () => {
    const gone = join(dir, "gone");
    const result = await helmr(["deploy", await project()], {
      url: "http://127.0.0.1:9",
      env: { TMPDIR: gone },
    });
    expect(result.exitCode).toBe(2);
    expect(result.err).toMatch(/no temporary folder can be made in .*gone: ENOENT[\s\S]*hint: set TMPDIR/);
  });

  it.each([
    ["--skip-promotion", built],
    ["--detach", deployment()],
  ])("%s --json prints the deployment and promotes nothing", async (flag, expected) => {
    await using server = await scriptedServer(routes());
    const result = await helmr(["deploy", await project(), flag, "--json"], { url: server.url });
    expect(result.exitCode, result.err).toBe(0);
    expect(JSON.parse(result.out)).toEqual(expected);
    expect(server.asked.some((asked) => asked.path.endsWith("/promote"))).toBe(false);
  });

  it("a failed build shows the step, the message and the output's tail, and exits 1", async () => {
    const error = {
      message: "run npm test exited with 7",
      step: "image box: run npm test",
      output_tail: "line 1\nline \u001b[31m2",
    };
    await using server = await scriptedServer(
      routes({
        [`GET ${base}`]: { json: deployment({ status: "failed", error }) },
        [`GET ${base}/events`]: stream("deployment_event", [
          { id: 1, data: event(1, "deployment.failed", { severity: "error", message: "failed" }) },
        ]),
      }),
    );
    const result = await helmr(["deploy", await project()], { url: server.url });
    expect(result.exitCode).toBe(1);
    expect(result.err).toContain("failed at image box: run npm test");
    expect(result.err).toContain("run npm test exited with 7\n  | line 1\n  | line 2\n");
    expect(server.asked.some((asked) => asked.path.endsWith("/promote"))).toBe(false);
  });

  it("with a login goes to the project of helmr.config.ts, unless another one is named", async () => {
    const under = (name: string) =>
      Object.fromEntries(
        Object.entries(routes()).map(([route, answer]) => [
          route.replace(" /", ` /projects/${name}/environments/staging/`),
          answer,
        ]),
      );
    await using server = await scriptedServer({ ...under("default"), ...under("other") });
    const config = join(dir, "config");
    await mkdir(join(config, "helmr"), { recursive: true });
    const hosts = { [server.url]: { session_token: "t".repeat(43) } };
    await writeFile(
      join(config, "helmr", "credentials.json"),
      JSON.stringify({ version: 1, default_url: server.url, hosts }),
    );
    const options = { env: { XDG_CONFIG_HOME: config } };
    const source = await project();
    const unnamed = await helmr(["deploy", source], options);
    expect([unnamed.exitCode, unnamed.err]).toEqual([2, expect.stringMatching(/HELMR_ENVIRONMENT/)]);
    for (const args of [[], ["--project", "other"]]) {
      const result = await helmr(["deploy", source, "--env", "staging", ...args], options);
      expect(result.exitCode, result.err).toBe(0);
    }
    const uploads = server.asked.filter(({ path }) => path.endsWith("/deployments"));
    expect(uploads.map(({ path }) => path.split("/")[2])).toEqual(["default", "other"]);
    expect(uploads[0]?.headers.authorization).toBe(`Bearer ${"t".repeat(43)}`);
  });

  it("gives up waiting after --timeout with 124", async () => {
    await using server = await scriptedServer(
      routes({
        [`GET ${base}`]: { json: deployment({ status: "building" }) },
        [`GET ${base}/events`]: (_asked, response) => {
          response.writeHead(200, { "content-type": "text/event-stream" });
          response.flushHeaders();
        },
      }),
    );
    const result = await helmr(["deploy", await project(), "--timeout", "300ms"], { url: server.url });
    expect(result.exitCode).toBe(124);
    expect(result.err).toContain(`helmr deployment promote ${ids.deployment}`);
  });

  it("--env-file names the server and is not uploaded", async () => {
    await using server = await scriptedServer(routes());
    const root = await project({
      "production.env": `HELMR_API_URL=${server.url}\nHELMR_API_KEY=from-file\n`,
      ".env.x": "",
    });
    await writeFile(join(root, ".env.production"), await readFile(join(root, "production.env")));
    await rm(join(root, "production.env"));
    const result = await helmr(["deploy", root, "--env-file", join(root, ".env.production")]);
    expect(result.exitCode, result.err).toBe(0);
    expect(server.asked[0]?.headers.authorization).toBe("Bearer from-file");
    expect((await uploaded(server.asked[0])).names.some((name) => name.includes("env"))).toBe(false);
  });

  it.each<[string, Record<string, string | undefined>, RegExp]>([
    ["no helmr.config.ts", { "helmr.config.ts": undefined }, /no helmr\.config\.ts/],
    ["no package.json", { "package.json": undefined }, /package\.json/],
    ["no SDK", { "package.json": JSON.stringify({ ...manifest, dependencies: {} }) }, /@helmr\/sdk/],
    [
      "another package manager",
      { "package.json": JSON.stringify({ ...manifest, packageManager: "pnpm@9.0.0" }) },
      /pnpm@9[\s\S]*npm or bun/,
    ],
    [
      "a syntax error in the config",
      { "helmr.config.ts": "export const = 1;" },
      /helmr\.config\.ts:1[\s\S]*SyntaxError/,
    ],
    ["a config that throws", { "helmr.config.ts": 'throw new Error("thrown");' }, /thrown/],
    ["a config of another kind", { "helmr.config.ts": "export default 7;" }, /does not default-export/],
    ["a config that ends the process", { "helmr.config.ts": "process.exit(0);" }, /ended the process/],
    [
      "an empty field, without frames that are not the author's",
      { "helmr.config.ts": config.replace('"default"', '""') },
      /^error: helmr\.config\.ts cannot be loaded:\nTypeError: defineConfig\(\.\.\.\)\.project: must not be empty\n\s+at [^\n]*helmr\.config\.ts:2:\d+\)?\n$/,
    ],
    ["a wrong field", { "helmr.config.ts": config.replace('"default"', "7") }, /project/],
  ])("says what is wrong before it uploads: %s", async (_what, files, message) => {
    await using server = await scriptedServer(routes());
    const result = await helmr(["deploy", await project(files)], { url: server.url });
    expect(result.exitCode).toBe(1);
    expect(result.err).toMatch(message);
    expect(server.asked).toEqual([]);
  });

  it("reads a package.json that begins with a byte order mark, as npm does", async () => {
    await using server = await scriptedServer(routes());
    const root = await project({ "package.json": `\uFEFF${JSON.stringify(manifest)}` });
    const result = await helmr(["deploy", root], { url: server.url });
    expect(result.exitCode, result.err).toBe(0);
  });

  it("loads a config that a build loads: enums, imports without their extension", async () => {
    await using server = await scriptedServer(routes());
    const text = `import { defineConfig } from "@helmr/sdk";
import { Project } from "./settings";
import { dirs } from "./settings.js";
export default defineConfig({ project: Project.Name, dirs });
`;
    const settings = 'export enum Project { Name = "default" }\nexport const dirs = ["tasks"];\n';
    const root = await project({ "helmr.config.ts": text, "settings.ts": settings });
    const result = await helmr(["deploy", root], { url: server.url });
    expect(result.exitCode, result.err).toBe(0);
    expect(result.err).not.toContain("Warning");
  });

  it("takes ignorePatterns from the config, whose output is no part of it and which does not see the key", async () => {
    await using server = await scriptedServer(routes());
    const text = `import { defineConfig } from "@helmr/sdk";
console.log("config says", process.env.HELMR_API_KEY);
export default defineConfig({ project: "default", dirs: ["tasks"], ignorePatterns: ["docs"] });
`;
    const root = await project({ "helmr.config.ts": text, "docs/x.md": "", "tasks/_kept.ts": "" });
    const result = await helmr(["deploy", root, "--json"], { url: server.url });
    expect(result.exitCode, result.err).toBe(0);
    expect(result.err).toContain("config says undefined");
    const { names } = await uploaded(server.asked[0]);
    expect(names).toContain("tasks/_kept.ts");
    expect(names.some((name) => name.startsWith("docs"))).toBe(false);
  });
});

describe("completion", () => {
  it.each(["bash", "zsh", "fish"])("prints the script of %s", async (shell) => {
    const result = await helmr(["completion", shell]);
    expect(result.exitCode, result.err).toBe(0);
    expect(result.out).toMatch(/helmr complete|complete --/);
  });
  it("answers commands, subcommands and options", async () => {
    expect((await helmr(["complete", "--", "se"])).out).toMatch(/^session\t[\s\S]*^secret\t/m);
    expect((await helmr(["complete", "--", "run", "wa"])).out).toMatch(/^wait\t/m);
    expect((await helmr(["complete", "--", "session", "start", "--pay"])).out).toMatch(/^--payload\t/m);
  });
});
