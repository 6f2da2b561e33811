/** `helmr deploy` of the harness's project, each time with another line in it. It may fail while things are broken. */
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import type { World } from "./world.ts";

const root = join(import.meta.dirname, "../../..");
const limitMs = 240_000;

/** Resolves to what it said when it failed. */
export async function deploy(world: World, label: string): Promise<string | undefined> {
  const dir = await mkdtemp(join(world.folder, "project-"));
  try {
    await cp(join(import.meta.dirname, "../project"), dir, { recursive: true });
    await writeFile(join(dir, "label.ts"), `export const label = ${JSON.stringify(label)};\n`);
    const { url, apiKey } = world.access;
    const result = await execa(process.execPath, [join(root, "packages/cli/bin/helmr.mjs"), "deploy", dir], {
      reject: false,
      cwd: root,
      stdin: "ignore",
      env: { NO_COLOR: "1", HELMR_API_URL: url, HELMR_API_KEY: apiKey },
      timeout: limitMs,
      killSignal: "SIGKILL",
      cancelSignal: world.signal,
    });
    return result.exitCode === 0 ? undefined : `${result.stdout}\n${result.stderr}`.trim();
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
