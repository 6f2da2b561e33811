/**
 * The closing line of a test run: `N passed, N failed` (and `, N skipped`), which people and CI read. A vitest reporter
 * counts, scripts/test.ts prints.
 */
import { writeFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/** What a run came to. A file that does not load and an error outside any test count as one failure each. */
export interface TestTotals {
  passed: number;
  failed: number;
  skipped: number;
}

/** Where the reporter writes its totals, as JSON. */
export const TOTALS_VARIABLE = "HELMR_TEST_TOTALS";

/** `12 passed, 0 failed, 1 skipped`; the skipped are left out when there are none. */
export function closingLine(totals: TestTotals): string {
  const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : "";
  return `${totals.passed} passed, ${totals.failed} failed${skipped}`;
}

/** Count the outcome of every test of these modules. */
export function countTests(modules: readonly TestModule[], unhandledErrors: number): TestTotals {
  const totals: TestTotals = { passed: 0, failed: unhandledErrors, skipped: 0 };
  for (const module of modules) {
    let failedTests = 0;
    for (const test of module.children.allTests()) {
      const state = test.result().state;
      if (state === "passed") totals.passed += 1;
      else if (state === "skipped") totals.skipped += 1;
      else failedTests += 1;
    }
    // A failing hook or import fails the module without failing a test.
    totals.failed += module.state() === "failed" && failedTests === 0 ? 1 : failedTests;
  }
  return totals;
}

export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const file = process.env[TOTALS_VARIABLE];
    if (file) writeFileSync(file, JSON.stringify(countTests(modules, unhandledErrors.length)));
  }
}
