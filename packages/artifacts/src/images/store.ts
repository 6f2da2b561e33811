/**
 * The image store: folders on this host that hold one root filesystem per image and digest.
 *
 *     <imagesDir>/<folder name of the reference>/current          the digest (hex) that the name stands for
 *     <imagesDir>/<folder name of the reference>/<digest>/rootfs  merged tree, never written after it is in place
 *     <imagesDir>/<folder name of the reference>/<digest>/image.json
 *     <imagesDir>/<folder name of the reference>/<digest>/tree    the text that the digest is the SHA-256 of (tree.ts)
 *
 * Invariants:
 *  I1  A digest folder appears complete, by one rename, and never changes: guests share its rootfs read-only.
 *  I2  `current` is replaced by one rename, after the digest folder it names is in place.
 *  I3  The digest covers the tree and the configuration: equal digests are equal images.
 *  I4  Imports of one name exclude each other by a lock that dies with its holder; what a dead import left behind is
 *      removed by the next.
 *
 * Replaced digests stay, because a guest may run from them and a deployment may name them.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { withFileLock } from "./lock.ts";
import { canonicalName, folderName } from "./names.ts";
import { describeTree, findDifference, stripSpecialFiles } from "./tree.ts";

/** What a container runtime would start the image with; empty strings are the image format's own "not set". */
export interface ImageConfig {
  readonly env: Readonly<Record<string, string>>;
  /** `name`, `uid`, `name:group` or `uid:gid`; "" is root. */
  readonly user: string;
  /** Absolute path; "" is `/`. */
  readonly workdir: string;
  readonly cmd: readonly string[];
  readonly architecture: "x64" | "arm64";
}

/** Where the tree came from: a registry's manifest, or a local build described by its recipe. */
export type ImageSource =
  | { readonly kind: "registry"; readonly reference: string; readonly manifestDigest: string }
  | { readonly kind: "import"; readonly recipe: string };

export interface StoredImage extends ImageConfig {
  /** Full reference, as `docker.io/library/node:24-bookworm-slim`. */
  readonly name: string;
  /** `sha256:<hex>` over tree and configuration. */
  readonly digest: string;
  readonly source: ImageSource;
  /** Absolute path of the read-only root filesystem. */
  readonly rootfs: string;
}

/** Folders every guest mounts over; an image without them gets them here, because its tree is read-only later. */
const MOUNT_POINTS = ["dev", "proc", "sys", "run", "tmp"];

async function readIf(file: string): Promise<string | undefined> {
  return readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
}

/** Digest and text of a tree with its configuration (I3). */
async function digestOf(rootfs: string, config: ImageConfig): Promise<{ digest: string; text: string }> {
  const env = Object.fromEntries(Object.entries(config.env).sort(([a], [b]) => (a < b ? -1 : 1)));
  const { user, workdir, cmd, architecture } = config;
  const header = JSON.stringify({ env, user, workdir, cmd, architecture });
  const text = `${header}\n${await describeTree(rootfs)}`;
  return { digest: createHash("sha256").update(text).digest("hex"), text };
}

/** Run `work` as the only import of `name` on this host (I4), with an empty scratch folder on the store's filesystem. */
export async function withImageLock<T>(
  imagesDir: string,
  name: string,
  work: (scratch: string) => Promise<T>,
): Promise<T> {
  const folder = join(imagesDir, folderName(name));
  return withFileLock(join(folder, ".lock"), async () => {
    const scratch = join(folder, ".partial");
    await rm(scratch, { recursive: true, force: true });
    await mkdir(scratch);
    try {
      return await work(scratch);
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  });
}

/** Put the tree at `staged` (moved, on the store's filesystem) into the store. Call inside {@link withImageLock}. */
export async function placeImage(
  imagesDir: string,
  image: { name: string; staged: string; config: ImageConfig; source: ImageSource },
): Promise<StoredImage> {
  const folder = join(imagesDir, folderName(image.name));
  const scratch = join(folder, ".partial");
  await stripSpecialFiles(image.staged);
  for (const path of MOUNT_POINTS) await mkdir(join(image.staged, path), { recursive: true });
  const { digest, text } = await digestOf(image.staged, image.config);
  const target = join(folder, digest);
  const next = join(scratch, digest);
  await mkdir(next);
  const { env, user, workdir, cmd, architecture } = image.config;
  const name = canonicalName(image.name);
  const record = { format: 1, name, digest: `sha256:${digest}`, env, user, workdir, cmd, architecture };
  await writeFile(
    join(next, "image.json"),
    `${JSON.stringify({ ...record, source: image.source }, null, 2)}\n`,
  );
  await writeFile(join(next, "tree"), text);
  await rename(image.staged, join(next, "rootfs"));
  if ((await readStored(target, digest)) === undefined) {
    await rm(target, { recursive: true, force: true });
    await rename(next, target); // I1
  }
  await writeFile(join(scratch, "current"), digest);
  await rename(join(scratch, "current"), join(folder, "current")); // I2
  const stored = await readStored(target, digest);
  if (stored === undefined) throw new Error(`image ${name} vanished from ${target} while it was imported`);
  return stored;
}

/** The image in a digest folder, or undefined where its parts are missing or do not belong to the digest. */
async function readStored(folder: string, digest: string): Promise<StoredImage | undefined> {
  const [record, text] = await Promise.all([
    readIf(join(folder, "image.json")),
    readIf(join(folder, "tree")),
  ]);
  if (record === undefined || text === undefined) return undefined;
  if (createHash("sha256").update(text).digest("hex") !== digest) return undefined;
  const { name, source } = JSON.parse(record);
  // The configuration is taken from the digested text, so that an edited image.json changes nothing.
  const config: ImageConfig = JSON.parse(text.slice(0, text.indexOf("\n")));
  return { ...config, name, source, digest: `sha256:${digest}`, rootfs: join(folder, "rootfs") };
}

/**
 * Import the tree at `rootfs` under `name`, which then resolves to it. The tree is copied (`cp -a`), or moved with
 * `move: true` when it lies on the store's filesystem. Needs root: owners are kept.
 */
export async function importImage(
  imagesDir: string,
  image: { name: string; rootfs: string; config: ImageConfig; recipe: string; move?: boolean },
): Promise<StoredImage> {
  return withImageLock(imagesDir, image.name, async (scratch) => {
    const staged = join(scratch, "rootfs");
    if (image.move) await rename(image.rootfs, staged);
    else await execa("cp", ["-a", "--reflink=auto", "--", image.rootfs, staged]);
    const source = { kind: "import", recipe: image.recipe } as const;
    return placeImage(imagesDir, { name: image.name, staged, config: image.config, source });
  });
}

/** The image a reference stands for on this host, or undefined. Reads three small files; asks no registry. */
export async function resolveImage(imagesDir: string, name: string): Promise<StoredImage | undefined> {
  const folder = join(imagesDir, folderName(name));
  const digest = (await readIf(join(folder, "current")))?.trim();
  if (digest === undefined || !/^[0-9a-f]{64}$/.test(digest)) return undefined;
  return readStored(join(folder, digest), digest);
}

/**
 * Say what is wrong with a stored image, or undefined. `quick` compares every entry's kind, mode, owner and size;
 * `full` reads every byte.
 */
export async function verifyImage(image: StoredImage, depth: "quick" | "full"): Promise<string | undefined> {
  const text = await readIf(join(image.rootfs, "../tree"));
  if (text === undefined) return "its list of files is missing";
  if (depth === "quick") {
    const different = findDifference(image.rootfs, text.slice(text.indexOf("\n") + 1));
    return different === undefined ? undefined : `${different} is missing or was changed`;
  }
  const { digest } = await digestOf(image.rootfs, image);
  return `sha256:${digest}` === image.digest ? undefined : `its digest is now sha256:${digest}`;
}
