/**
 * The live copies of workspaces on this worker: one disk of bounded size each, mounted while a guest uses it.
 *
 *     <dir>/disks/<workspace id>      kept between runs
 *     <dir>/disks/fresh-<uuid>        mounted in a pooled guest; becomes a workspace's by renaming, or is removed
 *     <dir>/mounts/<uuid>             mount points
 *
 *  I1  One user of a workspace's disk at a time (`use`).
 *  I2  A fresh disk of a dead worker is removed at start; a workspace's disk never is.
 */
import { randomUUID } from "node:crypto";
import { chmod, chown, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { createWorkspaceDisk, mountDisk, recoverDisks, removeTree, unmountDisk } from "@helmr/isolation";
import { KeyedLock } from "./keyed-lock.ts";

export interface MountedDisk {
  readonly mountPoint: string;
  /** Where the disk lies now; changes when a fresh one is adopted. */
  diskPath: string;
}

export interface DiskSpec {
  readonly sizeMib: number;
  /** Owner of the workspace folder: the image's user. */
  readonly owner: { readonly uid: number; readonly gid: number };
}

export class Workspaces {
  readonly #disksDir: string;
  readonly #mountsDir: string;
  readonly #dir: string;
  readonly #loopDevices: () => Promise<boolean>;
  readonly #lock = new KeyedLock();

  constructor(options: { readonly dir: string; readonly loopDevices: () => Promise<boolean> }) {
    this.#dir = options.dir;
    this.#disksDir = join(options.dir, "disks");
    this.#mountsDir = join(options.dir, "mounts");
    this.#loopDevices = options.loopDevices;
  }

  /** Unmount what a dead worker left and remove its unused disks (I2). */
  async recover(): Promise<void> {
    await mkdir(this.#disksDir, { recursive: true, mode: 0o700 });
    await mkdir(this.#mountsDir, { recursive: true, mode: 0o700 });
    await recoverDisks(this.#dir);
    for (const name of await readdir(this.#mountsDir)) await removeTree(join(this.#mountsDir, name));
    for (const name of await readdir(this.#disksDir)) {
      if (name.startsWith("fresh-")) await removeTree(join(this.#disksDir, name));
    }
  }

  /** Run `work` as the only user of the workspace's disk on this worker (I1). */
  use<T>(workspaceId: string, work: () => Promise<T>): Promise<T> {
    return this.#lock.with(workspaceId, work);
  }

  /** Whether the workspace has content here already. */
  exists(workspaceId: string): Promise<boolean> {
    return exists(this.#diskOf(workspaceId));
  }

  /** Mount the workspace's disk, made empty when there is none. Call inside `use`. */
  async open(workspaceId: string, spec: DiskSpec): Promise<MountedDisk> {
    const diskPath = this.#diskOf(workspaceId);
    return (await exists(diskPath)) ? this.#mount(diskPath) : this.#create(diskPath, spec);
  }

  /** Forget what is here of the workspace: another worker has had it since. Call inside `use`. */
  async remove(workspaceId: string): Promise<void> {
    await removeTree(this.#diskOf(workspaceId));
  }

  /** A mounted empty disk that belongs to no workspace yet. */
  createFresh(spec: DiskSpec): Promise<MountedDisk> {
    return this.#create(join(this.#disksDir, `fresh-${randomUUID()}`), spec);
  }

  /** Make a fresh disk the workspace's: a rename, so that its mount stays. */
  async adopt(disk: MountedDisk, workspaceId: string): Promise<void> {
    const diskPath = this.#diskOf(workspaceId);
    await rename(disk.diskPath, diskPath);
    disk.diskPath = diskPath;
  }

  /** Unmount; the content stays. */
  async close(disk: MountedDisk): Promise<void> {
    await unmountDisk(disk.mountPoint);
    await rm(disk.mountPoint, { recursive: true, force: true });
  }

  /** Unmount and remove a fresh disk that no run took. */
  async discard(disk: MountedDisk): Promise<void> {
    await this.close(disk);
    await removeTree(disk.diskPath);
  }

  async #create(diskPath: string, spec: DiskSpec): Promise<MountedDisk> {
    await createWorkspaceDisk({
      path: diskPath,
      sizeMib: spec.sizeMib,
      loopDevices: await this.#loopDevices(),
    });
    const disk = await this.#mount(diskPath);
    await chown(disk.mountPoint, spec.owner.uid, spec.owner.gid);
    await chmod(disk.mountPoint, 0o755);
    return disk;
  }

  async #mount(diskPath: string): Promise<MountedDisk> {
    const mountPoint = join(this.#mountsDir, randomUUID());
    await mountDisk(diskPath, mountPoint);
    return { mountPoint, diskPath };
  }

  #diskOf(workspaceId: string): string {
    if (!/^[0-9a-f-]{36}$/i.test(workspaceId)) throw new Error("a workspace id must be a UUID");
    return join(this.#disksDir, workspaceId.toLowerCase());
  }
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
