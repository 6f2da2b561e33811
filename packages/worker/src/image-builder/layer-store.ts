/**
 * Layers of built images on this host, and the merged root filesystems over them.
 *
 *     <layersDir>/<name>        an overlay upper folder, complete, never written again
 *     <layersDir>/.partial-*    a layer being filled; removed at the next start
 *     <rootsDir>/<name>         mount point of a merged, read-only root
 *
 *     <layersDir>/.shared-<name> digest of the layer in the artifact store
 *
 * An image is a list of references from the base up: `base:<folder>/<digest>` (a tree of the image store), then, of layers,
 * `layer:<key>` while it is built and `layer:<key>@<digest>` when it is finished: other workers fetch it by its digest.
 * `name` is the first 24 hex digits of the key: 60 of them fit into the kernel's mount options page.
 *
 *  I1  A layer appears complete, by one rename; equal keys are equal inputs.
 *  I2  One layer is filled once at a time; who waited finds it finished.
 *  I4  Two workers that build the same step make two layers: a reference with a digest means exactly that one, whether it
 *      was built here or fetched (then it is named by its digest).
 *  I3  A merged root is mounted at most once and stays until `release` or `close`.
 */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { ArtifactStore } from "@helmr/artifacts";
import type { StoredImage } from "@helmr/artifacts/images";
import { mountOverlay, type RootFilesystem, removeTree, unmount, unmountBelow } from "@helmr/isolation";
import { execa } from "execa";
import { KeyedLock } from "../keyed-lock.ts";
import { fetchLayer, storeLayer } from "./layer-archive.ts";
import { keyOf } from "./layer-key.ts";

/** An image needs a layer or base that this host does not hold (any more). */
export class MissingLayerError extends Error {
  override readonly name = "MissingLayerError";
}

/** Beyond it an image is flattened into one layer: overlayfs and the options page set the limit. */
export const maxLayers = 60;

const baseReference = /^base:([A-Za-z0-9._-]{1,200})\/([0-9a-f]{64})$/;
const layerReference = /^layer:([0-9a-f]{64})(?:@(sha256:[0-9a-f]{64}))?$/;

/** How the reference of a stored image is written into a built image's layer list. */
export function baseReferenceOf(image: StoredImage): string {
  return `base:${basename(dirname(dirname(image.rootfs)))}/${basename(dirname(image.rootfs))}`;
}

export class LayerStore {
  readonly #layersDir: string;
  readonly #rootsDir: string;
  readonly #imagesDir: string;
  readonly #artifacts: ArtifactStore;
  readonly #lock = new KeyedLock();
  readonly #mounted = new Map<string, string>();

  constructor(options: {
    readonly layersDir: string;
    readonly rootsDir: string;
    readonly imagesDir: string;
    readonly artifacts: ArtifactStore;
  }) {
    this.#layersDir = options.layersDir;
    this.#rootsDir = options.rootsDir;
    this.#imagesDir = options.imagesDir;
    this.#artifacts = options.artifacts;
  }

  /** Unmount and remove what a dead worker left. */
  async recover(): Promise<void> {
    await mkdir(this.#layersDir, { recursive: true });
    await mkdir(this.#rootsDir, { recursive: true });
    await unmountBelow(this.#rootsDir);
    for (const entry of await readdir(this.#rootsDir))
      await rm(join(this.#rootsDir, entry), { recursive: true, force: true });
    for (const entry of await readdir(this.#layersDir)) {
      if (entry.startsWith(".partial-")) await removeTree(join(this.#layersDir, entry));
    }
  }

  async close(): Promise<void> {
    await unmountBelow(this.#rootsDir);
    this.#mounted.clear();
  }

  async has(key: string): Promise<boolean> {
    return exists(this.#layerPath(key));
  }

  /**
   * The layer `key`, made by `fill` when it is not here: `fill` gets an empty folder that becomes the layer and an
   * empty one beside it for overlayfs' work. Resolves with whether it was here already.
   */
  ensure(
    key: string,
    fill: (staging: { readonly upper: string; readonly work: string }) => Promise<void>,
  ): Promise<{ readonly cached: boolean }> {
    return this.#lock.with(`layer ${key}`, async () => {
      const path = this.#layerPath(key);
      if (await exists(path)) {
        await utimes(path, new Date(), new Date());
        return { cached: true };
      }
      const staging = join(this.#layersDir, `.partial-${randomBytes(8).toString("hex")}`);
      const [upper, work] = [join(staging, "upper"), join(staging, "work")];
      try {
        await mkdir(upper, { recursive: true, mode: 0o755 });
        await mkdir(work);
        await fill({ upper, work });
        await rename(upper, path); // I1
        await utimes(path, new Date(), new Date());
      } finally {
        await removeTree(staging);
      }
      return { cached: false };
    });
  }

  /** The merged read-only root of an image, mounted when it is not yet. Throws MissingLayerError. */
  async root(layers: readonly string[]): Promise<RootFilesystem> {
    const digest = `sha256:${keyOf(layers)}`;
    const lowers = await this.lowers(layers);
    const [only] = lowers;
    if (lowers.length === 1 && only !== undefined) return { path: only, digest };
    const target = join(this.#rootsDir, digest.slice(7, 31));
    await this.#lock.with(`root ${digest}`, async () => {
      if (this.#mounted.has(digest)) return;
      await mountOverlay({ lowers, target });
      this.#mounted.set(digest, target);
    });
    return { path: target, digest };
  }

  /** Unmount a merged root that no guest uses (the intermediate roots of a build). */
  async release(root: RootFilesystem): Promise<void> {
    await this.#lock.with(`root ${root.digest}`, async () => {
      const target = this.#mounted.get(root.digest);
      if (target === undefined) return;
      this.#mounted.delete(root.digest);
      await unmount(target);
      await rm(target, { recursive: true, force: true });
    });
  }

  /** Host folders of an image, topmost first (overlayfs' order); layers that are not here are fetched. */
  async lowers(layers: readonly string[]): Promise<string[]> {
    const paths: string[] = [];
    for (const [index, reference] of layers.entries()) {
      const path = await this.#fetched(reference);
      if (path === undefined) {
        throw new MissingLayerError(
          `image layer ${index + 1} of ${layers.length} is not on this worker; deploy again to rebuild it`,
        );
      }
      paths.push(path);
    }
    return paths.reverse();
  }

  /** Put the layers into the artifact store, those that are not there; resolves to the references by which all have them. */
  async share(layers: readonly string[]): Promise<string[]> {
    const shared: string[] = [];
    for (const reference of layers) {
      const [, key, digest] = layerReference.exec(reference) ?? [];
      if (key === undefined || digest !== undefined) shared.push(reference);
      else shared.push(`${reference}@${await this.#share(key)}`);
    }
    return shared;
  }

  #share(key: string): Promise<string> {
    return this.#lock.with(`share ${key}`, async () => {
      const known = await this.#sharedDigest(key);
      if (known !== undefined && (await this.#artifacts.has(known))) return known;
      const digest = await storeLayer(this.#artifacts, this.#layerPath(key));
      const record = this.#sharedPath(key);
      await writeFile(`${record}.new`, digest);
      await rename(`${record}.new`, record);
      return digest;
    });
  }

  /** Where the reference's folder is; undefined when it is not here and in no store. I4 */
  async #fetched(reference: string): Promise<string | undefined> {
    const [, key, digest] = layerReference.exec(reference) ?? [];
    const path = this.#pathOf(reference);
    if (key === undefined || digest === undefined) return (await exists(path)) ? path : undefined;
    if ((await this.#sharedDigest(key)) === digest && (await exists(path))) return path;
    const name = digest.slice("sha256:".length);
    await this.ensure(name, ({ upper }) => fetchLayer(this.#artifacts, digest, upper));
    return this.#layerPath(name);
  }

  async #sharedDigest(key: string): Promise<string | undefined> {
    return readFile(this.#sharedPath(key), "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
  }

  #sharedPath(key: string): string {
    return join(this.#layersDir, `.shared-${key.slice(0, 24)}`);
  }

  /** One layer with the whole tree of many, for images over `maxLayers`. */
  async flatten(layers: readonly string[]): Promise<string[]> {
    const key = keyOf({ flatten: layers });
    await this.ensure(key, async ({ upper }) => {
      const root = await this.root(layers);
      await execa("cp", ["-a", "--", `${root.path}/.`, upper], { timeout: 15 * 60_000 });
      await this.release(root);
    });
    return [`layer:${key}`];
  }

  /** Remove layers that are in no image of `referenced` and were not used since `olderThan`. Returns how many. */
  async sweep(referenced: ReadonlySet<string>, olderThan: Date): Promise<number> {
    const kept = new Set([...referenced].map((reference) => basename(this.#pathOf(reference))));
    let removed = 0;
    for (const entry of await readdir(this.#layersDir)) {
      if (entry.startsWith(".") || kept.has(entry)) continue;
      const path = join(this.#layersDir, entry);
      if ((await stat(path)).mtime >= olderThan) continue;
      await removeTree(path);
      await rm(join(this.#layersDir, `.shared-${entry}`), { force: true });
      removed += 1;
    }
    return removed;
  }

  #pathOf(reference: string): string {
    const base = baseReference.exec(reference);
    if (base?.[1] !== undefined && base[2] !== undefined)
      return join(this.#imagesDir, base[1], base[2], "rootfs");
    const layer = layerReference.exec(reference);
    if (layer?.[1] === undefined)
      throw new MissingLayerError(`${JSON.stringify(reference.slice(0, 100))} is no layer of this worker`);
    return this.#layerPath(layer[1]);
  }

  #layerPath(key: string): string {
    return join(this.#layersDir, key.slice(0, 24));
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
