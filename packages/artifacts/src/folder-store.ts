/**
 * The content-addressed store in a folder: `<dir>/sha256/<first two hex>/<64 hex>`, staging in `<dir>/staging`.
 *
 * I1 A file under `sha256/` is complete and on disk: it is written in `staging/`, fsynced, then renamed, and the folder
 *    that got the name is fsynced before `put` resolves. A crash leaves at most a file in `staging/`, removed by a start a day later.
 * I2 Nothing under `sha256/` is ever written again: a second `put` of the same bytes only checks that they are there.
 * I3 Reading verifies: the stream of `get` errors at its end if the bytes are not the digest's.
 */
import { createReadStream, mkdirSync } from "node:fs";
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { ArtifactStore } from "./artifact-store.ts";
import { artifactPath, digestHex, verifying } from "./digest.ts";
import { ArtifactNotFoundError } from "./errors.ts";
import { openStaging } from "./staging.ts";

/** Opens (and makes) the store in `dir`, removing what an interrupted `put` left behind a day ago. Processes may share it. */
export function createFolderStore(dir: string): ArtifactStore {
  const staging = openStaging(join(dir, "staging"), { durable: true });
  mkdirSync(join(dir, "sha256"), { recursive: true, mode: 0o700 });
  const pathOf = (digest: string) => join(dir, artifactPath(digestHex(digest)));
  return {
    put: (source, options) =>
      staging.stage(source, options, ({ path, digest, sizeBytes }) =>
        publish(path, pathOf(digest), sizeBytes),
      ),
    get: async (digest) => await get(pathOf(digest), digest),
    has: async (digest) => (await sizeOf(pathOf(digest))) !== undefined,
    delete: async (digest) => rm(pathOf(digest), { force: true }),
  };
}

/** I1, I2. A damaged file of another size under the same name is replaced. */
async function publish(staged: string, target: string, sizeBytes: number): Promise<void> {
  if ((await sizeOf(target)) === sizeBytes) return;
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

async function get(path: string, digest: string): Promise<Readable> {
  if ((await sizeOf(path)) === undefined) throw new ArtifactNotFoundError(digest);
  const source = createReadStream(path, { highWaterMark: 256 * 1024 });
  const verified = verifying(digest);
  source.on("error", (error) => verified.destroy(error));
  verified.on("close", () => source.destroy());
  return source.pipe(verified); // I3
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
