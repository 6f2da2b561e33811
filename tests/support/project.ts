/** Task projects made by a test, and their deployment through the CLI. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import { type CliResult, helmr } from "./cli.ts";
import { stackEnv } from "./client.ts";

export const minimalPackageJson = JSON.stringify({
  name: "test-project",
  private: true,
  type: "module",
  packageManager: "npm@11.0.0",
  dependencies: { "@helmr/sdk": "*" },
});

export const minimalConfig = `import { defineConfig } from "@helmr/sdk";
export default defineConfig({ project: "default", dirs: ["tasks"] });
`;

export const minimalTask = `import { image, sandbox, task } from "@helmr/sdk";
const box = sandbox("box").image(image("base").from("node:24-bookworm-slim"));
export const hello = task({ id: "hello", sandbox: box, run: async () => "hello" });
`;

/** As `makeProject`; removed when the test ends. */
export async function writeProject(files: Readonly<Record<string, string | null>>): Promise<string> {
  const dir = await makeProject(files);
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** Write `files` (path to text; null leaves a default out) over the minimal project; the caller removes the folder. */
export async function makeProject(files: Readonly<Record<string, string | null>> = {}): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "helmr-project-"));
  const all: Record<string, string | null> = {
    "package.json": minimalPackageJson,
    "helmr.config.ts": minimalConfig,
    "tasks/hello.ts": minimalTask,
    ...files,
  };
  for (const [path, text] of Object.entries(all)) {
    if (text === null) continue;
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
  return dir;
}

/** `helmr deploy` of the folder, to the shared stack. */
export function deploy(dir: string, args: readonly string[] = []): Promise<CliResult> {
  return helmr(["deploy", dir, ...args], { env: stackEnv(), timeoutMs: 300_000 });
}
