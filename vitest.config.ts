/**
 * Three kinds of tests: `unit` beside the code, `integration` in packages/x/test (a real PostgreSQL, real guests of one
 * package) and tests/contract/ (the HTTP API clause by clause), `e2e` in tests/ (the whole stack through CLI and SDK, one
 * file at a time).
 */
import { defineConfig } from "vitest/config";

const MINUTE_MS = 60_000;

export default defineConfig({
  test: {
    pool: "forks",
    maxWorkers: 2,
    // A cold guest under load on two cores has been seen to take seconds: limits end hangs, they measure nothing.
    testTimeout: MINUTE_MS,
    hookTimeout: MINUTE_MS,
    teardownTimeout: MINUTE_MS,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["{packages/*/src,scripts,bench,examples,tests/faults}/**/*.test.ts"],
          exclude: ["**/node_modules/**"],
          globalSetup: ["packages/store/test-support/global-setup.ts"],
        },
      },
      {
        extends: true,
        test: {
          name: "integration",
          include: ["packages/*/test/**/*.test.ts", "tests/contract/**/*.test.ts"],
          // Set up in this order, torn down in reverse: the check for what is left comes last.
          globalSetup: ["scripts/lib/test-setup.ts", "packages/store/test-support/global-setup.ts"],
          testTimeout: 3 * MINUTE_MS,
          hookTimeout: 3 * MINUTE_MS,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "e2e",
          include: ["tests/**/*.test.ts"],
          exclude: ["tests/fixtures/**", "tests/contract/**", "tests/faults/**"],
          globalSetup: [
            "scripts/lib/test-setup.ts",
            "packages/store/test-support/global-setup.ts",
            "tests/support/global-stack.ts",
          ],
          fileParallelism: false,
          testTimeout: 5 * MINUTE_MS,
          hookTimeout: 5 * MINUTE_MS,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
