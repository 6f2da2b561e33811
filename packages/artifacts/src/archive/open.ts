/**
 * Opening: the way back, straight into the folders the caller names.
 *
 *  O1  Nothing is written outside these folders, and they are empty before; after a failure they are empty again.
 *  O2  It resolves only when the archive's last chunk was authenticated and every part is complete.
 */
import { open, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { pipeline as chain, PassThrough, Readable } from "node:stream";
import { constants, createZstdDecompress } from "node:zlib";
import { openChunks } from "./chunks.ts";
import { ArchiveError } from "./errors.ts";
import type { ArchiveKeys } from "./keys.ts";
import { decodeSegments, type Segment } from "./segments.ts";
import { restoreTree } from "./tree.ts";

const outputBytes = 256 * 1024;
const maxJsonBytes = 4 << 20;

export interface OpenOptions {
  readonly keys: ArchiveKeys;
  /** Empty folder for each part that has one, by the part's name; on tmpfs or wiped, they get the plaintext. */
  readonly folders: Readonly<Record<string, string>>;
  /** Bytes of content; more is `too_large`. */
  readonly maxContentBytes: number;
}

export interface OpenedArchive {
  /** The JSON parts, by name; validate them, they are only as good as what was sealed. */
  readonly values: Readonly<Record<string, unknown>>;
  readonly contentBytes: number;
  readonly durationMs: number;
}

/**
 * Open an archive of `sealArchive`. Rejects with an ArchiveError that says what is wrong, or the source's own error; the
 * folders are empty then (O1). A part that has no folder, and a folder that has no part, is an error, too.
 */
export async function openArchive(source: Readable, options: OpenOptions): Promise<OpenedArchive> {
  const startedAt = performance.now();
  const folders = Object.values(options.folders);
  for (const folder of folders) {
    if ((await readdir(folder)).length > 0) {
      source.destroy();
      throw new RangeError(`${folder} is not empty: an archive needs folders of its own`);
    }
  }
  const plain = Readable.from(openChunks(source, options.keys), { objectMode: false });
  const decompress = createZstdDecompress({
    chunkSize: outputBytes,
    // What the content says to need is bounded as well: level 1 needs 512 KiB.
    params: { [constants.ZSTD_d_windowLogMax]: 23 },
  });
  // The callback's error is that of the iteration below.
  const content = chain(plain, decompress, () => undefined);
  const receiver = new Receiver(options);
  try {
    for await (const segment of decodeSegments(content)) await receiver.take(segment);
    const values = receiver.finish();
    return { values, contentBytes: receiver.contentBytes, durationMs: performance.now() - startedAt };
  } catch (error) {
    await receiver.abandon();
    for (const folder of folders) await empty(folder); // O1
    throw asArchiveError(error);
  } finally {
    source.destroy();
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
  write(bytes: Buffer): Promise<void>;
  end(): Promise<void>;
  /** Lets go after a failure; never rejects. */
  abandon(): Promise<void>;
}

class Receiver {
  readonly #options: OpenOptions;
  readonly #values: Record<string, unknown> = {};
  readonly #seen = new Set<string>();
  #part: { readonly name: string; readonly kind: "files" | "tree" | "json" } | undefined;
  #sink: Sink | undefined;
  contentBytes = 0;

  constructor(options: OpenOptions) {
    this.#options = options;
  }

  /** Something failed: let go of what is open. */
  async abandon(): Promise<void> {
    await this.#sink?.abandon();
  }

  finish(): Readonly<Record<string, unknown>> {
    const missing = Object.keys(this.#options.folders).filter((name) => !this.#seen.has(name));
    if (missing.length > 0)
      throw new ArchiveError("damaged", `The checkpoint has no part ${missing.join(", ")}.`);
    return this.#values;
  }

  async take(segment: Segment): Promise<void> {
    const part = this.#part;
    switch (segment.type) {
      case "part": {
        if (part !== undefined || this.#seen.has(segment.name)) throw outOfOrder();
        this.#seen.add(segment.name);
        this.#part = segment;
        if (segment.kind === "json") this.#sink = this.#value(segment.name);
        if (segment.kind === "tree") this.#sink = treeSink(this.#folder(segment.name));
        return;
      }
      case "file":
        if (part?.kind !== "files") throw outOfOrder();
        await this.#sink?.end();
        this.#sink = undefined;
        this.#sink = await fileSink(path.join(this.#folder(part.name), segment.name));
        return;
      case "data":
        if (this.#sink === undefined) throw outOfOrder();
        this.contentBytes += segment.bytes.length;
        if (this.contentBytes > this.#options.maxContentBytes) {
          const message = `The checkpoint holds more than ${this.#options.maxContentBytes} bytes.`;
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

  #folder(name: string): string {
    const folder = Object.hasOwn(this.#options.folders, name) ? this.#options.folders[name] : undefined;
    if (folder === undefined)
      throw new RangeError(`the checkpoint has a part "${name}" and no folder was given for it`);
    return folder;
  }

  #value(name: string): Sink {
    const pieces: Buffer[] = [];
    let length = 0;
    return {
      write: async (bytes) => {
        length += bytes.length;
        if (length > maxJsonBytes) throw new ArchiveError("too_large", `The part ${name} is too large.`);
        pieces.push(Buffer.from(bytes));
      },
      end: async () => {
        this.#values[name] = JSON.parse(Buffer.concat(pieces).toString("utf8"));
      },
      abandon: async () => undefined,
    };
  }
}

async function fileSink(file: string): Promise<Sink> {
  const handle = await open(file, "wx", 0o600);
  return {
    write: async (bytes) => {
      for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at)).bytesWritten;
    },
    end: () => handle.close(),
    abandon: () => handle.close().catch(() => undefined),
  };
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
