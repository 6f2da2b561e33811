/**
 * A store on whatever keeps bytes under names: it stages and seals what is put, and opens and verifies what is read.
 *
 * S1 What lies on the shelf is sealed when there are keys, the staging file as well; of what is sealed already (checkpoints)
 *    the bytes themselves.
 * S2 A second `put` of the same bytes only checks that as many lie there as it would store. So what an older version stored
 *    unsealed is replaced by the sealed object, which has more.
 * S3 Reading verifies (`sealing/open.ts`).
 */
import type { Readable } from "node:stream";
import type { ArtifactStore } from "./artifact-store.ts";
import { digestHex } from "./digest.ts";
import { ArtifactNotFoundError } from "./errors.ts";
import type { ArtifactKeys } from "./sealing/header.ts";
import { opening } from "./sealing/open.ts";
import type { Staging } from "./staging.ts";

/** Names are 64 hex digits. */
export interface Shelf {
  /** Stored bytes; undefined when there is nothing. */
  sizeOf(hex: string): Promise<number | undefined>;
  /** Put a complete file there, whole or not at all; it may be moved. `progress`: bytes have gone. */
  publish(
    file: { readonly path: string; readonly bytes: number },
    hex: string,
    progress: () => void,
  ): Promise<void>;
  /** The stored bytes, or undefined. */
  read(hex: string): Promise<Readable | undefined>;
  /** The first stored bytes: so many, or all there are; undefined when there is nothing. */
  beginning(hex: string, bytes: number): Promise<Buffer | undefined>;
  /** Every name, in no order; what comes or goes meanwhile may be missed or be gone. */
  list(): AsyncIterable<string>;
  /** Resolves also when there is nothing. */
  remove(hex: string): Promise<void>;
}

export interface StoreParts {
  readonly shelf: Shelf;
  readonly staging: Staging;
  /** Undefined: nothing is sealed, and what is does not open. */
  readonly keys: ArtifactKeys | undefined;
}

export function storeOn({ shelf, staging, keys }: StoreParts): ArtifactStore {
  return {
    put: (source, options) =>
      staging.stage(source, options, async ({ path, digest, storedBytes }) => {
        const hex = digestHex(digest);
        if ((await shelf.sizeOf(hex)) === storedBytes) return; // S2
        await shelf.publish({ path, bytes: storedBytes }, hex, () => options.onProgress?.());
      }),
    get: async (digest) => {
      const stored = await shelf.read(digestHex(digest));
      if (stored === undefined) throw new ArtifactNotFoundError(digest);
      const opened = opening(digest, keys); // S3
      stored.on("error", (error) => opened.destroy(error));
      opened.on("close", () => stored.destroy());
      return stored.pipe(opened);
    },
    has: async (digest) => (await shelf.sizeOf(digestHex(digest))) !== undefined,
    delete: async (digest) => await shelf.remove(digestHex(digest)),
  };
}
