/** Workspace disks on this host's loop devices. Needs root. */
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createWorkspaceDisk, mountDisk, probeLoopDisks, recoverDisks, unmountDisk } from "./disk.ts";
import { isMountPoint, listMountPoints } from "./mounts.ts";

let folder = "";
let loopDevices = true;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "helmr-disk-"));
  loopDevices = (await probeLoopDisks(folder)).ok;
});

afterEach(async () => {
  await recoverDisks(folder);
  expect((await listMountPoints()).filter((target) => target.startsWith(folder))).toEqual([]);
  await rm(folder, { recursive: true });
});

it("keeps its content over an unmount and is empty at first", async () => {
  const disk = await createWorkspaceDisk({ path: path.join(folder, "disk"), sizeMib: 16, loopDevices });
  const mountPoint = path.join(folder, "mount");
  await mountDisk(disk.path, mountPoint);
  await mountDisk(disk.path, mountPoint);
  expect(await readdir(mountPoint)).toEqual([]);
  await writeFile(path.join(mountPoint, "file"), "kept");
  await unmountDisk(mountPoint);
  await unmountDisk(mountPoint);
  await mountDisk(disk.path, mountPoint);
  expect(await readFile(path.join(mountPoint, "file"), "utf8")).toBe("kept");
});

it("is bounded and sparse", async ({ skip }) => {
  if (!loopDevices) skip("no loop devices here");
  const disk = await createWorkspaceDisk({ path: path.join(folder, "disk"), sizeMib: 16, loopDevices });
  expect((await stat(disk.path)).blocks * 512).toBeLessThan(4 << 20);
  const mountPoint = path.join(folder, "mount");
  await mountDisk(disk.path, mountPoint);
  const write = writeFile(path.join(mountPoint, "big"), Buffer.alloc(32 << 20));
  await expect(write).rejects.toThrow(/ENOSPC/);
});

it("is a folder where there are no loop devices", async () => {
  const disk = await createWorkspaceDisk({
    path: path.join(folder, "disk"),
    sizeMib: 16,
    loopDevices: false,
  });
  expect(disk.kind).toBe("folder");
  const mountPoint = path.join(folder, "mount");
  await mountDisk(disk.path, mountPoint);
  await writeFile(path.join(mountPoint, "file"), "x");
  expect(await readdir(disk.path)).toEqual(["file"]);
});

it("recovers mounts and loop devices below a folder", async ({ skip }) => {
  if (!loopDevices) skip("no loop devices here");
  const disk = await createWorkspaceDisk({ path: path.join(folder, "disk"), sizeMib: 16, loopDevices });
  const other = await createWorkspaceDisk({ path: path.join(folder, "other"), sizeMib: 16, loopDevices });
  await mountDisk(disk.path, path.join(folder, "mount"));
  await execa("losetup", ["--find", other.path]);
  expect(await recoverDisks(folder)).toBe(1);
  expect(await isMountPoint(path.join(folder, "mount"))).toBe(false);
  expect((await execa("losetup", ["-a"])).stdout).not.toContain(folder);
});

it("refuses a size ext4 cannot have", async () => {
  const tiny = createWorkspaceDisk({ path: path.join(folder, "disk"), sizeMib: 1, loopDevices: true });
  await expect(tiny).rejects.toThrow(/at least 8 MiB/);
});
