/**
 * After a change of the key, or from a version that did not seal: everything in the store is put under the current key.
 *
 * N1 An object is replaced as a whole, by one that opens to the same digest. Whoever reads the old one meanwhile reads on in
 *    it (a folder), or is told to read again (S3, where a read that was cut may not go on in another object).
 * N2 What is removed meanwhile does not come back: an object is looked at again and replaced under its artifact's lock.
 * N3 Checkpoints are under the workers' own key and stay as they are.
 */
import pLimit from "p-limit";
import { isArchive } from "../archive/header.ts";
import { ArtifactDigestError, ArtifactNotFoundError, SealedArtifactError } from "../errors.ts";
import { type StoreParts, storeOn } from "../shelf.ts";
import { headerBytes, isSealed, keyIdOf } from "./header.ts";

const parallel = 8;

export interface ResealOptions {
  /** Runs the work while nobody removes the artifact. */
  readonly locked: (digest: string, work: () => Promise<void>) => Promise<void>;
  /** Of an artifact that cannot be read; the others go on. */
  readonly onUnreadable: (message: string) => void;
  /** Artifacts that were put under the current key so far; called now and then. */
  readonly onProgress?: (resealed: number) => void;
}

export interface ResealResult {
  readonly resealed: number;
  /** By key id, and `none` for what is not sealed: what is still not under the current key. */
  readonly remaining: Readonly<Record<string, number>>;
  /** Under the current key now, these included. */
  readonly current: number;
}

export async function resealArtifacts(parts: StoreParts, options: ResealOptions): Promise<ResealResult> {
  const { shelf, staging, keys } = parts;
  if (keys === undefined) throw new Error("artifacts cannot be sealed without a key");
  const store = storeOn(parts);
  const remaining: Record<string, number> = {};
  let [resealed, current] = [0, 0];

  /** Undefined: nothing to do. */
  const keyBefore = async (hex: string): Promise<string | undefined> => {
    const beginning = await shelf.beginning(hex, headerBytes);
    if (beginning === undefined || isArchive(beginning)) return undefined; // N3
    const keyId = isSealed(beginning) ? keyIdOf(beginning) : "none";
    if (keyId !== keys.currentId) return keyId;
    current += 1;
    return undefined;
  };

  const reseal = async (hex: string): Promise<void> => {
    const digest = `sha256:${hex}`;
    if ((await shelf.sizeOf(hex)) === undefined) return; // N2
    const publish = ({ path, storedBytes }: { readonly path: string; readonly storedBytes: number }) =>
      shelf.publish({ path, bytes: storedBytes }, hex, () => undefined);
    const limits = { maxBytes: Number.MAX_SAFE_INTEGER, expectedDigest: digest };
    await staging.stage(await store.get(digest), limits, publish); // N1
    resealed += 1;
    current += 1;
    if (resealed % 1000 === 0) options.onProgress?.(resealed);
  };

  const one = async (hex: string): Promise<void> => {
    const before = await keyBefore(hex);
    if (before === undefined) return;
    try {
      await options.locked(`sha256:${hex}`, () => reseal(hex));
    } catch (error) {
      if (error instanceof ArtifactNotFoundError) return;
      if (!(error instanceof SealedArtifactError || error instanceof ArtifactDigestError)) throw error;
      remaining[before] = (remaining[before] ?? 0) + 1;
      options.onUnreadable(error.message);
    }
  };

  const limit = pLimit(parallel);
  let batch: string[] = [];
  const work = async () => {
    const hexes = batch;
    batch = [];
    await Promise.all(hexes.map((hex) => limit(() => one(hex))));
  };
  for await (const hex of shelf.list()) {
    batch.push(hex);
    if (batch.length >= 100 * parallel) await work();
  }
  await work();
  return { resealed, remaining, current };
}
