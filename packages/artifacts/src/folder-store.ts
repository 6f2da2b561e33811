/**
 * The content-addressed store in a folder: `<dir>/sha256/<first two hex>/<64 hex>`, staging in `<dir>/staging`.
 *
 * I1 A file under `sha256/` is complete and on disk: it is written in `staging/`, fsynced, then renamed, and the folder
 *    that got the name is fsynced before `put` resolves. A crash leaves at most a file in `staging/`, removed by a start a day later.
 * I2 Nothing under `sha256/` is ever written again: a second `put` of the same bytes only checks that they are there.
 * I3 Reading verifies: the stream of `get` errors at its end if the bytes are not the digest's.
 */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Readable, Transform } from "node:stream";
import type { ArtifactStore, PutOptions, StoredArtifact } from "./artifact-store.ts";
import {
  ArtifactDigestError,
  ArtifactDigestFormatError,
  ArtifactNotFoundError,
  ArtifactTooLargeError,
} from "./errors.ts";

const digestPattern = /^sha256:([0-9a-f]{64})$/;

/** Longer than any upload takes: what is that old in `staging` is of a process that died. */
const staleMs = 24 * 60 * 60_000;

/** Opens (and makes) the store in `dir`, removing what an interrupted `put` left behind a day ago. Processes may share it. */
export function createFolderStore(dir: string): ArtifactStore {
  const staging = join(dir, "staging");
  removeStale(staging);
  mkdirSync(staging, { recursive: true, mode: 0o700 });
  mkdirSync(join(dir, "sha256"), { recursive: true, mode: 0o700 });
  return {
    put: (source, options) => put(dir, staging, source, options),
    get: (digest) => get(dir, digest),
    has: async (digest) => (await sizeOf(pathOf(dir, digest))) !== undefined,
    delete: async (digest) => rm(pathOf(dir, digest), { force: true }),
  };
}

function removeStale(staging: string): void {
  for (const name of existsSync(staging) ? readdirSync(staging) : []) {
    const path = join(staging, name);
    const found = statSync(path, { throwIfNoEntry: false });
    if (found !== undefined && found.mtimeMs < Date.now() - staleMs)
      rmSync(path, { recursive: true, force: true });
  }
}

async function put(
  dir: string,
  staging: string,
  source: Readable,
  options: PutOptions,
): Promise<StoredArtifact> {
  if (options.expectedDigest !== undefined) pathOf(dir, options.expectedDigest);
  const staged = join(staging, randomUUID());
  try {
    const stored = await writeStaged(staged, source, options.maxBytes);
    if (options.expectedDigest !== undefined && options.expectedDigest !== stored.digest) {
      throw new ArtifactDigestError(options.expectedDigest, stored.digest);
    }
    await options.beforePublish?.(stored);
    await publish(staged, pathOf(dir, stored.digest), stored.sizeBytes);
    return stored;
  } catch (error) {
    source.destroy();
    throw error;
  } finally {
    await rm(staged, { force: true });
  }
}

async function writeStaged(path: string, source: Readable, maxBytes: number): Promise<StoredArtifact> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  const file = await open(path, "wx", 0o600);
  try {
    for await (const piece of source) {
      const chunk: Buffer = typeof piece === "string" ? Buffer.from(piece) : piece;
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) throw new ArtifactTooLargeError(maxBytes);
      hash.update(chunk);
      await writeAll(file, chunk);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { digest: `sha256:${hash.digest("hex")}`, sizeBytes };
}

async function writeAll(file: FileHandle, chunk: Buffer): Promise<void> {
  let offset = 0;
  while (offset < chunk.length) offset += (await file.write(chunk, offset)).bytesWritten;
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

async function get(dir: string, digest: string): Promise<Readable> {
  const path = pathOf(dir, digest);
  if ((await sizeOf(path)) === undefined) throw new ArtifactNotFoundError(digest);
  const source = createReadStream(path, { highWaterMark: 256 * 1024 });
  const verified = verifying(digest);
  source.on("error", (error) => verified.destroy(error));
  verified.on("close", () => source.destroy());
  return source.pipe(verified);
}

/** I3. */
function verifying(digest: string): Transform {
  const hash = createHash("sha256");
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
    flush(done) {
      const actual = `sha256:${hash.digest("hex")}`;
      done(actual === digest ? null : new ArtifactDigestError(digest, actual));
    },
  });
}

function pathOf(dir: string, digest: string): string {
  const hex = digestPattern.exec(digest)?.[1];
  if (hex === undefined) throw new ArtifactDigestFormatError(digest);
  return join(dir, "sha256", hex.slice(0, 2), hex);
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
