/**
 * Fresh randomness after a restore. A restored process continues with a copy of every generator's state, so two restores of
 * one checkpoint would draw the same keys, identifiers and nonces (docs/decisions, "Randomness after a restore").
 *
 *  R1  OpenSSL (randomBytes, getRandomValues, generateKey, TLS, in every thread): reseeded by the addon native/reseed.c.
 *  R2  What Node keeps drawn in advance (randomUUID, randomInt) is used up, so that the next one is drawn anew.
 *  R3  Math.random: V8's state cannot be reached from JavaScript; it is replaced by a generator with a fresh seed, unless
 *      the author replaced it.
 *
 * Not covered, and for authors to mind: other processes of the guest, copies that code took of Math.random, and pools of
 * libraries (nanoid).
 */
import { getRandomValues, randomInt, randomUUID } from "node:crypto";
import { join } from "node:path";

/** Sizes of Node's pools: lib/internal/crypto/random.js, kBatchSize and randomCache (6 KiB of 6-byte numbers). */
const uuidPool = 128;
const intPool = 1024;

const nativeRandom = Math.random;
const dlopen = process.dlopen.bind(process);
let fresh: (() => number) | undefined;

interface Addon {
  /** 1 reseeded, 0 refused, -1 this node has no OpenSSL that can be reached. */
  reseed(): number;
}

export type Reseeding =
  | { readonly complete: true }
  /** `reason`: a sentence for the run's log; what is not covered repeats in every restore of the checkpoint. */
  | { readonly complete: false; readonly reason: string };

/** Loads the addon, before any code of the author's runs; `folder` is Helmr's in the guest. */
export function prepareReseeding(folder: string): () => Reseeding {
  const addon = loadAddon(join(folder, `reseed-${process.arch}.node`));
  return () => reseedRandomness(addon);
}

/** Synchronous and under a millisecond; call it before anything of the task runs after a restore. */
function reseedRandomness(addon: Addon | Error): Reseeding {
  const reason = addon instanceof Error ? addon.message : refusal(addon.reseed());
  for (let drawn = 0; drawn < uuidPool; drawn += 1) randomUUID(); // R2
  for (let drawn = 0; drawn < intPool; drawn += 1) randomInt(2);
  if (Math.random === nativeRandom || Math.random === fresh) replaceMathRandom(); // R3
  if (reason === undefined) return { complete: true };
  return {
    complete: false,
    reason: `The random generators could not be reseeded after the restore: ${reason}.`,
  };
}

function refusal(result: number): string | undefined {
  if (result === 1) return undefined;
  return result === 0 ? "OpenSSL got no entropy" : "the image's node exports no OpenSSL";
}

function loadAddon(file: string): Addon | Error {
  const module: { exports: unknown } = { exports: {} };
  try {
    dlopen(module, file);
    return module.exports as Addon;
  } catch (error) {
    return new Error(`the image's node cannot load ${file} (${(error as Error).message})`);
  }
}

function replaceMathRandom(): void {
  const next = xoshiro128();
  const random = (): number => (next() * 2 ** 21 + (next() >>> 11)) / 2 ** 53;
  Object.defineProperty(random, "name", { value: "random" });
  fresh = random;
  Math.random = random;
}

/** xoshiro128**, https://prng.di.unimi.it/xoshiro128starstar.c; as strong as what it replaces, and no stronger. */
function xoshiro128(): () => number {
  const state = getRandomValues(new Uint32Array(4));
  let [a = 1, b = 0, c = 0, d = 0] = state;
  return () => {
    const five = Math.imul(b, 5);
    const result = Math.imul((five << 7) | (five >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
}
