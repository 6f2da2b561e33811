/**
 * Deployed sources, unpacked once per digest and mounted read-only into guests.
 *
 *     <dir>/<first 32 hex of the digest>
 *
 *  I1  A folder appears complete, by one rename.
 *  I3  Every worker unpacks a source with the same times: a guest that is saved here may go on elsewhere.
 *  I2  At most `kept` unused sources stay; one that a guest may use is never removed (`hold`).
 */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { type ArtifactStore, extractDeploymentSource } from "@helmr/artifacts";
import { fixedTime, setFixedTimes } from "@helmr/guest";
import { KeyedLock } from "./keyed-lock.ts";

const kept = 32;

export class SourceCache {
  readonly #dir: string;
  readonly #artifacts: ArtifactStore;
  readonly #lock = new KeyedLock();
  readonly #users = new Map<string, number>();

  constructor(options: { readonly dir: string; readonly artifacts: ArtifactStore }) {
    this.#dir = options.dir;
    this.#artifacts = options.artifacts;
  }

  async recover(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o755 });
    for (const name of await readdir(this.#dir)) {
      if (name.startsWith(".partial-")) await rm(join(this.#dir, name), { recursive: true, force: true });
    }
  }

  /** The unpacked source; call the returned `release` when no guest uses the folder any more. */
  async hold(digest: string): Promise<{ readonly path: string; release(): void }> {
    const name = nameOf(digest);
    const path = join(this.#dir, name);
    this.#users.set(name, (this.#users.get(name) ?? 0) + 1);
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      const left = (this.#users.get(name) ?? 1) - 1;
      if (left === 0) this.#users.delete(name);
      else this.#users.set(name, left);
    };
    try {
      await this.#lock.with(name, () => this.#ensure(digest, path));
    } catch (error) {
      release();
      throw error;
    }
    return { path, release };
  }

  async #ensure(digest: string, path: string): Promise<void> {
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) {
      const partial = join(this.#dir, `.partial-${randomUUID()}`);
      try {
        await mkdir(partial, { mode: 0o755 });
        await extractDeploymentSource(await this.#artifacts.get(digest), partial);
        await setFixedTimes(partial);
        await rename(partial, path); // I1
      } finally {
        await rm(partial, { recursive: true, force: true });
      }
      await this.#evict();
    }
    await utimes(path, new Date(), fixedTime); // I2: the access time tells the last use
  }

  /** Remove what nobody uses: the host's disk is nearly full. */
  async removeIdle(): Promise<void> {
    await this.#evict(0);
  }

  /** I2 */
  async #evict(keep = kept): Promise<void> {
    const names = (await readdir(this.#dir)).filter(
      (name) => !name.startsWith(".") && !this.#users.has(name),
    );
    const aged = await Promise.all(
      names.map(async (name) => ({ name, at: (await stat(join(this.#dir, name))).atimeMs })),
    );
    const old = aged.sort((a, b) => b.at - a.at).slice(keep);
    for (const { name } of old) {
      // Somebody may have come for it since, and is counted before it takes the lock.
      if (this.#users.has(name)) continue;
      await this.#lock.with(name, async () => {
        if (!this.#users.has(name)) await rm(join(this.#dir, name), { recursive: true, force: true });
      });
    }
  }
}

function nameOf(digest: string): string {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
  if (hex === undefined) throw new Error("a source digest must be sha256:<64 hex digits>");
  return hex.slice(0, 32);
}
