/** A folder that a hostile guest changes while it is saved, and manifests that somebody made up. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { filler, temporaryFolder } from "../../test/trees.ts";
import { restoreHere, saveHere } from "../../test/versions.ts";
import type { ArtifactStore } from "../artifact-store.ts";
import { createFolderStore } from "../folder-store.ts";
import { StoreAccess } from "./artifact-access.ts";
import { ContentStore } from "./content-store.ts";
import { Manifest } from "./manifest.ts";
import { encodeManifest, loadManifest } from "./manifest-artifact.ts";
import { ManifestBuilder } from "./manifest-builder.ts";
import { checkSteps } from "./manifest-check.ts";
import { openVersion } from "./open-version.ts";
import { saveTree } from "./save.ts";

let scratch: string;
let folder: string;
let artifacts: ArtifactStore;
let guest: ChildProcess | undefined;
beforeEach(() => {
  scratch = temporaryFolder();
  folder = join(scratch, "folder");
  mkdirSync(folder);
  artifacts = createFolderStore(join(scratch, "store"));
});
afterEach(async () => {
  await stopGuest();
  rmSync(scratch, { recursive: true, force: true });
});

/** A process that runs `code` again and again, with `folder` and `secret` at hand; errors of its races are its own. */
async function startGuest(code: string): Promise<void> {
  const source = `
    const fs = require("node:fs");
    const [folder, secret] = process.argv.slice(1);
    let n = 0;
    process.stdout.write("up");
    for (;;) { n += 1; try { ${code} } catch {} }
  `;
  guest = spawn(process.execPath, ["-e", source, folder, join(scratch, "secret")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(guest.stdout as NodeJS.ReadableStream, "data");
}

async function stopGuest(): Promise<void> {
  if (guest === undefined) return;
  const ended = once(guest, "exit");
  guest.kill("SIGKILL");
  await ended;
  guest = undefined;
}

it("never has what a directory or a file leads to that is swapped with a link while it is saved", async () => {
  mkdirSync(join(scratch, "secret"));
  writeFileSync(join(scratch, "secret", "password"), "the host's secret");
  mkdirSync(join(folder, "swapped"));
  writeFileSync(join(folder, "swapped", "password"), "the guest's own");
  for (let n = 0; n < 100; n += 1) writeFileSync(join(folder, `f${n}`), `${n}`);
  await startGuest(`
    fs.renameSync(folder + "/swapped", folder + "/was");
    fs.symlinkSync(secret, folder + "/swapped");
    fs.unlinkSync(folder + "/swapped");
    fs.renameSync(folder + "/was", folder + "/swapped");
    fs.unlinkSync(folder + "/swapped/password");
    fs.symlinkSync(secret + "/password", folder + "/swapped/password");
    fs.unlinkSync(folder + "/swapped/password");
    fs.writeFileSync(folder + "/swapped/password", "the guest's own");
  `);
  const kinds = new Set<string>();
  for (let n = 0; n < 400 && (n < 40 || kinds.size < 2); n += 1) {
    const saved = await saveHere({ folder, artifacts });
    const version = await openVersion(artifacts, saved.manifestDigest);
    for (const entry of version.entries()) {
      if (entry.name === "swapped") kinds.add(entry.kind);
      if (entry.name !== "password" || entry.kind !== "file") continue;
      expect(["the guest's own", ""]).toContain((await buffer(version.read(entry.pathBytes))).toString());
    }
  }
  // Otherwise there was no race.
  expect([...kinds].sort()).toEqual(["directory", "symlink"]);
});

it("saves a state of a folder that changes meanwhile, and misses nothing once it has come to rest", async () => {
  const index = join(scratch, "index");
  for (let n = 0; n < 30; n += 1) {
    mkdirSync(join(folder, `d${n % 3}`), { recursive: true });
    writeFileSync(join(folder, `d${n % 3}`, `f${n}`), filler(n, 30_000));
  }
  await startGuest(`
    const path = folder + "/d" + n % 3 + "/f" + n % 30;
    if (n % 7 === 0) fs.rmSync(path, { force: true });
    else if (n % 5 === 0) fs.appendFileSync(path, "x".repeat(n % 5000));
    else if (n % 11 === 0) fs.renameSync(path, folder + "/d" + n % 2 + "/f" + n % 29);
    else fs.writeFileSync(path, String.fromCharCode(97 + n % 26).repeat(1000 + n % 90000));
    if (n % 13 === 0) fs.renameSync(folder + "/d0", folder + "/d9"), fs.renameSync(folder + "/d9", folder + "/d0");
    if (n % 17 === 0) fs.mkdirSync(folder + "/e/e/e", { recursive: true });
    if (n % 19 === 0) fs.rmSync(folder + "/e", { recursive: true, force: true });
  `);
  let previous: { manifestDigest: string } | undefined;
  for (let n = 0; n < 15; n += 1) {
    previous = await saveTree({ folder, artifacts, index, previous });
    const restored = join(scratch, `restored-${n}`);
    if (n % 5 !== 0) continue;
    mkdirSync(restored);
    await restoreHere({ manifestDigest: previous.manifestDigest, folder: restored, artifacts });
    expect((await saveHere({ folder: restored, artifacts })).contentDigest).toBe(
      (await openVersion(artifacts, previous.manifestDigest)).contentDigest,
    );
  }
  await stopGuest();
  const last = await saveTree({ folder, artifacts, index, previous });
  expect(last.contentDigest).toBe((await saveHere({ folder, artifacts })).contentDigest);
});

it("stays on its file system", async () => {
  mkdirSync(join(folder, "mounted"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", join(folder, "mounted")], { stdio: "ignore" });
  } catch {
    return; // Without the right to mount, a guest has none either.
  }
  try {
    writeFileSync(join(folder, "mounted", "file"), "of another file system");
    const saved = await saveTree({ folder, artifacts });
    expect(saved.skipped).toEqual([expect.objectContaining({ path: "mounted", kind: "mount" })]);
    expect(saved.entryCount).toBe(1);
  } finally {
    execFileSync("umount", [join(folder, "mounted")]);
  }
});

const metadata = { uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0, size: 0 };
const directory = { ...metadata, mode: 0o040755 };
const file = { ...metadata, mode: 0o100644 };

function built(add: (builder: ManifestBuilder) => void): Buffer {
  const contents = new ContentStore(new StoreAccess(artifacts), undefined);
  const builder = new ManifestBuilder(contents, undefined);
  add(builder);
  return builder.encode("sha256:0");
}

it.each<[string, (builder: ManifestBuilder) => unknown]>([
  ["no root", () => undefined],
  ["a file as root", (b) => b.add(0, "", file, -1)],
  ["a name ..", (b) => b.add(1, "..", file, -1)],
  ["a name .", (b) => b.add(1, ".", file, -1)],
  ["an empty name", (b) => b.add(1, "", file, -1)],
  ["a slash in a name", (b) => b.add(1, "a/../../b", file, -1)],
  ["a NUL in a name", (b) => b.add(1, "a\0b", file, -1)],
  ["an entry below a file", (b) => [b.add(1, "a", file, -1), b.add(2, "b", file, -1)]],
  [
    "an entry below a link",
    (b) => [
      b.add(1, "a", { ...metadata, mode: 0o120777, target: "/etc", size: 4 }, -1),
      b.add(2, "b", file, -1),
    ],
  ],
  ["an entry two levels down", (b) => b.add(2, "a", file, -1)],
  ["a second root", (b) => b.add(0, "", directory, -1)],
  ["a name twice", (b) => [b.add(1, "a", file, -1), b.add(1, "a", file, -1)]],
  ["names out of order", (b) => [b.add(1, "b", file, -1), b.add(1, "a", file, -1)]],
  ["a device", (b) => b.add(1, "a", { ...metadata, mode: 0o020644 }, -1)],
  ["a link without a target", (b) => b.add(1, "a", { ...metadata, mode: 0o120777 }, -1)],
  ["a target of a file", (b) => b.add(1, "a", { ...file, target: "x" }, -1)],
  ["a target with a NUL", (b) => b.add(1, "a", { ...metadata, mode: 0o120777, target: "a\0b" }, -1)],
  ["a size without content", (b) => b.add(1, "a", { ...file, size: 5 }, -1)],
  ["a size that is no number", (b) => b.add(1, "a", { ...file, size: Number.NaN }, -1)],
  ["a size below zero", (b) => b.add(1, "a", { ...file, size: -1 }, -1)],
  ["a link to a directory", (b) => [b.add(1, "a", directory, -1), b.addLink(1, "b", 1, file)]],
  ["extents beyond the end", (b) => b.add(1, "a", { ...file, extents: Float64Array.of(0, 10) }, -1)],
  ["nanoseconds of more than a second", (b) => b.add(1, "a", { ...file, mtimeNanoseconds: 1e9 }, -1)],
])("refuses a manifest with %s", async (what, add) => {
  const raw = built((builder) => {
    if (!/root/.test(what) || what === "a second root") builder.add(0, "", directory, -1);
    add(builder);
  });
  expect(() => new Manifest(raw)).toThrow();
  const { digest, bytes } = encodeManifest(raw, undefined);
  await new StoreAccess(artifacts).store(digest, bytes);
  await expect(openVersion(artifacts, digest)).rejects.toMatchObject({ reason: "artifact_corrupt" });
});

it("lets others have their turn while it looks through a large manifest", () => {
  const raw = built((builder) => {
    builder.add(0, "", directory, -1);
    for (let n = 0; n < 100_000; n += 1) builder.add(1, `d${String(n).padStart(6, "0")}`, directory, -1);
  });
  // Of names and of entries, after every 32,768.
  expect([...checkSteps(new Manifest(raw, { checked: true }))]).toHaveLength(3 + 3);
});

it("reads a damaged manifest as damaged or as one that can be walked, and never breaks", async () => {
  mkdirSync(join(folder, "d/e"), { recursive: true });
  for (let n = 0; n < 5; n += 1) writeFileSync(join(folder, "d", `f${n}`), filler(n, 100 + n * 400_000));
  const saved = await saveHere({ folder, artifacts });
  const { manifest } = await loadManifest(new StoreAccess(artifacts), saved.manifestDigest);
  const flips = fc.array(
    fc.tuple(fc.nat({ max: manifest.raw.length - 1 }), fc.integer({ min: 1, max: 255 })),
    {
      minLength: 1,
      maxLength: 4,
    },
  );
  await fc.assert(
    fc.asyncProperty(flips, async (changes) => {
      const raw = Buffer.from(manifest.raw);
      for (const [at, by] of changes) raw[at] = (raw[at] as number) ^ by;
      try {
        new Manifest(raw);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
        return;
      }
      const { digest, bytes } = encodeManifest(raw, undefined);
      await new StoreAccess(artifacts).store(digest, bytes);
      const version = await openVersion(artifacts, digest);
      for (const { path } of version.entries()) expect(path).not.toMatch(/(^|\/)\.\.(\/|$)|^\//);
      const restored = join(scratch, "in", "restored");
      mkdirSync(restored, { recursive: true });
      await restoreHere({ manifestDigest: digest, folder: restored, artifacts }).catch((error: Error) => {
        expect(error.name).toBe("WorkspaceVersionError");
      });
      rmSync(join(scratch, "in"), { recursive: true });
    }),
    { numRuns: 120 },
  );
});

it("refuses to make a version whose links' targets would fill the memory of who reads it", async () => {
  const contents = new ContentStore(new StoreAccess(artifacts, undefined), undefined);
  const builder = new ManifestBuilder(contents, undefined);
  const metadata = { uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0 };
  builder.add(0, "", { ...metadata, mode: 0o040755, size: 0 }, -1);
  const link = { ...metadata, mode: 0o120777, size: 4095, target: "x".repeat(4095) };
  expect(() => {
    for (let n = 0; n < 40_000; n += 1) builder.add(1, `${100_000 + n}`, link, -1);
  }).toThrow(expect.objectContaining({ reason: "too_large" }));
  await contents.discard();
});
