/**
 * Merged root filesystems: the image with the guest base layer on top (see host/guest-base.ts), mounted read-only once
 * per image and set of mount points, and shared by all guests that need it.
 *
 *  R1  A root is mounted while a guest uses it; the `idleRootsKept` last used ones stay mounted for the next guest.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { IsolationError } from "../errors.ts";
import { type MountPoint, writeGuestBase } from "../host/guest-base.ts";
import { mountOverlay, unmount } from "../host/mounts.ts";
import type { GuestMount, GuestSpec } from "../isolation.ts";
import type { GvisorSettings } from "./options.ts";

const idleRootsKept = 16;

interface Root {
  readonly directory: string;
  /** Resolves when mounted. */
  readonly ready: Promise<void>;
  users: number;
}

export interface RootLease {
  /** The layer to put on top of the image, for overlays of the caller's own. */
  readonly base: string;
  /** The mounted read-only tree. */
  readonly merged: string;
  release(): Promise<void>;
}

export class RootStore {
  readonly #settings: GvisorSettings;
  /** Least recently used first. */
  readonly #roots = new Map<string, Root>();

  constructor(settings: GvisorSettings) {
    this.#settings = settings;
  }

  async lease(spec: GuestSpec): Promise<RootLease> {
    const mountPoints = await Promise.all(spec.mounts.map(mountPointOf));
    const extraCaPem = await this.#extraCaPem();
    const key = createHash("sha256")
      .update(JSON.stringify([spec.root.path, spec.root.digest, mountPoints, extraCaPem]))
      .digest("hex")
      .slice(0, 20);
    const root = this.#roots.get(key) ?? this.#open(key, spec.root.path, mountPoints, extraCaPem);
    this.#roots.delete(key);
    this.#roots.set(key, root);
    root.users += 1;
    const release = async () => {
      root.users -= 1;
      await this.#evict(idleRootsKept);
    };
    try {
      await root.ready;
    } catch (error) {
      if (this.#roots.get(key) === root) this.#roots.delete(key);
      await this.#drop(root);
      throw error;
    }
    return { base: path.join(root.directory, "base"), merged: path.join(root.directory, "merged"), release };
  }

  /** Unmount every root that no guest uses. */
  async close(): Promise<void> {
    await this.#evict(0);
  }

  async #extraCaPem(): Promise<string | undefined> {
    const file = this.#settings.extraCaCertificates;
    if (file === undefined) return undefined;
    return readFile(file, "utf8").catch((error) => {
      throw new IsolationError("host", `cannot read the extra CA certificates ${file}`, { cause: error });
    });
  }

  #open(key: string, image: string, mountPoints: MountPoint[], extraCaPem: string | undefined): Root {
    const directory = path.join(this.#settings.rootsDir, key);
    return { directory, ready: this.#mount(directory, image, mountPoints, extraCaPem), users: 0 };
  }

  async #mount(
    directory: string,
    image: string,
    mountPoints: MountPoint[],
    extraCaPem: string | undefined,
  ): Promise<void> {
    const base = path.join(directory, "base");
    await rm(base, { recursive: true, force: true });
    await mkdir(base, { recursive: true });
    await writeGuestBase({ root: image, base, mountPoints, extraCaPem });
    await mountOverlay({ lowers: [base, image], target: path.join(directory, "merged") });
  }

  async #evict(keep: number): Promise<void> {
    const idle = [...this.#roots].filter(([, root]) => root.users === 0);
    for (const [key, root] of idle.slice(0, Math.max(0, idle.length - keep))) {
      this.#roots.delete(key);
      await this.#drop(root);
    }
  }

  async #drop(root: Root): Promise<void> {
    await unmount(path.join(root.directory, "merged"));
    await rm(root.directory, { recursive: true, force: true });
  }
}

async function mountPointOf(mount: GuestMount): Promise<MountPoint> {
  if (mount.source.kind === "tmpfs") return { destination: mount.destination, kind: "directory" };
  const source = mount.source.path;
  const found = await stat(source).catch((error) => {
    throw new IsolationError("spec", `cannot mount ${source} on ${mount.destination}`, { cause: error });
  });
  return { destination: mount.destination, kind: found.isDirectory() ? "directory" : "file" };
}
