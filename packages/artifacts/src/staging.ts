/**
 * Where an artifact is written before its digest, and so its name, is known.
 *
 * What an interrupted `put` left behind is removed by a start a day later; processes may share a folder.
 */
import { createHash, randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { PutOptions, StoredArtifact } from "./artifact-store.ts";
import { digestHex } from "./digest.ts";
import { ArtifactDigestError, ArtifactTooLargeError } from "./errors.ts";

/** Longer than any upload takes: what is that old is of a process that died. */
const staleMs = 24 * 60 * 60_000;

/** A complete file that nobody else writes or removes while it is used. */
export interface StagedArtifact extends StoredArtifact {
  readonly path: string;
}

export interface Staging {
  /**
   * Write the source to a file, then `use` it; the file is gone afterwards, unless `use` has renamed it. Rejects like
   * `ArtifactStore.put`, with the source destroyed.
   */
  stage(
    source: Readable,
    options: PutOptions,
    use: (staged: StagedArtifact) => Promise<void>,
  ): Promise<StoredArtifact>;
}

/** `durable`: files are on disk when they are used, because they are kept. */
export function openStaging(dir: string, { durable }: { readonly durable: boolean }): Staging {
  removeStale(dir);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return {
    async stage(source, options, use) {
      const path = join(dir, randomUUID());
      // One that fails before it is read is found failed by the first read; without a listener it would end the process.
      source.on("error", () => undefined);
      try {
        if (options.expectedDigest !== undefined) digestHex(options.expectedDigest);
        const stored = await write(path, source, options.maxBytes, durable);
        if (options.expectedDigest !== undefined && options.expectedDigest !== stored.digest) {
          throw new ArtifactDigestError(options.expectedDigest, stored.digest);
        }
        await options.beforePublish?.(stored);
        await use({ ...stored, path });
        return stored;
      } catch (error) {
        source.destroy();
        throw error;
      } finally {
        await rm(path, { force: true });
      }
    },
  };
}

function removeStale(dir: string): void {
  for (const name of existsSync(dir) ? readdirSync(dir) : []) {
    const path = join(dir, name);
    const found = statSync(path, { throwIfNoEntry: false });
    if (found !== undefined && found.mtimeMs < Date.now() - staleMs)
      rmSync(path, { recursive: true, force: true });
  }
}

async function write(
  path: string,
  source: Readable,
  maxBytes: number,
  durable: boolean,
): Promise<StoredArtifact> {
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
    if (durable) await file.sync();
  } finally {
    await file.close();
  }
  return { digest: `sha256:${hash.digest("hex")}`, sizeBytes };
}

async function writeAll(file: FileHandle, chunk: Buffer): Promise<void> {
  let offset = 0;
  while (offset < chunk.length) offset += (await file.write(chunk, offset)).bytesWritten;
}
