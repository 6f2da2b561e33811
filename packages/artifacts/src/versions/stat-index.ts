/**
 * What the files of a saved or restored folder looked like to `stat` then, beside the manifest of that version, in a local file:
 * `[8 bytes "HELMRIX1"][u32 CRC-32 of the rest][u32 0][columns]`.
 *
 * I1 A file whose inode, size, mtime and ctime are those of the index has the content and the metadata of the manifest.
 *    ctime cannot be set from user space, so a file that is written to, or whose metadata change, differs in it.
 * I2 I1 holds only for what was last changed before its clock had moved on ("racily clean", as git calls it): an entry whose
 *    ctime is younger than the start of the scan less `racyMs` is entered as one that never matches.
 * I3 The file is replaced by renaming; one that is torn, of another version or of another manifest is as none.
 *
 * What I1 does not see: a page written through a shared mapping that was dirty already when its file was read. Where that matters, the
 * guest is stopped or its file system synced before the save.
 */
import { randomUUID } from "node:crypto";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { ColumnReader, Growing, writeColumns } from "./columns.ts";
import { Manifest } from "./manifest.ts";
import type { LoadedManifest } from "./manifest-artifact.ts";

const magic = Buffer.from("HELMRIX1");
/** The kernel stamps files with a clock of 1 to 10 ms; where it counts whole seconds, their nanoseconds are 0. */
export const racyMs = 50;
const racyWholeSecondsMs = 2500;
/** A stat record from its inode on: inode, size, seconds and nanoseconds of mtime and ctime; native/files.c has the layout. */
export const statWords = 10;
export const statWordsStart = 10;

export class StatIndex {
  readonly #words = new Growing(Uint32Array);
  readonly #cleanBeforeMs: number;
  readonly #cleanBeforeWholeSecondsMs: number;

  constructor(scanStartMs: number) {
    this.#cleanBeforeMs = scanStartMs - racyMs;
    this.#cleanBeforeWholeSecondsMs = scanStartMs - racyWholeSecondsMs;
  }

  /** The next entry, as its stat record says; undefined: never matches. */
  add(record: Uint32Array | undefined, at = 0): void {
    if (record === undefined || !this.#isClean(record, at)) {
      this.addUnknown();
      return;
    }
    const words = this.#words;
    words.reserve(statWords);
    for (let i = 0; i < statWords; i += 1)
      words.values[words.length + i] = record[at + statWordsStart + i] as number;
    words.length += statWords;
  }

  /** Entries of an earlier index as they are there. */
  copy(stats: Uint32Array, from: number, to: number): void {
    this.#words.append(stats.subarray(from * statWords, to * statWords));
  }

  /** An entry that is looked at anew next time whatever its stat says: a directory too of which the version does not have all. */
  forget(entry: number): void {
    this.#words.values.fill(0xffffffff, entry * statWords, (entry + 1) * statWords);
  }

  addUnknown(): void {
    for (let i = 0; i < statWords; i += 1) this.#words.push(0xffffffff);
  }

  /** I2. */
  #isClean(record: Uint32Array, at: number): boolean {
    const seconds = (record[at + 16] as number) + (record[at + 17] as number) * 2 ** 32;
    const nanoseconds = record[at + 19] as number;
    const ms = seconds * 1000 + nanoseconds / 1e6;
    return ms < (nanoseconds === 0 ? this.#cleanBeforeWholeSecondsMs : this.#cleanBeforeMs);
  }

  /** I3: writes it beside `path`; the returned function puts it in place, and answers with why there is none, if so. */
  async stage(path: string, version: LoadedManifest): Promise<() => Promise<string | undefined>> {
    const { digest: manifestDigest, storedBytes, base, manifest } = version;
    const raw = writeColumns(
      { format: 1, manifestDigest, storedBytes, baseDigest: base?.digest },
      { stats: this.#words.taken(), manifest: manifest.raw, base: base?.raw ?? Buffer.alloc(0) },
    );
    const head = Buffer.alloc(16);
    magic.copy(head);
    head.writeUInt32LE(crc32(raw), 8);
    const staged = `${path}.${randomUUID()}.tmp`;
    const written = await failure(writeFile(staged, [head, raw], { mode: 0o600, flag: "wx" }));
    return async () => {
      const failed = written ?? (await failure(rename(staged, path)));
      if (failed !== undefined) await discardStaged(staged);
      return failed;
    };
  }
}

const failure = (work: Promise<void>) =>
  work.then(
    () => undefined,
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );

const discardStaged = (staged: string) => rm(staged, { force: true }).catch(() => undefined);

export interface ReadIndex {
  readonly version: LoadedManifest;
  /** `statWords` by entry of the version. */
  readonly stats: Uint32Array;
}

/** The index of that manifest, or undefined when the file has none that can be used (I3). */
export async function readStatIndex(path: string, manifestDigest: string): Promise<ReadIndex | undefined> {
  try {
    const bytes = await readFile(path);
    if (bytes.length < 16 || !bytes.subarray(0, 8).equals(magic)) return undefined;
    const raw = bytes.subarray(16);
    if (crc32(raw) !== bytes.readUInt32LE(8)) return undefined;
    const reader = new ColumnReader(raw);
    const { head } = reader;
    if (head.format !== 1 || head.manifestDigest !== manifestDigest) return undefined;
    const part = (name: string) => {
      const found = reader.read(name, Uint8Array);
      return Buffer.from(found.buffer, found.byteOffset, found.length);
    };
    const manifest = new Manifest(part("manifest"), { checked: true });
    const base =
      typeof head.baseDigest === "string" ? { digest: head.baseDigest, raw: part("base") } : undefined;
    return {
      version: { digest: manifestDigest, manifest, base, storedBytes: Number(head.storedBytes) },
      stats: reader.read("stats", Uint32Array, manifest.count * statWords),
    };
  } catch {
    // I3: an index spares work and is never needed.
    return undefined;
  }
}
