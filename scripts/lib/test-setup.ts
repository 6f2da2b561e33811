/**
 * What the integration and end-to-end tests start from: the runtime files installed, one temporary folder per run that
 * every `tmpdir()` falls into, and, when all is over, proof that nothing of the run is left on this machine.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ensureRuntime } from "../../packages/dev/src/runtime/index.ts";
import { leftOver, snapshot } from "./leaks.ts";

/** How long a dying process may take to be gone after its test. */
const SETTLE_MS = 10_000;

/** Both projects share one run folder: the second finds the first's in the environment. */
function runFolder(): string {
  const shared = process.env.HELMR_TEST_ROOT;
  if (shared !== undefined) return shared;
  // Short, because sockets live below it and their paths end at 107 bytes; open, because PostgreSQL is another user.
  const folder = mkdtempSync(join("/tmp", "helmr-test-"));
  chmodSync(folder, 0o755);
  process.env.HELMR_TEST_ROOT = folder;
  process.env.TMPDIR = folder;
  return folder;
}

async function waitUntilClean(before: ReadonlySet<string>, folder: string): Promise<string[]> {
  const deadline = Date.now() + SETTLE_MS;
  for (;;) {
    const left = leftOver(before, snapshot(folder));
    if (left.length === 0 || Date.now() > deadline) return left;
    await sleep(200);
  }
}

export default async function setup(): Promise<() => Promise<void>> {
  await ensureRuntime({ log: (line) => console.error(`helmr: ${line}`) });
  const folder = runFolder();
  const before = snapshot(folder);
  return async () => {
    const left = await waitUntilClean(before, folder);
    if (left.length > 0) {
      process.exitCode = 1;
      throw new Error(`the tests left behind:\n  ${left.join("\n  ")}`);
    }
    rmSync(folder, { recursive: true, force: true });
  };
}
