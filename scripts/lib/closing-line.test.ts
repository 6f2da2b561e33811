import { expect, test } from "vitest";
import type { TestModule } from "vitest/node";
import { closingLine, countTests } from "./closing-line.ts";

/** As much of vitest's module as the count reads. */
function moduleOf(state: string, ...tests: string[]): TestModule {
  const allTests = () => tests.map((result) => ({ result: () => ({ state: result }) }));
  return { children: { allTests }, state: () => state } as unknown as TestModule;
}

test("counts tests by outcome, and a test that never ended as failed", () => {
  const modules = [
    moduleOf("passed", "passed", "skipped"),
    moduleOf("failed", "passed", "failed", "pending"),
  ];
  expect(countTests(modules, 0)).toEqual({ passed: 2, failed: 2, skipped: 1 });
});

test("a module that failed without a failing test, and an unhandled error, are one failure each", () => {
  expect(countTests([moduleOf("failed", "passed"), moduleOf("failed")], 1)).toEqual({
    passed: 1,
    failed: 3,
    skipped: 0,
  });
});

test("the closing line names the skipped only when there are some", () => {
  expect(closingLine({ passed: 3, failed: 0, skipped: 0 })).toBe("3 passed, 0 failed");
  expect(closingLine({ passed: 3, failed: 1, skipped: 2 })).toBe("3 passed, 1 failed, 2 skipped");
});
