/**
 * What ends a build from outside: the host's disk is nearly full, or the build takes too long altogether.
 *
 *  I1  The host keeps `minFreeBytes`, however fast the steps of a build write. At 4 GB/s a disk loses 1 GiB between
 *      two checks.
 *  I2  Every step has a limit of its own; the whole has one too, so that a build of many slow steps does not hold the
 *      worker's build slot for days.
 */
import { statfs } from "node:fs/promises";
import { BuildFailure } from "./failure.ts";

const minFreeBytes = 2 * 1024 ** 3;
const checkMs = 250;
const maxBuildMs = 3 * 60 * 60_000;

export interface BuildGuard {
  /** Aborts with a BuildFailure as its reason. */
  readonly signal: AbortSignal;
  stop(): void;
}

export interface BuildGuardLimits {
  readonly minFreeBytes: number;
  readonly maxBuildMs: number;
}

/** Watch the disk that holds `path` and the clock until `stop`. */
export function guardBuild(
  path: string,
  limits: BuildGuardLimits = { minFreeBytes, maxBuildMs },
): BuildGuard {
  const controller = new AbortController();
  const fail = (message: string) =>
    controller.abort(new BuildFailure("worker", `deployment build: ${message}`, { step: "limits" }));
  const check = async (): Promise<void> => {
    const { bavail, bsize } = await statfs(path);
    if (bavail * bsize < limits.minFreeBytes)
      fail(
        "stopped because the worker's disk is nearly full; make the steps write less, or free space there",
      );
  };
  const timer = setInterval(() => {
    check().catch(() => fail("stopped because the worker's disk does not answer"));
  }, checkMs);
  const clock = setTimeout(
    () => fail(`did not end within ${Math.round(limits.maxBuildMs / 60_000)} minutes`),
    limits.maxBuildMs,
  );
  return {
    signal: controller.signal,
    stop: () => {
      clearInterval(timer);
      clearTimeout(clock);
    },
  };
}
