/**
 * Opening in the thread: the way back, straight into the folders the caller names.
 *
 *  O1  Nothing is written outside these folders, and they are empty before; after a failure they are empty again.
 *  O2  It resolves only when the archive's last chunk was authenticated and every part is complete.
 *
 * Files are written synchronously: another thread decompresses meanwhile, and a round trip through the event loop for every
 * piece takes longer than the piece.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { pipeline as chain, PassThrough, Readable } from "node:stream";
import { constants, crc32, createZstdDecompress } from "node:zlib";
import { openChunks } from "./chunks.ts";
import { ArchiveError } from "./errors.ts";
import type { ArchiveKeys } from "./keys.ts";
import type { OpenedArchive, WrittenFile } from "./open.ts";
import { decodeSegments, type Segment } from "./segments.ts";
import { restoreTree } from "./tree.ts";

const outputBytes = 256 * 1024;
const maxJsonBytes = 4 << 20;

export interface OpenJob {
  readonly keys: ArchiveKeys;
  /** Names of the parts that have a folder. */
  readonly parts: readonly string[];
  readonly maxContentBytes: number;
}

/** `folderOf`: the folder of a part, when its turn has come. */
export async function openInto(
  source: AsyncIterable<Buffer>,
  job: OpenJob,
  folderOf: (part: string) => Promise<string>,
): Promise<OpenedArchive> {
  const startedAt = performance.now();
  const plain = Readable.from(openChunks(source, job.keys), { objectMode: false });
  const decompress = createZstdDecompress({
    chunkSize: outputBytes,
    // What the content says to need is bounded as well: level 1 needs 512 KiB.
    params: { [constants.ZSTD_d_windowLogMax]: 23 },
  });
  // The callback's error is that of the iteration below.
  const content = chain(plain, decompress, () => undefined);
  const receiver = new Receiver(job, folderOf);
  try {
    for await (const segment of decodeSegments(content)) await receiver.take(segment);
    return { ...receiver.finish(), durationMs: performance.now() - startedAt };
  } catch (error) {
    await receiver.abandon();
    throw asArchiveError(error);
  }
}

/** zlib's own errors mean content that was authenticated and is no zstd. */
function asArchiveError(error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (!code.startsWith("ZSTD_") && code !== "Z_BUF_ERROR") return error;
  return new ArchiveError("damaged", "The checkpoint's content cannot be decompressed.", { cause: error });
}

async function empty(folder: string): Promise<void> {
  for (const name of await readdir(folder))
    await rm(path.join(folder, name), { recursive: true, force: true });
}

/** Where the content of the open part goes. */
interface Sink {
  write(bytes: Buffer): Promise<void> | void;
  end(): Promise<void> | void;
  /** Lets go after a failure; never rejects. */
  abandon(): Promise<void>;
}

class Receiver {
  readonly #job: OpenJob;
  readonly #folderOf: (part: string) => Promise<string>;
  /** Those that were empty when their part began (O1). */
  readonly #folders = new Map<string, string>();
  readonly #files: Record<string, WrittenFile[]> = {};
  readonly #values: Record<string, unknown> = {};
  readonly #seen = new Set<string>();
  #part: { readonly name: string; readonly kind: "files" | "tree" | "json" } | undefined;
  #sink: Sink | undefined;
  #contentBytes = 0;

  constructor(job: OpenJob, folderOf: (part: string) => Promise<string>) {
    this.#job = job;
    this.#folderOf = folderOf;
  }

  /** Something failed: let go of what is open, and empty the folders (O1). */
  async abandon(): Promise<void> {
    await this.#sink?.abandon();
    for (const folder of this.#folders.values()) await empty(folder);
  }

  /** O2 */
  finish(): Omit<OpenedArchive, "durationMs"> {
    const missing = this.#job.parts.filter((name) => !this.#seen.has(name));
    if (missing.length > 0)
      throw new ArchiveError("damaged", `The checkpoint has no part ${missing.join(", ")}.`);
    return { values: this.#values, files: this.#files, contentBytes: this.#contentBytes };
  }

  async take(segment: Segment): Promise<void> {
    const part = this.#part;
    switch (segment.type) {
      case "part": {
        if (part !== undefined || this.#seen.has(segment.name)) throw outOfOrder();
        this.#seen.add(segment.name);
        this.#part = segment;
        if (segment.kind === "json") this.#sink = this.#value(segment.name);
        else await this.#openFolder(segment.name);
        if (segment.kind === "tree") this.#sink = treeSink(this.#folder(segment.name));
        return;
      }
      case "file":
        if (part?.kind !== "files") throw outOfOrder();
        await this.#sink?.end();
        this.#sink = undefined;
        this.#sink = this.#file(part.name, segment.name);
        return;
      case "data":
        if (this.#sink === undefined) throw outOfOrder();
        this.#contentBytes += segment.bytes.length;
        if (this.#contentBytes > this.#job.maxContentBytes) {
          const message = `The checkpoint holds more than ${this.#job.maxContentBytes} bytes.`;
          throw new ArchiveError("too_large", message);
        }
        await this.#sink.write(segment.bytes);
        return;
      case "part-end":
        if (part === undefined) throw outOfOrder();
        await this.#sink?.end();
        this.#sink = undefined;
        this.#part = undefined;
        return;
      case "end":
        if (part !== undefined) throw outOfOrder();
    }
  }

  async #openFolder(part: string): Promise<void> {
    if (!this.#job.parts.includes(part))
      throw new RangeError(`the checkpoint has a part "${part}" and no folder was given for it`);
    const folder = await this.#folderOf(part);
    if ((await readdir(folder)).length > 0)
      throw new RangeError(`${folder} is not empty: an archive needs folders of its own`);
    this.#folders.set(part, folder);
  }

  #folder(part: string): string {
    const folder = this.#folders.get(part);
    if (folder === undefined) throw outOfOrder();
    return folder;
  }

  #file(part: string, name: string): Sink {
    const descriptor = openSync(path.join(this.#folder(part), name), "wx", 0o600);
    const file = { name, sizeBytes: 0, crc32: 0 };
    let isOpen = true;
    const close = () => {
      if (isOpen) closeSync(descriptor);
      isOpen = false;
    };
    return {
      write: (bytes) => {
        for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
        file.sizeBytes += bytes.length;
        file.crc32 = crc32(bytes, file.crc32);
      },
      end: () => {
        close();
        this.#files[part] = [...(this.#files[part] ?? []), file];
      },
      abandon: async () => close(),
    };
  }

  #value(name: string): Sink {
    const pieces: Buffer[] = [];
    let length = 0;
    return {
      write: (bytes) => {
        length += bytes.length;
        if (length > maxJsonBytes) throw new ArchiveError("too_large", `The part ${name} is too large.`);
        pieces.push(Buffer.from(bytes));
      },
      end: () => {
        this.#values[name] = JSON.parse(Buffer.concat(pieces).toString("utf8"));
      },
      abandon: async () => undefined,
    };
  }
}

function treeSink(folder: string): Sink {
  const input = new PassThrough({ highWaterMark: outputBytes });
  const written = restoreTree(input, folder);
  written.catch(() => undefined); // Awaited by `end`, or abandoned.
  return {
    write: async (bytes) => {
      // tar that ended early takes nothing more: its error is the answer, not a wait without end.
      if (input.write(Buffer.from(bytes))) return;
      await Promise.race([new Promise<void>((resolve) => input.once("drain", resolve)), written]);
    },
    end: async () => {
      input.end();
      await written;
    },
    abandon: async () => {
      input.destroy(new Error("abandoned"));
      await written.catch(() => undefined);
    },
  };
}

function outOfOrder(): ArchiveError {
  return new ArchiveError("damaged", "The checkpoint's content is not in the order it was written.");
}
