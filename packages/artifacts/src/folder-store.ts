/**
 * The content-addressed store in a folder: `<dir>/sha256/<first two hex>/<64 hex>`, staging in `<dir>/staging`.
 *
 * I1 A file under `sha256/` is complete and on disk: it is written in `staging/`, fsynced, then renamed, and the folder
 *    that got the name is fsynced before `put` resolves. A crash leaves at most a file in `staging/`, removed by a start a day later.
 * I2 Nothing under `sha256/` is ever written into: a file is replaced as a whole, so that who reads it reads on in the old one.
 */
import { createReadStream, mkdirSync } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { ArtifactStore } from "./artifact-store.ts";
import { artifactPath, isDigestHex } from "./digest.ts";
import type { ArtifactKeys } from "./sealing/header.ts";
import { type StoreParts, storeOn } from "./shelf.ts";
import { openStaging } from "./staging.ts";

export interface FolderStoreOptions {
  /** Seals what is stored; without them it lies in plain. */
  readonly keys?: ArtifactKeys | undefined;
}

/** Opens (and makes) the store in `dir`, removing what an interrupted `put` left behind a day ago. Processes may share it. */
export function createFolderStore(dir: string, options: FolderStoreOptions = {}): ArtifactStore {
  return storeOn(openFolder(dir, options));
}

/** What the store is made of, for those who look after all of it. */
export function openFolder(dir: string, { keys }: FolderStoreOptions): StoreParts {
  const staging = openStaging(join(dir, "staging"), { durable: true, keys });
  mkdirSync(join(dir, "sha256"), { recursive: true, mode: 0o700 });
  const pathOf = (hex: string) => join(dir, artifactPath(hex));
  const shelf = {
    sizeOf: (hex: string) => sizeOf(pathOf(hex)),
    publish: ({ path }: { readonly path: string }, hex: string) => publish(path, pathOf(hex)),
    read: async (hex: string) =>
      (await sizeOf(pathOf(hex))) === undefined
        ? undefined
        : createReadStream(pathOf(hex), { highWaterMark: 256 * 1024 }),
    beginning: (hex: string, bytes: number) => beginningOf(pathOf(hex), bytes),
    list: () => namesBelow(join(dir, "sha256")),
    remove: (hex: string) => rm(pathOf(hex), { force: true }),
  };
  return { shelf, staging, keys };
}

async function* namesBelow(root: string): AsyncGenerator<string> {
  for (const folder of (await readdir(root)).sort())
    for (const name of await readdir(join(root, folder))) if (isDigestHex(name)) yield name;
}

async function beginningOf(path: string, bytes: number): Promise<Buffer | undefined> {
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (file === undefined) return undefined;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** I1, I2. */
async function publish(staged: string, target: string): Promise<void> {
  const folder = join(target, "..");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await rename(staged, target);
  for (const changed of [folder, join(folder, "..")]) {
    const handle = await open(changed, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
