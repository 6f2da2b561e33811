import { chmod, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { lockDataFolder, openDataFolder } from "./data-folder.ts";
import { StartError } from "./start-error.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "helmr-data-folder-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const modeOf = async (path: string) => (await stat(path)).mode & 0o7777;

describe("the data folder", () => {
  it.each([
    [0o700, 0o711],
    [0o755, 0o755],
    [0o1777, 0o1777],
  ])("that was there with mode %o has %o: nothing is taken from others who use it", async (before, after) => {
    await chmod(root, before);
    await openDataFolder(root);
    expect(await modeOf(root)).toBe(after);
    expect(await modeOf(join(root, "artifacts"))).toBe(0o700);
    expect(await modeOf(join(root, "worker"))).toBe(0o700);
  });

  it("that cannot be made says which, and what to do", async () => {
    const path = join(root, "file");
    await writeFile(path, "");
    const refused = await lockDataFolder(path).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(StartError);
    expect(String(refused)).toMatch(/data folder .*file cannot be made .*--data-dir/);
  });

  it.runIf(process.platform === "linux")("below /proc, where nothing can be made, is refused", async () => {
    await expect(lockDataFolder("/proc/helmr-data")).rejects.toThrow(
      /\/proc\/helmr-data cannot be made .*ENOENT/,
    );
  });
});
