/**
 * The upload as a plain tar file: the same tree gives the same bytes, whoever packs it, wherever and whenever.
 *
 * P1  times and owners are zero, modes are 0755 or 0644, the order is that of the tree (source-tree.ts T3);
 * P2  the hash is that of the bytes written; a file that changes its size meanwhile is an error, not a broken archive;
 * P3  what exceeds the limit is said before anything is written.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Header, type Pack, pack } from "tar-stream";
import { CliError, messageOf } from "../errors.ts";
import type { FileEntry, SourceEntry } from "./source-tree.ts";

export interface Archive {
  /** `sha256:<64 hex>` of the tar's bytes. */
  readonly contentHash: string;
  readonly sizeBytes: number;
}

/** The server's limit is on the whole request; its multipart frame and metadata stay far below this. */
const requestOverheadBytes = 64 * 1024;
const blockBytes = 512;
const mebibyte = 1024 * 1024;
const epoch = new Date(0);
type EntryHeader = Partial<Header> & { readonly name: string };

/** P3: throws when the tar would not fit into a request of `limitBytes`; names the largest files. */
export function checkSize(entries: readonly SourceEntry[], limitBytes: number): void {
  const total = entries.reduce((sum, entry) => sum + tarBytes(entry), 2 * blockBytes + requestOverheadBytes);
  if (total <= limitBytes) return;
  const largest = entries
    .filter((entry): entry is FileEntry => entry.kind === "file")
    .sort((a, b) => b.sizeBytes - a.sizeBytes)
    .slice(0, 5)
    .filter((entry) => entry.sizeBytes >= mebibyte / 10)
    .map((entry) => `  ${(entry.sizeBytes / mebibyte).toFixed(1)} MiB  ${entry.path}`);
  throw new CliError(
    `the project is too large to upload: ${(total / mebibyte).toFixed(1)} MiB, the limit is ${Math.floor(limitBytes / mebibyte)} MiB\n${largest.join("\n")}`,
    { hint: "exclude what tasks do not need with ignorePatterns in helmr.config.ts" },
  );
}

function tarBytes(entry: SourceEntry): number {
  const content = entry.kind === "file" ? Math.ceil(entry.sizeBytes / blockBytes) * blockBytes : 0;
  // Names that do not fit a header travel in an extended one of their own.
  const extended = Buffer.byteLength(entry.path) > 100 ? 3 * blockBytes : 0;
  return blockBytes + content + extended;
}

/** Write the tar of `entries` under `root` to `file`. */
export async function writeArchive(
  root: string,
  entries: readonly SourceEntry[],
  file: string,
  signal?: AbortSignal,
): Promise<Archive> {
  const archive = pack();
  const hash = createHash("sha256");
  let sizeBytes = 0;
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      done(null, chunk);
    },
  });
  const written = pipeline(
    archive,
    measure,
    createWriteStream(file, { flags: "wx", mode: 0o600 }),
    ...(signal ? [{ signal }] : []),
  );
  const filled = addAll(archive, root, entries).catch((error: unknown) => {
    archive.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  });
  const [fill, write] = await Promise.allSettled([filled, written]);
  signal?.throwIfAborted();
  if (fill.status === "rejected") throw fill.reason;
  if (write.status === "rejected") throw write.reason;
  return { contentHash: `sha256:${hash.digest("hex")}`, sizeBytes };
}

/** Files up to this are read whole, a page of them side by side: thousands of streams would cost seconds. */
const smallFileBytes = 256 * 1024;
const filesPerPage = 32;

async function addAll(archive: Pack, root: string, entries: readonly SourceEntry[]): Promise<void> {
  for (let start = 0; start < entries.length; start += filesPerPage)
    await addPage(archive, root, entries.slice(start, start + filesPerPage));
  archive.finalize();
}

async function addPage(archive: Pack, root: string, entries: readonly SourceEntry[]): Promise<void> {
  const contents = await Promise.all(entries.map((entry) => readSmall(root, entry)));
  for (const [index, entry] of entries.entries()) {
    if (entry.kind === "file") await addFile(archive, root, entry, contents[index]);
    else if (entry.kind === "directory")
      await addEmpty(archive, { name: `${entry.path}/`, type: "directory", mode: 0o755 });
    else await addEmpty(archive, { name: entry.path, type: "symlink", linkname: entry.target, mode: 0o755 });
  }
}

/** The content of a small file; undefined for everything else. */
async function readSmall(root: string, entry: SourceEntry): Promise<Buffer | undefined> {
  if (entry.kind !== "file" || entry.sizeBytes > smallFileBytes) return undefined;
  const content = await readFile(join(root, entry.path)).catch((error: unknown) => {
    throw cannotPack(entry, messageOf(error));
  });
  if (content.length !== entry.sizeBytes) throw cannotPack(entry, "its size changed"); // P2
  return content;
}

function cannotPack(entry: FileEntry, why: string): CliError {
  return new CliError(`cannot pack ${entry.path}: ${why}`, { hint: "is it being written to? deploy again" });
}

/** P1. */
function header(fields: EntryHeader): EntryHeader {
  return { ...fields, mtime: epoch, uid: 0, gid: 0, uname: "", gname: "" };
}

function addEmpty(archive: Pack, fields: EntryHeader): Promise<void> {
  return new Promise((resolve, reject) => {
    archive.entry({ ...header(fields), size: 0 }, (error) => (error ? reject(error) : resolve()));
  });
}

async function addFile(
  archive: Pack,
  root: string,
  entry: FileEntry,
  content: Buffer | undefined,
): Promise<void> {
  const fields = header({
    name: entry.path,
    size: entry.sizeBytes,
    mode: entry.executable ? 0o755 : 0o644,
  });
  if (content !== undefined) {
    return await new Promise((resolve, reject) => {
      archive.entry(fields, content, (error) => (error ? reject(error) : resolve()));
    });
  }
  try {
    await pipeline(createReadStream(join(root, entry.path)), archive.entry(fields));
  } catch (error) {
    throw cannotPack(entry, messageOf(error)); // P2
  }
}
