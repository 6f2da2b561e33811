/** A build ends when the disk is nearly full or its time is over. */
import { once } from "node:events";
import { tmpdir } from "node:os";
import { expect, it } from "vitest";
import { guardBuild } from "./build-guard.ts";
import { BuildFailure } from "./failure.ts";

it.each([
  [
    "the disk has less than the minimum",
    { minFreeBytes: Number.MAX_SAFE_INTEGER, maxBuildMs: 60_000 },
    /disk is nearly full/,
  ],
  ["its time is over", { minFreeBytes: 0, maxBuildMs: 20 }, /did not end within/],
])("aborts with a failure that says what to do when %s", async (_name, limits, message) => {
  const guard = guardBuild(tmpdir(), limits);
  await once(guard.signal, "abort");
  guard.stop();
  expect(guard.signal.reason).toBeInstanceOf(BuildFailure);
  expect(guard.signal.reason.message).toMatch(message);
});
