/**
 * `npm test`: installs what is missing, then the checks, then every test.
 *
 * With arguments only vitest runs, with these: `npm test -- packages/sdk`, `npm test -- -t "cancel"`. The last line is
 * `N passed, N failed`; the exit code is 0 only when something passed and nothing failed.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { execa } from "execa";
import {
  ensureRuntime,
  ensureTestPackages,
  type Runtime,
  RuntimeError,
} from "../packages/dev/src/runtime/index.ts";
import { closingLine, type TestTotals, TOTALS_VARIABLE } from "./lib/closing-line.ts";
import { runChecks } from "./lib/steps.ts";

const root = join(import.meta.dirname, "..");

/** Undefined when something is missing, which has been said. */
async function installRuntime(): Promise<Runtime | undefined> {
  try {
    const log = (line: string) => console.error(`helmr: ${line}`);
    const runtime = await ensureRuntime({ log });
    // Without them the few tests that need one fail, each with its name.
    await ensureTestPackages({ log }).catch((error: unknown) => {
      if (!(error instanceof RuntimeError)) throw error;
      log(error.message);
    });
    return runtime;
  } catch (error) {
    if (!(error instanceof RuntimeError)) throw error;
    console.error(`helmr: ${error.message}`);
    return undefined;
  }
}

/** Run vitest to its end; a run that ended without totals counts as one failure. */
async function runTests(args: readonly string[], runtime: Runtime | undefined): Promise<TestTotals> {
  const folder = mkdtempSync(join(tmpdir(), "helmr-totals-"));
  const file = join(folder, "totals.json");
  const reporters = ["--reporter=default", `--reporter=${join(root, "scripts/lib/closing-line.ts")}`];
  try {
    const result = await execa("vitest", ["run", ...reporters, ...args], {
      cwd: root,
      preferLocal: true,
      stdio: "inherit",
      reject: false,
      // The bun that builds use also proves that the SDK's client runs there.
      env: { [TOTALS_VARIABLE]: file, ...(runtime ? { PATH: withFolder(runtime.bunPath) } : {}) },
      // vitest ends its workers itself, and they their guests; killed earlier they would leave them.
      forceKillAfterDelay: 60_000,
    });
    const nothing: TestTotals = { passed: 0, failed: 0, skipped: 0 };
    const totals: TestTotals = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : nothing;
    // What fails after the last test, as a guest left behind, has no test to count.
    if (result.failed && totals.failed === 0) totals.failed = 1;
    return totals;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** PATH with the program's folder at its end. */
function withFolder(program: string): string {
  return [process.env.PATH, dirname(program)].join(delimiter);
}

const args = process.argv.slice(2);
const everything = args.length === 0;
const installed = await installRuntime();
const failedChecks = everything ? await runChecks() : [];
// A chosen test may need no guest; one that does says so itself.
const totals =
  installed || !everything ? await runTests(args, installed) : { passed: 0, failed: 1, skipped: 0 };
totals.failed += failedChecks.length;
if (failedChecks.length > 0) console.log(`failed checks: ${failedChecks.join(", ")}`);
if (totals.passed + totals.failed === 0) console.log("no test ran");
console.log(`\n${closingLine(totals)}`);
process.exitCode = totals.failed > 0 || totals.passed === 0 ? 1 : 0;
