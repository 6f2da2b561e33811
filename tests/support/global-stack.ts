/** One stack for all end-to-end tests of a vitest run; its address is provided to them. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startDevProcess } from "./dev-process.ts";

declare module "vitest" {
  interface ProvidedContext {
    stackUrl: string;
    stackApiKey: string;
    stackDataDir: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await mkdtemp(join(tmpdir(), "helmr-e2e-"));
  const stack = await startDevProcess(dataDir);
  project.provide("stackUrl", stack.url);
  project.provide("stackApiKey", stack.api_key);
  project.provide("stackDataDir", dataDir);
  return async () => {
    await stack.end("SIGTERM");
    await rm(dataDir, { recursive: true, force: true });
  };
}
