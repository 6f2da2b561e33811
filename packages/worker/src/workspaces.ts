/**
 * The workspaces on this worker: one disk of bounded size each, mounted while a guest uses it, and what is known of it.
 *
 *     <dir>/disks/<workspace id>          kept between guests
 *     <dir>/disks/fresh-<uuid>            mounted in a pooled guest, or being restored; becomes a workspace's by renaming,
 *                                         or is removed
 *     <dir>/states/<workspace id>.json    which saved version the disk is of (workspace-state.ts)
 *     <dir>/states/<workspace id>.index   what its files looked like when they were saved or restored
 *     <dir>/mounts/<uuid>                 mount points
 *
 *  I1  One user of a workspace's disk at a time (`use`).
 *  I2  A fresh disk of a dead worker is removed at start; a workspace's disk only when its files are a saved version's.
 *  I3  A disk is used as it is when it is clean and of the version that is asked for, or when it has unsaved changes of that
 *      version and no other worker had the workspace since. Else the version is restored into a fresh disk.
 *  I4  A disk counts as changed from before a guest can write to it until it is saved with no guest on it.
 *  I5  A restore that fails, or is cut by a crash, leaves no disk.
 */
import { randomUUID } from "node:crypto";
import { chmod, chown, mkdir, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { VersionRef } from "@helmr/api";
import type { ArtifactStore } from "@helmr/artifacts";
import { restoreTree } from "@helmr/artifacts/versions";
import { createWorkspaceDisk, mountDisk, recoverDisks, removeTree, unmountDisk } from "@helmr/isolation";
import { secondsSince, type WorkerMetrics } from "@helmr/telemetry";
import pLimit from "p-limit";
import type { ReachPoint } from "./debug-points.ts";
import { KeyedLock } from "./keyed-lock.ts";
import { readWorkspaceState, thisBoot, type WorkspaceState, writeWorkspaceState } from "./workspace-state.ts";

export interface MountedDisk {
  readonly mountPoint: string;
  /** Where the disk lies now; changes when a fresh one is adopted. */
  diskPath: string;
  /** The saved version that its files come from; undefined: none. */
  base: VersionRef | undefined;
}

export interface DiskSpec {
  readonly sizeMib: number;
  /** Owner of the workspace folder: the image's user. */
  readonly owner: { readonly uid: number; readonly gid: number };
}

/** What a disk must hold. */
export interface WantedFiles {
  /** Absent: an empty workspace. */
  readonly base: VersionRef | undefined;
  /** This worker had the workspace last: unsaved changes on its disk count. */
  readonly isHere: boolean;
  readonly reach: ReachPoint;
  readonly signal?: AbortSignal | undefined;
}

export interface WorkspacesOptions {
  readonly dir: string;
  readonly artifacts: ArtifactStore;
  readonly loopDevices: () => Promise<boolean>;
  /** Clean disks are removed, the longest unused first, while less than this part of the file system is free. Default 0.1. */
  readonly freeShare?: number;
  readonly metrics?: WorkerMetrics | undefined;
}

/** Restores at a time: each keeps a thread and the object store busy. */
const restores = 2;
const defaultFreeShare = 0.1;

export class Workspaces {
  readonly #options: WorkspacesOptions;
  readonly #disksDir: string;
  readonly #statesDir: string;
  readonly #mountsDir: string;
  readonly #lock = new KeyedLock();
  /** Users of each workspace, with those that wait. */
  readonly #users = new Map<string, number>();
  readonly #restoring = pLimit(restores);

  constructor(options: WorkspacesOptions) {
    this.#options = options;
    this.#disksDir = join(options.dir, "disks");
    this.#statesDir = join(options.dir, "states");
    this.#mountsDir = join(options.dir, "mounts");
  }

  /** Unmount what a dead worker left and remove its unused disks (I2). */
  async recover(): Promise<void> {
    for (const dir of [this.#disksDir, this.#statesDir, this.#mountsDir])
      await mkdir(dir, { recursive: true, mode: 0o700 });
    await recoverDisks(this.#options.dir);
    for (const name of await readdir(this.#mountsDir)) await removeTree(join(this.#mountsDir, name));
    for (const name of await readdir(this.#disksDir)) {
      if (name.startsWith("fresh-")) await removeTree(join(this.#disksDir, name));
      else if (await this.#isOfEarlierBoot(name)) await this.remove(name);
    }
  }

  /** Run `work` as the only user of the workspace's disk on this worker (I1). */
  async use<T>(workspaceId: string, work: () => Promise<T>): Promise<T> {
    this.#users.set(workspaceId, (this.#users.get(workspaceId) ?? 0) + 1);
    try {
      return await this.#lock.with(workspaceId, work);
    } finally {
      const left = (this.#users.get(workspaceId) ?? 1) - 1;
      if (left === 0) this.#users.delete(workspaceId);
      else this.#users.set(workspaceId, left);
    }
  }

  /** I3: whether the workspace's disk is here and holds these files. */
  async holds(workspaceId: string, { base, isHere }: Pick<WantedFiles, "base" | "isHere">): Promise<boolean> {
    if (!(await exists(this.#diskOf(workspaceId)))) return false;
    const { manifestDigest, isClean } = await this.#stateOf(workspaceId);
    return manifestDigest === (base?.manifest_digest ?? null) && (isClean || isHere);
  }

  /**
   * Mount the workspace's disk with these files (I3). Call inside `use`. Rejects with a WorkspaceVersionError when the
   * version cannot be restored (I5).
   */
  async open(workspaceId: string, spec: DiskSpec, files: WantedFiles): Promise<MountedDisk> {
    if (await this.holds(workspaceId, files)) {
      await this.note(workspaceId, files.base, false); // I4
      return await this.#mount(this.#diskOf(workspaceId), files.base);
    }
    const disk = await this.createFresh(spec);
    try {
      await this.adopt(disk, workspaceId, files);
    } catch (error) {
      await this.discard(disk);
      throw error;
    }
    return disk;
  }

  /** Forget what is here of the workspace: another worker has had it since. Call inside `use`. */
  async remove(workspaceId: string): Promise<void> {
    const disk = this.#diskOf(workspaceId);
    await removeTree(disk);
    for (const path of [this.#statePath(workspaceId), this.indexOf(workspaceId)])
      await rm(path, { force: true });
  }

  /** A mounted empty disk that belongs to no workspace yet. */
  async createFresh(spec: DiskSpec): Promise<MountedDisk> {
    await this.removeClean(() => this.#hasRoom());
    return await this.#create(join(this.#disksDir, `fresh-${randomUUID()}`), spec);
  }

  /**
   * Make a fresh disk, with the wanted version's files in it, the workspace's. What was here of the workspace is removed.
   * When it rejects, the disk is the caller's to discard.
   */
  async adopt(disk: MountedDisk, workspaceId: string, files: WantedFiles): Promise<void> {
    const { base, reach, signal } = files;
    await this.remove(workspaceId);
    if (base !== undefined) {
      await this.fill(disk, workspaceId, base, signal);
      await reach("workspace.restored");
    }
    await this.settle(disk, workspaceId, base);
    if (base !== undefined) await reach("workspace.adopted");
  }

  /** A fresh disk has the files of `base`: from now on it is the workspace's. A rename, so that its mount stays. */
  async settle(disk: MountedDisk, workspaceId: string, base: VersionRef | undefined): Promise<void> {
    if (base !== undefined) await this.note(workspaceId, base, false);
    const diskPath = this.#diskOf(workspaceId);
    await rename(disk.diskPath, diskPath);
    disk.diskPath = diskPath;
    disk.base = base;
  }

  /** Restore a version into an empty disk. */
  async fill(
    { mountPoint }: MountedDisk,
    workspaceId: string,
    base: VersionRef,
    signal?: AbortSignal,
  ): Promise<void> {
    const { artifacts } = this.#options;
    const index = this.indexOf(workspaceId);
    await this.#restoring(async () => {
      const from = performance.now();
      await restoreTree({
        manifestDigest: base.manifest_digest,
        folder: mountPoint,
        artifacts,
        index,
        signal,
      });
      this.#options.metrics?.workspaceRestore.observe(secondsSince(from));
    });
  }

  /** What the workspace's disk holds from now on. `isClean`: nothing else, and no guest is on it (I4). */
  async note(workspaceId: string, base: VersionRef | undefined, isClean: boolean): Promise<void> {
    const manifestDigest = base?.manifest_digest ?? null;
    await writeWorkspaceState(this.#statePath(workspaceId), { manifestDigest, isClean });
  }

  /** Whether what is here of the workspace is a saved version's, or nothing. */
  async isClean(workspaceId: string): Promise<boolean> {
    return !(await exists(this.#diskOf(workspaceId))) || (await this.#stateOf(workspaceId)).isClean;
  }

  /** For `saveTree`. */
  indexOf(workspaceId: string): string {
    return join(this.#statesDir, `${checkedId(workspaceId)}.index`);
  }

  /** Unmount; the content stays. */
  async close(disk: MountedDisk): Promise<void> {
    await unmountDisk(disk.mountPoint);
    await rm(disk.mountPoint, { recursive: true, force: true });
  }

  /** Unmount and remove a fresh disk that no run took. */
  async discard(disk: MountedDisk): Promise<void> {
    await this.close(disk);
    await this.removeDisk(disk);
  }

  /** Remove an unmounted disk. */
  async removeDisk(disk: MountedDisk): Promise<void> {
    await removeTree(disk.diskPath);
  }

  async #create(diskPath: string, spec: DiskSpec): Promise<MountedDisk> {
    await createWorkspaceDisk({
      path: diskPath,
      sizeMib: spec.sizeMib,
      loopDevices: await this.#options.loopDevices(),
    });
    const disk = await this.#mount(diskPath, undefined);
    await chown(disk.mountPoint, spec.owner.uid, spec.owner.gid);
    await chmod(disk.mountPoint, 0o755);
    return disk;
  }

  async #mount(diskPath: string, base: VersionRef | undefined): Promise<MountedDisk> {
    const mountPoint = join(this.#mountsDir, randomUUID());
    await mountDisk(diskPath, mountPoint);
    return { mountPoint, diskPath, base };
  }

  /** Without a file: a disk of no version that a guest has had. */
  async #stateOf(workspaceId: string): Promise<Omit<WorkspaceState, "boot">> {
    const state = await readWorkspaceState(this.#statePath(workspaceId));
    return state ?? { manifestDigest: null, isClean: false };
  }

  /** A clean disk that a host has crashed under may have lost what it held: it can be restored, so it is not trusted. */
  async #isOfEarlierBoot(workspaceId: string): Promise<boolean> {
    if (!isId(workspaceId)) return false;
    const state = await readWorkspaceState(this.#statePath(workspaceId));
    return state?.isClean === true && state.boot !== (await thisBoot());
  }

  /** Remove clean disks that nobody uses, the longest unused first, until `isEnough`. */
  async removeClean(isEnough: () => Promise<boolean>): Promise<void> {
    if (await isEnough()) return;
    for (const workspaceId of await this.#leastRecentlyUsed()) {
      if (this.#users.has(workspaceId)) continue;
      await this.use(workspaceId, async () => {
        if ((await this.#stateOf(workspaceId)).isClean) await this.remove(workspaceId);
      });
      if (await isEnough()) return;
    }
  }

  async #hasRoom(): Promise<boolean> {
    const { bavail, blocks } = await statfs(this.#disksDir);
    return bavail >= blocks * (this.#options.freeShare ?? defaultFreeShare);
  }

  async #leastRecentlyUsed(): Promise<string[]> {
    const names = (await readdir(this.#statesDir)).flatMap((name) => /^(.*)\.json$/.exec(name)?.[1] ?? []);
    const used = await Promise.all(
      names.filter(isId).map(async (id) => {
        const stats = await stat(this.#statePath(id)).catch(() => undefined);
        return { id, at: stats?.mtimeMs ?? 0 };
      }),
    );
    return used.sort((a, b) => a.at - b.at).map(({ id }) => id);
  }

  #diskOf(workspaceId: string): string {
    return join(this.#disksDir, checkedId(workspaceId));
  }

  #statePath(workspaceId: string): string {
    return join(this.#statesDir, `${checkedId(workspaceId)}.json`);
  }
}

function isId(text: string): boolean {
  return /^[0-9a-f-]{36}$/i.test(text);
}

function checkedId(workspaceId: string): string {
  if (!isId(workspaceId)) throw new Error("a workspace id must be a UUID");
  return workspaceId.toLowerCase();
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
