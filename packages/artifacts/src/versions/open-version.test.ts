import { rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { filler, temporaryFolder } from "../../test/trees.ts";
import type { ArtifactStore } from "../artifact-store.ts";
import { createFolderStore } from "../folder-store.ts";
import { applyFiles } from "./apply-files.ts";
import { ManifestCache } from "./manifest-cache.ts";
import { openVersion } from "./open-version.ts";
import { restoreTree } from "./restore.ts";

let scratch: string;
let artifacts: ArtifactStore;
beforeEach(() => {
  scratch = temporaryFolder();
  artifacts = createFolderStore(join(scratch, "store"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const MiB = 1024 * 1024;

it("reads any range of a file, zeros between its chunks included", async () => {
  const large = Buffer.concat([filler(1, MiB + 10), Buffer.alloc(3 * MiB), filler(2, 100)]);
  const files = [
    { path: "large", content: large },
    { path: "small", content: Buffer.from("hello") },
    { path: "empty", content: Buffer.alloc(0) },
  ];
  const { manifestDigest } = await applyFiles({ artifacts, files });
  const version = await openVersion(artifacts, manifestDigest);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...files),
      fc.integer({ min: 0, max: 4 * MiB + 200 }),
      fc.oneof(fc.integer({ min: 0, max: 4 * MiB + 200 }), fc.constant(undefined)),
      async ({ path, content }, start, end) => {
        const found = await buffer(version.read(path, { start, end }));
        expect(found.equals(content.subarray(start, end))).toBe(true);
      },
    ),
    { numRuns: 60 },
  );
});

it("lists direct children by name, page by page", async () => {
  const names = ["B", "a", "a.b", "a0", "z"];
  const files = names.map((name) => ({ path: `d/${name}`, content: Buffer.from(name) }));
  files.push({ path: "d/a1/below", content: Buffer.from("x") });
  const { manifestDigest } = await applyFiles({ artifacts, files });
  const version = await openVersion(artifacts, manifestDigest);
  const first = version.list("d", { limit: 4 });
  expect(first.entries.map(({ name }) => name)).toEqual(["B", "a", "a.b", "a0"]);
  const rest = version.list("d", { limit: 4, after: first.next });
  expect(rest.entries.map(({ name }) => name)).toEqual(["a1", "z"]);
  expect(rest.next).toBeUndefined();
  expect(version.list("d", { limit: 4, after: "a00" }).entries.map(({ name }) => name)).toEqual(["a1", "z"]);
  expect(version.list("", { limit: 4 }).entries.map(({ path }) => path)).toEqual(["d"]);
  expect(version.stat("/d/./a1/below")).toMatchObject({ path: "d/a1/below", kind: "file", sizeBytes: 1 });
});

it("says why a path cannot be read", async () => {
  const { manifestDigest } = await applyFiles({ artifacts, files: [{ path: "d/f", content: Buffer.of(1) }] });
  const version = await openVersion(artifacts, manifestDigest);
  const reason = (work: () => unknown) => {
    try {
      work();
    } catch (error) {
      return (error as { reason?: string }).reason;
    }
    return undefined;
  };
  expect(reason(() => version.stat("x"))).toBe("not_found");
  expect(reason(() => version.stat("d/f/g"))).toBe("not_found");
  expect(reason(() => version.stat("d/../d"))).toBe("invalid_path");
  expect(reason(() => version.stat("d\0"))).toBe("invalid_path");
  expect(reason(() => version.read("d"))).toBe("is_a_directory");
  expect(reason(() => version.list("d/f", { limit: 1 }))).toBe("not_found");
});

it("says which artifact is missing or corrupt, and gives out no wrong byte", async () => {
  const content = filler(3, 3 * MiB);
  const files = [{ path: "f", content }];
  const { manifestDigest, artifacts: digests } = await applyFiles({ artifacts, files });
  const pack = digests[1] as string;
  const version = await openVersion(artifacts, manifestDigest);
  const path = (digest: string) => join(scratch, "store/sha256", digest.slice(7, 9), digest.slice(7));
  const good = await readFile(path(pack));
  for (const at of [0, 10, good.length >> 1, good.length - 1]) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] as number) ^ 1;
    await writeFile(path(pack), bad);
    await expect(buffer(version.read("f"))).rejects.toMatchObject({
      reason: "artifact_corrupt",
      digest: pack,
    });
  }
  await writeFile(path(pack), good.subarray(0, good.length - 1));
  await expect(buffer(version.read("f"))).rejects.toMatchObject({ reason: "artifact_corrupt", digest: pack });
  const folder = temporaryFolder();
  await expect(restoreTree({ manifestDigest, folder, artifacts })).rejects.toMatchObject({
    reason: "artifact_corrupt",
    digest: pack,
  });
  rmSync(folder, { recursive: true });
  await artifacts.delete(pack);
  await expect(buffer(version.read("f"))).rejects.toMatchObject({ reason: "artifact_missing", digest: pack });

  const manifest = await readFile(path(manifestDigest));
  manifest[manifest.length >> 1] = (manifest[manifest.length >> 1] as number) ^ 1;
  await writeFile(path(manifestDigest), manifest);
  await expect(openVersion(artifacts, manifestDigest)).rejects.toMatchObject({ reason: "artifact_corrupt" });
  await artifacts.delete(manifestDigest);
  await expect(openVersion(artifacts, manifestDigest)).rejects.toMatchObject({
    reason: "artifact_missing",
    digest: manifestDigest,
  });
});

it("keeps manifests up to its bytes, and loads one once for all who ask", async () => {
  const cache = new ManifestCache({ maxBytes: 5_000 });
  let loads = 0;
  const counting: ArtifactStore = {
    ...artifacts,
    get: (digest) => {
      loads += 1;
      return artifacts.get(digest);
    },
  };
  const made: { readonly manifestDigest: string }[] = [];
  for (const name of ["a", "b", "c", "d", "e", "f", "g", "h"])
    made.push(await applyFiles({ artifacts, files: [{ path: name, content: Buffer.from(name) }] }));
  const first = made[0] as { manifestDigest: string };
  await Promise.all([1, 2, 3].map(() => openVersion(counting, first.manifestDigest, cache)));
  await openVersion(counting, first.manifestDigest, cache);
  expect(loads).toBe(1);
  for (const { manifestDigest } of made) await openVersion(counting, manifestDigest, cache);
  expect(loads).toBe(made.length);
  expect(cache.bytes).toBeLessThanOrEqual(5_000);
  await openVersion(counting, first.manifestDigest, cache);
  expect(loads).toBe(made.length + 1);
});
