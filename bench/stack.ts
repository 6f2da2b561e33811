/** A stack of its own for a benchmark: fresh data folder, the bench project deployed, removed afterwards. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type DevStack, startDevStack } from "@helmr/dev";
import { HelmrClient } from "@helmr/sdk";
import { pino } from "pino";
import { hold } from "./leftovers.ts";

const run = promisify(execFile);
const deployTimeoutMs = 300_000;

export interface BenchStack extends AsyncDisposable {
  readonly stack: DevStack;
  readonly client: HelmrClient;
}

export interface BenchStackOptions {
  /** 0 makes every start a cold one. */
  readonly guestsPerSandbox: number;
  /** How long a waiting run keeps its guest. */
  readonly parkAfterMs?: number;
}

export async function startBenchStack({
  guestsPerSandbox,
  parkAfterMs,
}: BenchStackOptions): Promise<BenchStack> {
  const dataDir = await mkdtemp(join(tmpdir(), "helmr-bench-"));
  const starting = startDevStack({
    dataDir,
    logger: pino({ level: process.env.HELMR_LOG_LEVEL ?? "error" }, pino.destination(2)),
    pool: { perSandbox: guestsPerSandbox },
    ...(parkAfterMs === undefined ? {} : { parkAfterMs }),
  });
  const dispose = hold(async () => {
    const started = await starting.catch(() => undefined); // its failure is the caller's to report
    await started?.stop();
    await rm(dataDir, { recursive: true, force: true });
  });
  try {
    const stack = await starting;
    await deployBenchProject(stack);
    const client = new HelmrClient({ url: stack.url, apiKey: stack.apiKey });
    return { stack, client, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function deployBenchProject(stack: DevStack): Promise<void> {
  const helmr = join(import.meta.dirname, "../packages/cli/bin/helmr.mjs");
  await run(process.execPath, [helmr, "deploy", join(import.meta.dirname, "fixture")], {
    env: { ...process.env, HELMR_API_URL: stack.url, HELMR_API_KEY: stack.apiKey },
    timeout: deployTimeoutMs,
  });
}
