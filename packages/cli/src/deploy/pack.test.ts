import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import fc from "fast-check";
import { extract, type Header } from "tar-stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkSize, writeArchive } from "./pack.ts";
import { isAlwaysExcluded, readSourceTree } from "./source-tree.ts";

let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "helmr-pack-test-"));
});
afterEach(() => rm(scratch, { recursive: true, force: true }));

async function write(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
}

let packs = 0;
async function packed(root: string, ignorePatterns: readonly string[] = []) {
  const { entries } = await readSourceTree(root, ignorePatterns);
  packs += 1;
  const file = join(scratch, `${packs}.tar`);
  const archive = await writeArchive(root, entries, file);
  const bytes = await readFile(file);
  return { ...archive, bytes };
}

async function entriesOf(bytes: Buffer): Promise<Map<string, { header: Header; text: string }>> {
  const found = new Map<string, { header: Header; text: string }>();
  const tar = extract();
  Readable.from([bytes]).pipe(tar);
  for await (const entry of tar) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    found.set(entry.header.name, { header: entry.header, text: Buffer.concat(chunks).toString() });
  }
  return found;
}

const name = fc.stringMatching(/^[a-zäß_][a-z0-9äß.-]{0,12}$/).filter((text) => !text.endsWith("."));
const tree = fc.dictionary(
  fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => `d/${parts.join("/")}`),
  fc.string({ maxLength: 700 }),
  { maxKeys: 12 },
);
/** Drops what cannot be on one disk: a file that is another one's folder. */
const consistent = (files: Record<string, string>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(files).filter(
      ([path]) => !Object.keys(files).some((other) => other.startsWith(`${path}/`)),
    ),
  );

describe("the archive", () => {
  it("is the same for the same tree, whatever order, times and modes it was written with, and holds it all", async () => {
    let round = 0;
    await fc.assert(
      fc.asyncProperty(tree.map(consistent), async (files) => {
        round += 1;
        const [one, two] = [join(scratch, `one-${round}`), join(scratch, `two-${round}`)];
        await mkdir(one);
        await mkdir(two);
        await write(one, files);
        await write(two, Object.fromEntries(Object.entries(files).reverse()));
        for (const path of Object.keys(files)) {
          await utimes(join(two, path), 1, 1);
          await chmod(join(two, path), 0o600);
        }
        const [a, b] = [await packed(one), await packed(two)];
        expect(b.bytes.equals(a.bytes)).toBe(true);
        expect(a.contentHash).toBe(`sha256:${createHash("sha256").update(a.bytes).digest("hex")}`);
        expect(a.sizeBytes).toBe(a.bytes.length);
        const found = await entriesOf(a.bytes);
        for (const [path, text] of Object.entries(files)) {
          const excluded = path.split("/").some(isAlwaysExcluded);
          expect(found.get(path)?.text).toBe(excluded ? undefined : text);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("carries no time, owner or odd mode, and its names are in byte order", async () => {
    await write(scratch, { "p/b.ts": "b", "p/a.sh": "a", "p/Z": "z", "p/é": "e" });
    await chmod(join(scratch, "p/a.sh"), 0o711);
    const found = await entriesOf((await packed(join(scratch, "p"))).bytes);
    expect([...found.keys()]).toEqual(["Z", "a.sh", "b.ts", "é"]);
    for (const { header } of found.values()) {
      expect(header).toMatchObject({ uid: 0, gid: 0, uname: "", gname: "", mtime: new Date(0) });
    }
    expect(found.get("a.sh")?.header.mode).toBe(0o755);
    expect(found.get("b.ts")?.header.mode).toBe(0o644);
  });

  it("holds names and paths longer than a header", async () => {
    const path = `${"folder-with-a-long-name/".repeat(12)}${"n".repeat(200)}.ts`;
    await write(join(scratch, "p"), { [path]: "deep" });
    const found = await entriesOf((await packed(join(scratch, "p"))).bytes);
    expect(found.get(path)?.text).toBe("deep");
  });
});

describe("what is left out", () => {
  it("never belongs to a source, at any depth", async () => {
    const never = [
      "node_modules/x/i.js",
      ".git/HEAD",
      ".helmr/x",
      ".next/x",
      ".env",
      ".env.local",
      "a/node_modules/y",
      "a/.env.prod",
    ];
    const kept = ["a/env", ".envrc", "node_modules.txt", "a/.gitignore", "git/HEAD"];
    await write(join(scratch, "p"), Object.fromEntries([...never, ...kept].map((path) => [path, ""])));
    const found = await entriesOf((await packed(join(scratch, "p"))).bytes);
    expect([...found.keys()].filter((path) => !path.endsWith("/"))).toEqual([...kept].sort());
  });

  it("matches the project's patterns", async () => {
    const files = [
      "tasks/a.ts",
      "tasks/a.test.ts",
      "b.spec.js",
      "tasks/_draft.ts",
      "docs/x.md",
      "docs/deep/y.md",
      "data/k.json",
    ];
    await write(join(scratch, "p"), Object.fromEntries(files.map((path) => [path, ""])));
    const patterns = ["**/*.test.*", "**/*.spec.*", "**/_*.*", "./docs/", "data/**/*.{json,csv}"];
    const { entries } = await readSourceTree(join(scratch, "p"), patterns);
    expect(entries.map(({ path }) => path)).toEqual(["data", "tasks", "tasks/a.ts"]);
  });
});

describe("symbolic links", () => {
  it("are kept as links when they stay inside", async () => {
    await write(join(scratch, "p"), { "a/file": "x" });
    await symlink("../a/file", join(scratch, "p", "a", "same"));
    await symlink("a", join(scratch, "p", "folder"));
    await symlink("nowhere", join(scratch, "p", "dangling"));
    const found = await entriesOf((await packed(join(scratch, "p"))).bytes);
    expect(found.get("a/same")?.header).toMatchObject({ type: "symlink", linkname: "../a/file" });
    expect(found.get("folder")?.header).toMatchObject({ type: "symlink", linkname: "a" });
    expect(found.has("dangling")).toBe(true);
    expect([...found.keys()].filter((path) => path.startsWith("folder/"))).toEqual([]);
  });

  it.each([
    ["an absolute target", "/etc/passwd", "out"],
    ["a target above the root", "../../secret", "out"],
    ["the root's parent", "..", "out"],
    ["a way out through another link", "up/../outside", "a/out"],
  ])("are refused with %s", async (_what, target, path) => {
    await write(scratch, { "p/a/b/file": "x", outside: "secret" });
    await symlink("..", join(scratch, "p", "a", "up"));
    await symlink(target, join(scratch, "p", path));
    await expect(readSourceTree(join(scratch, "p"), [])).rejects.toThrow(/is a link out of the project/);
  });
});

describe("the limit", () => {
  it("is said before packing, with the largest files", () => {
    const file = { kind: "file", path: "big.bin", sizeBytes: 128 * 1024 * 1024, executable: false } as const;
    expect(() => checkSize([file], 128 * 1024 * 1024)).toThrow(/too large[\s\S]*128\.0 MiB {2}big\.bin/);
    expect(() => checkSize([{ ...file, sizeBytes: 127 * 1024 * 1024 }], 128 * 1024 * 1024)).not.toThrow();
  });

  it("counts no less than the archive is", async () => {
    await write(join(scratch, "p"), { "a/b": "x".repeat(513), [`${"n".repeat(150)}`]: "" });
    const { entries } = await readSourceTree(join(scratch, "p"), []);
    const { sizeBytes } = await packed(join(scratch, "p"));
    expect(() => checkSize(entries, sizeBytes)).toThrow();
  });
});

it("a file that changes its size while it is packed is an error", async () => {
  await write(join(scratch, "p"), { file: "content" });
  const { entries } = await readSourceTree(join(scratch, "p"), []);
  await writeFile(join(scratch, "p", "file"), "other content, longer");
  await expect(writeArchive(join(scratch, "p"), entries, join(scratch, "x.tar"))).rejects.toThrow(
    /cannot pack file/,
  );
});
