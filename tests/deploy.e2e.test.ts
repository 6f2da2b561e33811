/** `helmr deploy`: what it does, how it fails, and that a failure leaves the current deployment as it was. */
import { createHash } from "node:crypto";
import { rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { pack } from "tar-stream";
import { beforeAll, describe, expect, inject, it } from "vitest";
import { helmrJson } from "./support/cli.ts";
import { api, stackClient, stackEnv } from "./support/client.ts";
import { deploy, makeProject, minimalTask, writeProject } from "./support/project.ts";

interface Deployment {
  readonly id: string;
  readonly version: string;
  readonly status: string;
  readonly error?: { readonly message?: string };
}

const current = async (): Promise<Deployment | null> =>
  (await api<{ deployment: Deployment | null }>("GET", "/deployments/current")).body.deployment;

const taskWithImage = (image: string) => `import { cache, image, sandbox, source, task } from "@helmr/sdk";
const box = sandbox("box").image(${image});
export const hello = task({ id: "hello", sandbox: box, run: async () => "hello" });
`;

let before: Deployment | null;
beforeAll(async () => {
  const dir = await makeProject();
  const result = await deploy(dir);
  await rm(dir, { recursive: true, force: true });
  expect(result.exitCode, `${result.stdout}\n${result.stderr}`).toBe(0);
  before = await current();
}, 300_000);

describe("a deployment that fails", () => {
  it.each<[string, Record<string, string | null>, RegExp]>([
    ["a syntax error", { "tasks/hello.ts": "export const = 1;" }, /tasks\/hello\.ts/],
    [
      "a module that throws",
      { "tasks/hello.ts": `throw new Error("thrown at import");` },
      /hello\.ts[\s\S]*thrown at import/,
    ],
    ["duplicate task ids", { "tasks/again.ts": minimalTask }, /hello[\s\S]*(again|twice|duplicate)/i],
    ["a default-exported task", { "tasks/hello.ts": `${minimalTask}\nexport default hello;` }, /default/i],
    ["no helmr.config.ts", { "helmr.config.ts": null }, /helmr\.config\.ts/],
    [
      "a failing run step",
      {
        "tasks/hello.ts": taskWithImage(
          `image("x").from("node:24-bookworm-slim").run(["sh", "-c", "echo tail of output; exit 7"])`,
        ),
      },
      /(tail of output[\s\S]*7|7[\s\S]*tail of output)/,
    ],
    [
      "an unknown image",
      { "tasks/hello.ts": taskWithImage(`image("x").from("registry.invalid/nothing/here:1")`) },
      /registry\.invalid\/nothing\/here:1/,
    ],
    [
      "an image without node",
      {
        "tasks/hello.ts": taskWithImage(
          `image("x").from("node:24-bookworm-slim").run(["rm", "-f", "/usr/local/bin/node"])`,
        ),
      },
      /node/,
    ],
    [
      "a package manager that is not there",
      {
        "package.json": JSON.stringify({
          name: "x",
          type: "module",
          packageManager: "pnpm@9.0.0",
          dependencies: { "@helmr/sdk": "*" },
        }),
      },
      /pnpm/,
    ],
    [
      "no @helmr/sdk in dependencies",
      { "package.json": JSON.stringify({ name: "x", type: "module", packageManager: "npm@11.0.0" }) },
      /@helmr\/sdk/,
    ],
  ])("%s", async (_name, files, message) => {
    const dir = await writeProject(files);
    const result = await deploy(dir);
    expect(result.exitCode).not.toBe(0);
    expect(`${result.stdout}\n${result.stderr}`).toMatch(message);
    expect((await current())?.id).toBe(before?.id);
  });

  it("a link out of the tree is refused before anything is uploaded or built", async () => {
    const dir = await writeProject({});
    await symlink("/etc/passwd", join(dir, "tasks", "outside"));
    const result = await deploy(dir);
    expect(result.exitCode).not.toBe(0);
    expect(result.stderr).toMatch(/outside/);
  });
});

describe("an upload that lies", () => {
  const upload = async (tar: Buffer, contentHash?: string) => {
    const form = new FormData();
    const hash = contentHash ?? `sha256:${createHash("sha256").update(tar).digest("hex")}`;
    form.append("metadata", JSON.stringify({ project_id: "", content_hash: hash }));
    form.append("deployment_source", new Blob([new Uint8Array(tar)]), "deployment-source.tar");
    const response = await fetch(`${inject("stackUrl")}/api/deployments`, {
      method: "POST",
      headers: { authorization: `Bearer ${inject("stackApiKey")}` },
      body: form,
    });
    return { status: response.status, body: (await response.json()) as { error?: string; id?: string } };
  };
  const tarOf = async (
    ...entries: [{ name: string; type?: "file" | "symlink" | "link"; linkname?: string }, string][]
  ) => {
    const archive = pack();
    for (const [header, content] of entries) archive.entry(header, content);
    archive.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of archive) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  };

  it.each<[string, Parameters<typeof tarOf>[0]]>([
    ["../", [{ name: "../outside" }, "x"]],
    ["an absolute name", [{ name: "/etc/passwd" }, "x"]],
    ["a symlink out of the tree", [{ name: "link", type: "symlink", linkname: "../../etc" }, ""]],
    ["an absolute symlink", [{ name: "link", type: "symlink", linkname: "/etc" }, ""]],
    ["a hard link out of the tree", [{ name: "link", type: "link", linkname: "../outside" }, ""]],
  ])("%s", async (_name, entry) => {
    const answer = await upload(await tarOf(entry));
    expect(answer.status).toBe(400);
    expect(answer.body.error).toBeTruthy();
  });

  it("a wrong content hash", async () => {
    const answer = await upload(await tarOf([{ name: "package.json" }, "{}"]), `sha256:${"0".repeat(64)}`);
    expect(answer.status).toBe(400);
  });

  it("more than 128 MiB", async () => {
    const answer = await upload(Buffer.alloc(129 * 1024 * 1024));
    expect(answer.status).toBe(413);
  });
});

describe("a deployment that works", () => {
  it("streams its progress, and the same source again takes its steps from the cache", async () => {
    const files = {
      "tasks/hello.ts": taskWithImage(
        `image("x").from("node:24-bookworm-slim").run(["sh", "-c", "echo built > /built-${Date.now()}"]).copy("/opt/app/config.ts", source.file("helmr.config.ts"))`,
      ),
    };
    const dir = await writeProject(files);
    const first = await deploy(dir);
    expect(first.exitCode, first.stderr).toBe(0);
    expect(`${first.stdout}${first.stderr}`).toMatch(/run sh -c/);
    const second = await deploy(dir);
    expect(second.exitCode, second.stderr).toBe(0);
    expect(`${second.stdout}${second.stderr}`).toMatch(/dependencies and index: .*\(cached\)/);
    expect(`${second.stdout}${second.stderr}`).toMatch(/run sh -c .*\(cached\)/);
  });

  it("is not current with --skip-promotion until it is promoted", async () => {
    const was = await current();
    const dir = await writeProject({ "tasks/other.ts": minimalTask.replaceAll("hello", "other") });
    const made = await helmrJson<Deployment>(["deploy", dir, "--skip-promotion"], { env: stackEnv() });
    expect(made.status).toBe("deployed");
    expect((await current())?.id).toBe(was?.id);
    await helmrJson(["deployment", "promote", made.version], { env: stackEnv() });
    expect((await current())?.id).toBe(made.id);
    const started = await stackClient().sessions.startAndWait("other", {}, { timeoutSeconds: 60 });
    expect(started.run.status).toBe("succeeded");
  });

  it("builds without any network when @helmr/sdk is the only dependency, and with bun", async () => {
    const dir = await writeProject({
      "package.json": JSON.stringify({
        name: "with-bun",
        type: "module",
        packageManager: "bun@1.4.5",
        dependencies: { "@helmr/sdk": "^0.0.7" },
      }),
    });
    const result = await deploy(dir);
    expect(result.exitCode, `${result.stdout}\n${result.stderr}`).toBe(0);
  });

  it("serves @helmr/sdk to an image's own npm install, and imports resolve against the image", async () => {
    const dir = await writeProject({
      "package.json": JSON.stringify({
        name: "with-zod",
        type: "module",
        packageManager: "npm@11.0.0",
        dependencies: { "@helmr/sdk": "^9.1.0", "is-number": "7.0.0" },
      }),
      "tasks/hello.ts": `import { image, sandbox, source, task } from "@helmr/sdk";
import isNumber from "is-number";
const box = sandbox("box").image(
  image("x").from("node:24-bookworm-slim").copy("/opt/helmr-task/package.json", source.file("package.json"))
    .workdir("/opt/helmr-task").run(["npm", "install"]),
);
export const hello = task({ id: "hello", sandbox: box, run: async () => ({ seven: isNumber(7) }) });
`,
    });
    const result = await deploy(dir);
    expect(result.exitCode, `${result.stdout}\n${result.stderr}`).toBe(0);
    const ran = await stackClient().sessions.startAndWait("hello", {}, { timeoutSeconds: 60 });
    expect(ran.run).toMatchObject({ status: "succeeded", output: { seven: true } });
  });
});
