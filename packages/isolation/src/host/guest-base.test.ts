/** The layer on top of an image, over images that are hostile or unusual. */
import { chmod, lstat, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { writeGuestBase } from "./guest-base.ts";

let folder = "";
let root = "";
let base = "";

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "helmr-base-"));
  root = path.join(folder, "root");
  base = path.join(folder, "base");
  await mkdir(path.join(root, "etc"), { recursive: true });
  await mkdir(base);
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

const write = (mountPoints: Parameters<typeof writeGuestBase>[0]["mountPoints"] = [], extraCaPem?: string) =>
  writeGuestBase({ root, base, mountPoints, extraCaPem });

it("merges the extra certificates into the bundle the image has", async () => {
  await mkdir(path.join(root, "etc/pki/tls/certs"), { recursive: true });
  await writeFile(path.join(root, "etc/pki/tls/certs/ca-bundle.crt"), "IMAGE\n");
  await write([], "EXTRA\n");
  for (const file of ["etc/pki/tls/certs/ca-bundle.crt", "etc/helmr/ca-bundle.crt"]) {
    expect(await readFile(path.join(base, file), "utf8")).toBe("IMAGE\nEXTRA\n");
  }
});

it("makes a bundle where the image has none", async () => {
  await write([], "EXTRA\n");
  expect(await readFile(path.join(base, "etc/ssl/certs/ca-certificates.crt"), "utf8")).toBe("EXTRA\n");
});

it("follows links of the image inside the image only", async () => {
  const outside = path.join(folder, "outside");
  await mkdir(outside);
  await symlink(outside, path.join(root, "evil"));
  await symlink("../../../../../..", path.join(root, "up"));
  await write([
    { destination: "/evil/mount", kind: "directory" },
    { destination: "/up/mount", kind: "directory" },
  ]);
  expect((await lstat(path.join(base, outside, "mount"))).isDirectory()).toBe(true);
  expect((await lstat(path.join(base, "mount"))).isDirectory()).toBe(true);
  await expect(lstat(path.join(outside, "mount"))).rejects.toThrow(/ENOENT/);
});

it("refuses a loop of links and a mount of the wrong kind", async () => {
  await symlink("loop", path.join(root, "loop"));
  await writeFile(path.join(root, "file"), "");
  await expect(write([{ destination: "/loop/x", kind: "directory" }])).rejects.toThrow(/loop of links/);
  await expect(write([{ destination: "/file", kind: "directory" }])).rejects.toThrow(
    /the image has a file there/,
  );
});

it("keeps mode and owner of the image's folders", async () => {
  await mkdir(path.join(root, "private"));
  await chmod(path.join(root, "private"), 0o2700);
  await write([{ destination: "/private/mount", kind: "directory" }]);
  expect((await lstat(path.join(base, "private"))).mode & 0o7777).toBe(0o2700);
});
