/**
 * Where an artifact is written before its digest, and so its name, is known.
 *
 * It is sealed on its way into the file, so that what lies here is what the store gets: nothing of it is in plain.
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
import { type ArtifactKeys, headerBytes } from "./sealing/header.ts";
import { Sealer } from "./sealing/seal.ts";

/** Longer than any upload takes: what is that old is of a process that died. */
const staleMs = 24 * 60 * 60_000;

/** A complete file that nobody else writes or removes while it is used. */
export interface StagedArtifact extends StoredArtifact {
  readonly path: string;
  /** Of the file: more than `sizeBytes` when it is sealed. */
  readonly storedBytes: number;
}

export interface StagingOptions {
  /** Files are on disk when they are used, because they are kept. */
  readonly durable: boolean;
  /** Files are sealed under the current one. */
  readonly keys: ArtifactKeys | undefined;
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

export function openStaging(dir: string, { durable, keys }: StagingOptions): Staging {
  removeStale(dir);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return {
    async stage(source, options, use) {
      const path = join(dir, randomUUID());
      // One that fails before it is read is found failed by the first read; without a listener it would end the process.
      source.on("error", () => undefined);
      try {
        if (options.expectedDigest !== undefined) digestHex(options.expectedDigest);
        const sealer = keys === undefined || options.sealed === true ? undefined : new Sealer(keys);
        const { storedBytes, ...stored } = await write(path, source, { ...options, durable, sealer });
        if (options.expectedDigest !== undefined && options.expectedDigest !== stored.digest) {
          throw new ArtifactDigestError(options.expectedDigest, stored.digest);
        }
        await options.beforePublish?.(stored);
        await use({ ...stored, path, storedBytes });
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

interface WriteOptions {
  readonly maxBytes: number;
  readonly durable: boolean;
  readonly sealer: Sealer | undefined;
}

async function write(
  path: string,
  source: Readable,
  { maxBytes, durable, sealer }: WriteOptions,
): Promise<StoredArtifact & { readonly storedBytes: number }> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  const file = await open(path, "wx", 0o600);
  // The header comes last: it has the digest in it.
  let storedBytes = sealer === undefined ? 0 : headerBytes;
  const append = async (chunk: Buffer) => {
    await writeAll(file, chunk, storedBytes);
    storedBytes += chunk.length;
  };
  try {
    for await (const piece of source) {
      const chunk: Buffer = typeof piece === "string" ? Buffer.from(piece) : piece;
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) throw new ArtifactTooLargeError(maxBytes);
      hash.update(chunk);
      if (sealer === undefined) await append(chunk);
      else for (const sealed of sealer.update(chunk)) await append(sealed);
    }
    const digest = `sha256:${hash.digest("hex")}`;
    if (sealer !== undefined) {
      await append(sealer.last());
      await writeAll(file, sealer.header(digest), 0);
    }
    if (durable) await file.sync();
    return { digest, sizeBytes, storedBytes };
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, chunk: Buffer, at: number): Promise<void> {
  for (let done = 0; done < chunk.length; )
    done += (await file.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
}
