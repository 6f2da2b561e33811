import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { isOfAnother, leftOver } from "./leaks.ts";

let owners: string;
beforeEach(() => {
  owners = mkdtempSync(join(tmpdir(), "helmr-owners-"));
  for (const [tag, stateDir] of [
    ["aaaaaa", "/tmp/helmr-test-1/dev/worker"],
    ["bbbbbb", "/tmp/helmr-test-12/dev/worker"],
  ] as const) {
    mkdirSync(join(owners, tag));
    writeFileSync(join(owners, tag, "owner"), `${stateDir}\n`);
  }
});
afterEach(() => rmSync(owners, { recursive: true, force: true }));

it.each([
  ["helmr_aaaaaa", false],
  ["helmr-aaaaaa-00ff", false],
  ["haaaaaa.00ff", false],
  ["helmr_bbbbbb", true],
  ["helmr-bbbbbb-00ff", true],
  ["hbbbbbb.00ff", true],
  ["helmr_cccccc", false],
  ["eth0", true],
  ["hassio", true],
  ["", true],
])("what is named %j is of another run: %s", (name, expected) => {
  expect(isOfAnother(name, "/tmp/helmr-test-1", owners)).toBe(expected);
});

it("what was there before is not left over", () => {
  expect(leftOver(new Set(["a", "b"]), new Set(["b", "c"]))).toEqual(["c"]);
});
