import { rmSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryFolder } from "../../test/trees.ts";
import { createFolderStore } from "../folder-store.ts";
import { applyFiles } from "./apply-files.ts";
import { openVersion } from "./open-version.ts";
import { readStatIndex, StatIndex, statWords } from "./stat-index.ts";

it("does not trust what changed within its clock's tick before the scan, or later", async () => {
  const scratch = temporaryFolder();
  const artifacts = createFolderStore(join(scratch, "store"));
  const files = ["a", "b", "c", "d", "e", "f"].map((path) => ({ path, content: Buffer.from(path) }));
  const { manifestDigest } = await applyFiles({ artifacts, files });
  const { loaded } = await openVersion(artifacts, manifestDigest);
  const scanStartMs = 1_700_000_000_123;
  const index = new StatIndex(scanStartMs);
  // How long before the scan each entry changed, and whether its file system's clock counts whole seconds only.
  const ages = [1_000_000, 51, 49, 0, -1000, 1123, 3123];
  for (const [entry, age] of ages.entries()) index.add(recordOf(entry, scanStartMs - age));
  const path = join(scratch, "index");
  expect(await (await index.stage(path, loaded))()).toBeUndefined();
  const found = await readStatIndex(path, manifestDigest);
  const trusted = ages.map((_, entry) => found?.stats[entry * statWords] === entry);
  expect(trusted).toEqual([true, true, false, false, false, false, true]);
  expect(await readStatIndex(path, `sha256:${"0".repeat(64)}`)).toBeUndefined();
  rmSync(scratch, { recursive: true });
});

/** A stat record of that inode, changed then. */
function recordOf(inode: number, changedMs: number): Uint32Array {
  const record = new Uint32Array(20);
  record[10] = inode;
  record[16] = Math.floor(changedMs / 1000);
  record[19] = (changedMs % 1000) * 1_000_000;
  return record;
}
