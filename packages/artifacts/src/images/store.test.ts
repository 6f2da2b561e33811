import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { folderName } from "./names.ts";
import { importImage, resolveImage, verifyImage } from "./store.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "images-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const config = {
  env: { PATH: "/bin" },
  user: "node",
  workdir: "/srv",
  cmd: ["node"],
  architecture: "x64",
} as const;

async function makeTree(name: string): Promise<string> {
  const root = join(folder, name);
  await mkdir(join(root, "usr/bin"), { recursive: true });
  await writeFile(join(root, "usr/bin/tool"), "#!/bin/sh\n");
  await chmod(join(root, "usr/bin/tool"), 0o4755);
  await writeFile(
    Buffer.concat([Buffer.from(join(root, "usr/")), Buffer.from([0xff, 0x0a, 0x22])]),
    "odd name",
  );
  await symlink("usr/bin", join(root, "bin"));
  execFileSync("mkfifo", [join(root, "usr/pipe")]);
  return root;
}

const imagesDir = () => join(folder, "store");

test("an imported image resolves under every form of its name, with its configuration", async () => {
  const rootfs = await makeTree("a");
  const stored = await importImage(imagesDir(), { name: "acme:1", rootfs, config, recipe: "test" });
  expect(stored).toMatchObject({ ...config, name: "docker.io/library/acme:1" });
  expect(await resolveImage(imagesDir(), "docker.io/library/acme:1")).toEqual(stored);
  expect(await resolveImage(imagesDir(), "acme:2")).toBeUndefined();
  expect(existsSync(join(stored.rootfs, "usr/pipe"))).toBe(false);
  expect(existsSync(join(stored.rootfs, "proc"))).toBe(true);
  expect(await verifyImage(stored, "quick")).toBeUndefined();
  expect(await verifyImage(stored, "full")).toBeUndefined();
});

test("equal trees have one digest, another configuration or another byte has another (I3)", async () => {
  const rootfs = await makeTree("a");
  const first = await importImage(imagesDir(), { name: "acme:1", rootfs, config, recipe: "test" });
  const again = await importImage(imagesDir(), {
    name: "acme:2",
    rootfs: await makeTree("b"),
    config,
    recipe: "test",
  });
  expect(again.digest).toBe(first.digest);
  const root = { ...config, user: "" };
  const other = await importImage(imagesDir(), { name: "acme:1", rootfs, config: root, recipe: "test" });
  expect(other.digest).not.toBe(first.digest);
  expect((await resolveImage(imagesDir(), "acme:1"))?.digest).toBe(other.digest);
  expect(await verifyImage(first, "full")).toBeUndefined();
  await writeFile(join(rootfs, "usr/bin/tool"), "#!/bin/sH\n");
  const changed = await importImage(imagesDir(), { name: "acme:1", rootfs, config, recipe: "test" });
  expect(changed.digest).not.toBe(first.digest);
});

test("a tree changed in place is found: its shape quickly, its bytes on demand", async () => {
  const rootfs = await makeTree("a");
  const stored = await importImage(imagesDir(), {
    name: "acme:1",
    rootfs,
    config,
    recipe: "test",
    move: true,
  });
  expect(existsSync(rootfs)).toBe(false);
  writeFileSync(join(stored.rootfs, "usr/bin/tool"), "#!/bin/bo\n");
  expect(await verifyImage(stored, "quick")).toBeUndefined();
  expect(await verifyImage(stored, "full")).toContain("digest is now");
  writeFileSync(join(stored.rootfs, "usr/bin/tool"), "shorter");
  expect(await verifyImage(stored, "quick")).toContain("usr/bin/tool");
});

test("imports of one name at the same time all succeed, and one that died leaves nothing (I4)", async () => {
  const partial = join(imagesDir(), folderName("acme:1"), ".partial");
  await mkdir(join(partial, "rootfs/half"), { recursive: true });
  const trees = await Promise.all(["a", "b", "c"].map(makeTree));
  const stored = await Promise.all(
    trees.map((rootfs) => importImage(imagesDir(), { name: "acme:1", rootfs, config, recipe: "test" })),
  );
  expect(new Set(stored.map((image) => image.digest)).size).toBe(1);
  expect(existsSync(partial)).toBe(false);
});

test("an edited image.json cannot change the configuration, and a damaged list of files is no image", async () => {
  const stored = await importImage(imagesDir(), {
    name: "a",
    rootfs: await makeTree("a"),
    config,
    recipe: "test",
  });
  const record = join(dirname(stored.rootfs), "image.json");
  writeFileSync(record, readFileSync(record, "utf8").replace('"user": "node"', '"user": "root"'));
  expect((await resolveImage(imagesDir(), "a"))?.user).toBe("node");
  writeFileSync(join(dirname(stored.rootfs), "tree"), "");
  expect(await resolveImage(imagesDir(), "a")).toBeUndefined();
  const again = await importImage(imagesDir(), {
    name: "a",
    rootfs: await makeTree("b"),
    config,
    recipe: "test",
  });
  expect(again.digest).toBe(stored.digest);
});
