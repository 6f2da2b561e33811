/**
 * Cache folders kept between builds: one per environment and cache id, used by one step at a time.
 *
 *     <cachesDir>/<sha256 of environment and id>.disk   a disk of bounded size
 *     <cachesDir>/<sha256 of environment and id>        where it is mounted while a step uses it
 *
 *  I1  A cache cannot fill the host: its disk holds `cacheDiskMib`; where the host has no loop devices it is a folder,
 *      which only the free-space guard of the build bounds (build-guard.ts).
 *  I2  A cache that is nearly full, or whose disk cannot be mounted, begins anew: a full one would fail every build.
 *  I3  At most `maxCaches` are kept; the least recently used that nobody uses goes first.
 */
import { createHash } from "node:crypto";
import { chmod, chown, mkdir, readdir, stat, statfs, utimes } from "node:fs/promises";
import { join } from "node:path";
import { createWorkspaceDisk, mountDisk, recoverDisks, removeTree, unmountDisk } from "@helmr/isolation";
import { KeyedLock } from "./keyed-lock.ts";

/** Sparse: it takes what is in it. A large monorepo's npm cache is 2-4 GiB. */
const cacheDiskMib = 8 * 1024;
/** I2 */
const fullFraction = 0.8;
const maxCaches = 64;

export class CacheFolders {
  readonly #dir: string;
  readonly #loopDevices: () => Promise<boolean>;
  readonly #lock = new KeyedLock();
  readonly #inUse = new Set<string>();

  constructor(options: { readonly dir: string; readonly loopDevices: () => Promise<boolean> }) {
    this.#dir = options.dir;
    this.#loopDevices = options.loopDevices;
  }

  /** Unmount what a dead worker left mounted. */
  async recover(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    await recoverDisks(this.#dir);
  }

  /** Run `work` with the folders of these caches, each locked meanwhile; new ones belong to `owner`. */
  with<T>(
    environmentId: string,
    ids: readonly string[],
    owner: { readonly uid: number; readonly gid: number },
    work: (folders: ReadonlyMap<string, string>) => Promise<T>,
  ): Promise<T> {
    const paths = new Map(ids.map((id) => [id, join(this.#dir, keyOfCache(environmentId, id))]));
    return this.#lock.withAll([...paths.values()], async () => {
      await using mounted = new AsyncDisposableStack();
      const all = new Set(paths.values());
      for (const path of all) this.#inUse.add(path);
      mounted.defer(() => {
        for (const path of all) this.#inUse.delete(path);
      });
      for (const path of all) {
        mounted.defer(() => unmountDisk(path));
        await this.#open(path, owner);
      }
      await this.#evict();
      return await work(paths);
    });
  }

  async #open(path: string, owner: { readonly uid: number; readonly gid: number }): Promise<void> {
    const disk = `${path}.disk`;
    const isKept = (await exists(disk)) && (await this.#mountKept(disk, path));
    if (!isKept) {
      await removeTree(disk);
      const loopDevices = await this.#loopDevices();
      await createWorkspaceDisk({ path: disk, sizeMib: cacheDiskMib, loopDevices });
      await mountDisk(disk, path);
      await chown(path, owner.uid, owner.gid);
      await chmod(path, 0o755);
    }
    await utimes(disk, new Date(), new Date());
  }

  /** I2: false when the cache has to begin anew. */
  async #mountKept(disk: string, path: string): Promise<boolean> {
    try {
      await mountDisk(disk, path);
    } catch {
      return false; // A host that lost power; a cache is not worth a repair.
    }
    if ((await stat(disk)).isDirectory()) return true;
    const { blocks, bavail, files, ffree } = await statfs(path);
    if (bavail > blocks * (1 - fullFraction) && ffree > files * (1 - fullFraction)) return true;
    await unmountDisk(path);
    return false;
  }

  /** Remove every cache that nobody uses: the host's disk is nearly full. */
  async removeIdle(): Promise<void> {
    const disks = (await readdir(this.#dir)).filter((name) => name.endsWith(".disk"));
    for (const name of disks) {
      const path = join(this.#dir, name.slice(0, -".disk".length));
      if (this.#inUse.has(path)) continue;
      await this.#lock.with(path, async () => {
        await removeTree(`${path}.disk`);
        await removeTree(path);
      });
    }
  }

  /** I3 */
  async #evict(): Promise<void> {
    const disks = (await readdir(this.#dir)).filter((name) => name.endsWith(".disk"));
    if (disks.length <= maxCaches) return;
    const idle = disks
      .map((name) => join(this.#dir, name.slice(0, -".disk".length)))
      .filter((path) => !this.#inUse.has(path));
    const aged = await Promise.all(
      idle.map(async (path) => ({ path, at: (await stat(`${path}.disk`)).mtimeMs })),
    );
    for (const { path } of aged.sort((a, b) => a.at - b.at).slice(0, disks.length - maxCaches)) {
      await removeTree(`${path}.disk`);
      await removeTree(path);
    }
  }
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function keyOfCache(environmentId: string, id: string): string {
  return createHash("sha256").update(`${environmentId}\0${id}`).digest("hex").slice(0, 32);
}
