import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { describeFolder, folderModel, makeFolder, temporaryFolder } from "../../test/trees.ts";
import { createFolderStore } from "../folder-store.ts";
import { openVersion } from "./open-version.ts";
import { restoreTree } from "./restore.ts";
import { saveTree } from "./save.ts";

let scratch: string;
beforeEach(() => {
  scratch = temporaryFolder();
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

it("restores any tree byte for byte, with all metadata, and saves it again as the same version", async () => {
  const artifacts = createFolderStore(join(scratch, "store"));
  let run = 0;
  await fc.assert(
    fc.asyncProperty(folderModel, async (model) => {
      run += 1;
      const [folder, restored, index] = ["from", "to", "index"].map((name) =>
        join(scratch, `${name}-${run}`),
      ) as [string, string, string];
      makeFolder(folder, model);
      const before = describeFolder(folder);
      const saved = await saveTree({ folder, artifacts });
      expect(describeFolder(folder)).toEqual(before);
      mkdirSync(restored);
      await restoreTree({ manifestDigest: saved.manifestDigest, folder: restored, artifacts, index });
      expect(describeFolder(restored)).toEqual(before);
      const again = await saveTree({ folder: restored, artifacts, index, previous: saved });
      expect(again).toMatchObject({ unchanged: true, manifestDigest: saved.manifestDigest });
      expect(again.stats.opened).toBe(0);
      const anew = await saveTree({ folder: restored, artifacts });
      expect(anew.contentDigest).toBe(saved.contentDigest);
      await expectReadable(saved.manifestDigest, artifacts, before);
      rmSync(folder, { recursive: true });
      rmSync(restored, { recursive: true });
    }),
    { numRuns: 12 },
  );
});

async function expectReadable(
  digest: string,
  artifacts: ReturnType<typeof createFolderStore>,
  described: readonly string[],
) {
  const { createHash } = await import("node:crypto");
  const version = await openVersion(artifacts, digest);
  const lines: string[] = [];
  for (const entry of version.entries()) {
    const shown = entry.pathBytes.length === 0 ? "" : `/${entry.pathBytes.toString("latin1")}`;
    if (entry.linkOf !== undefined) {
      lines.push(`${shown} is /${entry.linkOf.toString("latin1")}`);
      continue;
    }
    let sha256 = "";
    if (entry.kind === "file") {
      const digest = createHash("sha256");
      for await (const part of version.read(entry.pathBytes)) digest.update(part);
      sha256 = digest.digest("hex");
    }
    const kinds = { file: 0o100000, directory: 0o040000, symlink: 0o120000 };
    const mode = (kinds[entry.kind] + entry.mode).toString(8);
    const size = entry.kind === "directory" ? "" : entry.sizeBytes;
    const target = entry.linkTargetBytes?.toString("latin1") ?? "";
    const attributes = entry.attributes
      .map(({ name, value }) => `${name}=${value.toString("hex")}`)
      .join(",");
    lines.push(
      `${shown} ${mode} ${entry.uid}:${entry.gid} ${entry.mtimeNs} ${size} ${sha256} ${target} ${attributes}`,
    );
  }
  // describeFolder lists by full names of a directory's children, as the manifest does.
  expect(lines).toEqual(described);
}
