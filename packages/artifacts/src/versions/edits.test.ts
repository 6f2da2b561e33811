import {
  appendFileSync,
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { describeFolder, filler, folderModel, makeFolder, temporaryFolder } from "../../test/trees.ts";
import { restoreHere, saveHere } from "../../test/versions.ts";
import type { ArtifactStore } from "../artifact-store.ts";
import { createFolderStore } from "../folder-store.ts";

let scratch: string;
let artifacts: ArtifactStore;
beforeEach(() => {
  scratch = temporaryFolder();
  artifacts = createFolderStore(join(scratch, "store"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

type Edit = { readonly kind: string; readonly at: number; readonly seed: number };

const edit: fc.Arbitrary<Edit> = fc.record({
  kind: fc.constantFrom(
    "write",
    "append",
    "truncate",
    "remove",
    "rename",
    "mkdir",
    "chmod",
    "touch",
    "link",
    "symlink",
    "none",
  ),
  at: fc.nat(),
  seed: fc.nat(),
});

/** Paths below the folder that are UTF-8, directories marked. */
function pathsOf(folder: string): { path: string; directory: boolean }[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => !name.includes("\ufffd"))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      const directory = entry.isDirectory();
      return [{ path, directory }, ...(directory ? pathsOf(path) : [])];
    });
}

function apply(folder: string, { kind, at, seed }: Edit): void {
  const all = pathsOf(folder);
  const directories = [folder, ...all.filter(({ directory }) => directory).map(({ path }) => path)];
  const files = all
    .filter(({ path, directory }) => !directory && lstatSync(path).isFile())
    .map(({ path }) => path);
  const directory = directories[at % directories.length] as string;
  const fresh = join(directory, `new-${seed}`);
  const file = files[at % Math.max(1, files.length)];
  const any = all[at % Math.max(1, all.length)]?.path;
  if (kind === "write") writeFileSync(file ?? fresh, filler(seed, seed % 3000));
  else if (kind === "append" && file) appendFileSync(file, `more ${seed}`);
  else if (kind === "truncate" && file) truncateSync(file, seed % 2_000_000);
  else if (kind === "remove" && any) rmSync(any, { recursive: true });
  else if (kind === "rename" && any && !directory.startsWith(any)) renameSync(any, fresh);
  else if (kind === "mkdir") mkdirSync(fresh, { recursive: true });
  else if (kind === "chmod" && any && !lstatSync(any).isSymbolicLink())
    chmodSync(any, 0o700 | (seed % 0o100));
  else if (kind === "touch" && file) utimesSync(file, seed % 1e9, seed % 1e9);
  else if (kind === "link" && file) linkSync(file, `${fresh}-link`);
  else if (kind === "symlink") symlinkSync(`target-${seed}`, `${fresh}-symlink`);
}

it("saves a folder after every edit, with an index and without, and restores every version", async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(
      folderModel,
      fc.array(fc.array(edit, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 6 }),
      async (model, saves) => {
        run += 1;
        const folder = join(scratch, `folder-${run}`);
        const index = join(scratch, `index-${run}`);
        makeFolder(folder, model);
        const versions: { manifestDigest: string; described: string[] }[] = [];
        let previous: { manifestDigest: string } | undefined;
        for (const edits of [[], ...saves]) {
          for (const one of edits) apply(folder, one);
          const saved = await saveHere({ folder, artifacts, index, ...(previous && { previous }) });
          const described = describeFolder(folder);
          if (previous?.manifestDigest === saved.manifestDigest) expect(saved.unchanged).toBe(true);
          const anew = await saveHere({ folder, artifacts });
          expect(saved.contentDigest).toBe(anew.contentDigest);
          versions.push({ manifestDigest: saved.manifestDigest, described });
          previous = saved;
        }
        for (const [number, { manifestDigest, described }] of versions.entries()) {
          const restored = join(scratch, `restored-${run}-${number}`);
          mkdirSync(restored);
          await restoreHere({ manifestDigest, folder: restored, artifacts });
          expect(describeFolder(restored)).toEqual(described);
          rmSync(restored, { recursive: true });
        }
        rmSync(folder, { recursive: true });
      },
    ),
    { numRuns: 10 },
  );
});

it("keeps few packs and little dead content over a long chain of saves", async () => {
  const folder = join(scratch, "folder");
  const index = join(scratch, "index");
  mkdirSync(folder);
  for (let n = 0; n < 60; n += 1) writeFileSync(join(folder, `f${n}`), filler(n, 20_000));
  let saved = await saveHere({ folder, artifacts, index });
  const early: { manifestDigest: string; described: string[] }[] = [];
  let mostArtifacts = 0;
  for (let n = 0; n < 100; n += 1) {
    writeFileSync(join(folder, `f${n % 60}`), filler(1000 + n, 20_000));
    saved = await saveHere({ folder, artifacts, index, previous: saved });
    mostArtifacts = Math.max(mostArtifacts, saved.artifacts.length);
    if (n % 20 === 0) early.push({ manifestDigest: saved.manifestDigest, described: describeFolder(folder) });
  }
  // Four classes of at most seven small packs, the manifest and its base.
  expect(mostArtifacts).toBeLessThanOrEqual(4 * 7 + 3);
  const restored = join(scratch, "restored");
  for (const { manifestDigest, described } of early) {
    mkdirSync(restored);
    await restoreHere({ manifestDigest, folder: restored, artifacts });
    expect(describeFolder(restored)).toEqual(described);
    rmSync(restored, { recursive: true });
  }
});

it("stores nothing again that moved, was copied, or is in another workspace", async () => {
  const [a, b] = [join(scratch, "a"), join(scratch, "b")];
  for (const folder of [a, b]) {
    mkdirSync(join(folder, "x"), { recursive: true });
    for (let n = 0; n < 300; n += 1) writeFileSync(join(folder, "x", `f${n}`), filler(n, 60_000));
    writeFileSync(join(folder, "huge"), filler(7, 17 * 1024 * 1024));
  }
  const first = await saveHere({ folder: a, artifacts });
  const other = await saveHere({ folder: b, artifacts });
  const packs = (version: { artifacts: string[] }) => version.artifacts.slice(1);
  expect(packs(other)).toEqual(packs(first));
  expect(packs(first).length).toBeGreaterThan(3);
  // Its times are its own, so it has a manifest of its own.
  expect(other.storedBytes).toBeLessThan(50_000);

  renameSync(join(a, "x"), join(a, "y"));
  writeFileSync(join(a, "copy"), filler(5, 60_000));
  const moved = await saveHere({ folder: a, artifacts, previous: first });
  expect(
    packs(moved).filter((digest) => !first.artifacts.includes(digest) && digest !== first.manifestDigest),
  ).toEqual([]);
});
