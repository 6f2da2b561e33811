import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { temporaryFolder } from "../../test/trees.ts";
import type { ArtifactStore } from "../artifact-store.ts";
import { createFolderStore } from "../folder-store.ts";
import { type AppliedFile, applyFiles } from "./apply-files.ts";
import { diffVersions } from "./diff-versions.ts";
import { openVersion, type VersionReader } from "./open-version.ts";
import { unifiedDiff } from "./unified-diff.ts";

let scratch: string;
let artifacts: ArtifactStore;
beforeEach(() => {
  scratch = temporaryFolder();
  artifacts = createFolderStore(join(scratch, "store"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const file = (path: string, content: string | Buffer, mode = 0o644): AppliedFile => ({
  path,
  content: Buffer.from(content as string),
  mode,
});

async function version(
  files: readonly AppliedFile[],
  base?: VersionReader,
  remove: readonly string[] = [],
): Promise<VersionReader> {
  const { manifestDigest } = await applyFiles({ artifacts, files, base, remove });
  return openVersion(artifacts, manifestDigest);
}

it("names every kind of change once, in the order of paths", async () => {
  const a = await version([
    file("kept", "same"),
    file("changed", "one"),
    file("mode", "x"),
    file("gone/a", "a"),
    file("gone/b", "moved content"),
    file("type", "was a file"),
    file("a.b", "1"),
  ]);
  const b = await version(
    [
      file("changed", "two"),
      file("mode", "x", 0o755),
      file("new/b", "moved content"),
      file("new/empty", ""),
      file("type/below", "is a directory"),
      file("a/x", "2"),
    ],
    a,
    ["gone", "type"],
  );
  const { changes, total } = diffVersions(a, b, { limit: 100 });
  expect(changes.map(({ change, path, before }) => [change, path, before?.path])).toEqual([
    ["added", "a", undefined],
    ["added", "a/x", undefined],
    ["modified", "changed", "changed"],
    ["removed", "gone", "gone"],
    ["removed", "gone/a", "gone/a"],
    ["metadata", "mode", "mode"],
    ["added", "new", undefined],
    ["renamed", "new/b", "gone/b"],
    ["added", "new/empty", undefined],
    ["type", "type", "type"],
    ["added", "type/below", undefined],
  ]);
  expect(total).toBe(changes.length);
  const back = diffVersions(b, a, { limit: 100 }).changes.map(({ change }) => change);
  expect(back.filter((change) => change === "renamed")).toHaveLength(1);
  expect(diffVersions(a, a, { limit: 10 })).toEqual({ changes: [], total: 0 });
});

it("pages through the changes without leaving one out", async () => {
  const a = await version([]);
  const b = await version(Array.from({ length: 25 }, (_, n) => file(`f${n}`, `${n}`)));
  const paths: string[] = [];
  for (let after: number | undefined = 0; after !== undefined; ) {
    const page: ReturnType<typeof diffVersions> = diffVersions(a, b, { limit: 10, after });
    paths.push(...page.changes.map(({ path }) => path));
    after = page.next;
  }
  expect(paths).toEqual(Array.from({ length: 25 }, (_, n) => `f${n}`).sort());
});

it("shows the difference of texts, of one that is new or gone, and says what cannot be shown", async () => {
  const a = await version([
    file("text", "one\ntwo\nthree\n"),
    file("gone", "bye\n"),
    file("bin", Buffer.of(0, 1)),
    file("latin1", Buffer.of(0xe9, 10)),
    file("big", "a".repeat(3000)),
    file("far", Array.from({ length: 20_000 }, (_, n) => `${n}\n`).join("")),
  ]);
  const b = await version(
    [
      file("text", "one\n2\nthree\n"),
      file("new", "hi\n"),
      file("bin", Buffer.of(0, 2)),
      file("latin1", "e\n"),
      file("big", "b".repeat(3000)),
      file("dir/x", ""),
      file("far", Array.from({ length: 20_000 }, (_, n) => `x${n * 7}\n`).join("")),
    ],
    a,
    ["gone"],
  );
  expect(await unifiedDiff(a, b, "text")).toEqual({
    kind: "text",
    diff: "--- a/text\n+++ b/text\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n",
    sizeBefore: 14,
    sizeAfter: 12,
  });
  expect((await unifiedDiff(a, b, "new")).diff).toBe("--- /dev/null\n+++ b/new\n@@ -0,0 +1,1 @@\n+hi\n");
  expect((await unifiedDiff(a, b, "gone")).diff).toBe("--- a/gone\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-bye\n");
  expect(await unifiedDiff(b, b, "text")).toMatchObject({ kind: "text", diff: "" });
  expect(await unifiedDiff(a, b, "bin")).toMatchObject({ kind: "binary", diff: "" });
  expect(await unifiedDiff(a, b, "latin1")).toMatchObject({ kind: "binary" });
  expect(await unifiedDiff(a, b, "big", { maxBytes: 2999 })).toEqual({
    kind: "too_large",
    diff: "",
    sizeBefore: 3000,
    sizeAfter: 3000,
  });
  expect(await unifiedDiff(a, b, "far", { maxMs: 1 })).toMatchObject({ kind: "too_large" });
  await expect(unifiedDiff(a, b, "dir")).rejects.toMatchObject({ reason: "is_a_directory" });
  await expect(unifiedDiff(a, b, "nowhere")).rejects.toMatchObject({ reason: "not_found" });
});
