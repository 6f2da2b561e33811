/**
 * Folders in memory for what must never lie on a disk in plain: saved guests on their way into and out of an archive.
 *
 *  I1  The staging area is a tmpfs of its own, made at start; what a dead worker left in one goes with its unmounting.
 *  I2  A folder is removed by whoever took it, whatever happened.
 */
import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { mountTmpfs, unmount } from "@helmr/isolation";

export class Staging {
  readonly #dir: string;
  readonly #sizeMib: number;

  constructor(options: { readonly dir: string; readonly sizeMib: number }) {
    this.#dir = options.dir;
    this.#sizeMib = options.sizeMib;
  }

  /** I1 */
  async open(): Promise<void> {
    await unmount(this.#dir);
    await rm(this.#dir, { recursive: true, force: true });
    await mountTmpfs(this.#dir, this.#sizeMib);
  }

  async close(): Promise<void> {
    await unmount(this.#dir);
  }

  /** An empty folder of one's own for the time of `work` (I2). */
  async folder<T>(work: (folder: string) => Promise<T>): Promise<T> {
    const folder = join(this.#dir, randomUUID());
    await mkdir(folder, { mode: 0o700 });
    try {
      return await work(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}
