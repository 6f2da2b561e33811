/** The entries of a folder that is being saved, in the manifest's order: into the manifest and the index at once. */
import { record } from "./directory-records.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { type EntryMetadata, S_IFMT, S_IFREG, type VersionLimits } from "./format.ts";
import type { Manifest } from "./manifest.ts";
import type { ManifestBuilder } from "./manifest-builder.ts";
import { type StatIndex, statWords, statWordsStart } from "./stat-index.ts";
import type { ExtendedAttribute } from "./syscalls.ts";

/** The previous version, and what its entries looked like then. */
export interface PreviousTree {
  readonly manifest: Manifest;
  /** `statWords` by entry. */
  readonly stats: Uint32Array;
}

export class TreeEntries {
  readonly #builder: ManifestBuilder;
  readonly #index: StatIndex;
  readonly #previous: PreviousTree | undefined;
  readonly #limits: VersionLimits;
  /** Inode -> the first entry with it, of files that have several names. */
  readonly #linked = new Map<string, { readonly entry: number; readonly metadata: EntryMetadata }>();
  /** Entries of the previous version that come next as they are. */
  readonly #run = { from: 0, to: 0 };

  constructor(options: {
    readonly builder: ManifestBuilder;
    readonly index: StatIndex;
    readonly previous: PreviousTree | undefined;
    readonly limits: VersionLimits;
  }) {
    this.#builder = options.builder;
    this.#index = options.index;
    this.#previous = options.previous;
    this.#limits = options.limits;
  }

  isUnchanged(words: Uint32Array, at: number, before: number): boolean {
    const stats = this.#previous?.stats;
    if (stats === undefined) return false;
    const from = before * statWords;
    for (let i = 0; i < statWords; i += 1)
      if (stats[from + i] !== words[at + statWordsStart + i]) return false;
    return true;
  }

  /** I2. */
  takeOver(depth: number, name: string, before: number, words: Uint32Array, at: number): void {
    const manifest = (this.#previous as { manifest: Manifest }).manifest;
    if (record.links(words, at) === 1) {
      this.keep(before);
      return;
    }
    if (this.addKnownLink(depth, name, words, at)) return;
    const metadata = metadataOf(words, at, {
      size: manifest.size[before] as number,
      target: manifest.targets.get(before),
      attributes: manifest.attributes.get(before),
      extents: manifest.extents.get(before),
    });
    const entry = this.add(depth, name, metadata, manifest.content[before] as number, words, at);
    this.rememberLink(words, at, entry, metadata);
  }

  addKnownLink(depth: number, name: string, words: Uint32Array, at: number): boolean {
    if (record.links(words, at) < 2 || (record.mode(words, at) & S_IFMT) !== S_IFREG) return false;
    const first = this.#linked.get(record.identity(words, at));
    if (first === undefined) return false;
    this.endRun();
    this.#checkCount(1);
    this.#builder.addLink(depth, name, first.entry, first.metadata);
    this.#index.add(words, at);
    return true;
  }

  rememberLink(words: Uint32Array, at: number, entry: number, metadata: EntryMetadata): void {
    if (record.links(words, at) > 1 && (record.mode(words, at) & S_IFMT) === S_IFREG)
      this.#linked.set(record.identity(words, at), { entry, metadata });
  }

  add(
    depth: number,
    name: string,
    metadata: EntryMetadata,
    content: number,
    stat: Uint32Array | undefined,
    at: number,
  ): number {
    this.endRun();
    this.#checkCount(1);
    this.#index.add(stat, at);
    return this.#builder.add(depth, name, metadata, content);
  }

  /** The entry of the previous version comes next, as it is. Runs of them are copied together. */
  keep(before: number): void {
    if (this.#run.to !== before) {
      this.endRun();
      this.#run.from = before;
    }
    this.#run.to = before + 1;
  }

  endRun(): void {
    const { from, to } = this.#run;
    Object.assign(this.#run, { from: 0, to: 0 });
    if (to === from) return;
    this.#checkCount(to - from);
    this.#builder.copy(from, to);
    this.#index.copy((this.#previous as { stats: Uint32Array }).stats, from, to);
  }

  #checkCount(more: number): void {
    if (this.#builder.count + more > this.#limits.maxEntries) throw tooMany(this.#limits);
  }
}

export function metadataOf(
  words: Uint32Array,
  at: number,
  rest: {
    readonly size: number;
    readonly target?: string | undefined;
    readonly attributes?: readonly ExtendedAttribute[] | undefined;
    readonly extents?: Float64Array | undefined;
  },
): EntryMetadata {
  return {
    mode: record.mode(words, at),
    uid: record.uid(words, at),
    gid: record.gid(words, at),
    mtimeSeconds: record.mtimeSeconds(words, at),
    mtimeNanoseconds: record.mtimeNanoseconds(words, at),
    ...rest,
  };
}

export function tooMany(limits: VersionLimits) {
  return new WorkspaceVersionError("too_large", `the workspace has more than ${limits.maxEntries} entries`);
}
