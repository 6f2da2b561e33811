/** Opening an archive into folders: the reading here, everything else in a thread (open-job.ts, with its invariants). */
import type { Readable } from "node:stream";
import type { Worker } from "node:worker_threads";
import { KeptThreads } from "../kept-threads.ts";
import { ArchiveError } from "./errors.ts";
import type { ArchiveKeys } from "./keys.ts";
import type { FromOpener, OpeningError, ToOpener } from "./open-messages.ts";

/** Sent and not taken yet. */
const maxUntakenBytes = 4 << 20;

export interface OpenOptions {
  readonly keys: ArchiveKeys;
  /**
   * Empty folder for each part that has one, by the part's name; on tmpfs or wiped, they get the plaintext. A promise is
   * awaited when the part's turn has come.
   */
  readonly folders: Readonly<Record<string, string | Promise<string>>>;
  /** Bytes of content; more is `too_large`. */
  readonly maxContentBytes: number;
}

export interface WrittenFile {
  readonly name: string;
  readonly sizeBytes: number;
  /** CRC-32 of what was written. */
  readonly crc32: number;
}

export interface OpenedArchive {
  /** The JSON parts, by name; validate them, they are only as good as what was sealed. */
  readonly values: Readonly<Record<string, unknown>>;
  /** The files of parts that are files, by the part's name. */
  readonly files: Readonly<Record<string, readonly WrittenFile[]>>;
  readonly contentBytes: number;
  readonly durationMs: number;
}

/** One stays (25 MiB): starting one takes about as long as opening a small archive, and restores are far between. */
const threads = new KeptThreads(new URL("./open-thread.ts", import.meta.url), "checkpoint archives", {
  stay: 1,
});

/**
 * Open an archive of `sealArchive`. Rejects with an ArchiveError that says what is wrong, or the source's own error, or a
 * folder's; the folders are empty then. A part that has no folder, and a folder that has no part, is an error, too. Nobody
 * writes there any more when it has settled.
 */
export async function openArchive(source: Readable, options: OpenOptions): Promise<OpenedArchive> {
  const opener = new Opener(options);
  try {
    return await opener.open(source);
  } finally {
    source.destroy();
  }
}

class Opener {
  readonly #options: OpenOptions;
  readonly #worker: Worker = threads.take();
  readonly #last = Promise.withResolvers<FromOpener & { type: "done" | "failed" }>();
  /** What the owner's side failed with. */
  #failure: { readonly error: unknown } | undefined;
  #isOver = false;
  #untakenBytes = 0;
  #taken = Promise.withResolvers<void>();

  constructor(options: OpenOptions) {
    this.#options = options;
    this.#last.promise.catch(() => undefined);
    // Each is awaited when its part's turn comes, which may be never.
    for (const folder of Object.values(options.folders)) Promise.resolve(folder).catch(() => undefined);
  }

  async open(source: Readable): Promise<OpenedArchive> {
    const { keys, folders, maxContentBytes } = this.#options;
    const hear = (message: FromOpener) => this.#hear(message);
    const broken = (error: unknown) =>
      this.#last.reject(
        error instanceof Error ? error : new Error(`the thread of checkpoint archives ended with ${error}`),
      );
    const worker = this.#worker.on("message", hear).on("error", broken).on("exit", broken);
    let isWhole = false;
    try {
      this.#say({ type: "open", job: { keys, parts: Object.keys(folders), maxContentBytes } });
      void this.#send(source);
      const last = await this.#last.promise;
      isWhole = true;
      if (last.type === "done") return last.opened;
      throw this.#failure === undefined ? asError(last.error) : this.#failure.error;
    } finally {
      this.#isOver = true;
      this.#taken.resolve();
      worker.off("message", hear).off("error", broken).off("exit", broken);
      if (isWhole) threads.keep(worker);
    }
  }

  /** Ends with the source, or when the thread has said its last word: `openArchive` destroys the source then. */
  async #send(source: Readable): Promise<void> {
    try {
      for await (const piece of source) {
        const bytes = new Uint8Array(piece as Buffer); // A copy to hand over: the piece may be somebody else's as well.
        this.#untakenBytes += bytes.length;
        this.#say({ type: "piece", bytes }, [bytes.buffer]);
        while (this.#untakenBytes > maxUntakenBytes && !this.#isOver) await this.#taken.promise;
        if (this.#isOver) return;
      }
      this.#say({ type: "end" });
    } catch (error) {
      this.#fail(error);
    }
  }

  #hear(message: FromOpener): void {
    switch (message.type) {
      case "taken":
        this.#untakenBytes -= message.bytes;
        this.#taken.resolve();
        this.#taken = Promise.withResolvers();
        return;
      case "folder":
        void this.#giveFolder(message.part);
        return;
      default:
        this.#last.resolve(message);
    }
  }

  async #giveFolder(part: string): Promise<void> {
    try {
      this.#say({ type: "folder", part, path: await this.#options.folders[part] });
    } catch (error) {
      this.#failure ??= { error };
      this.#say({ type: "folder", part });
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#say({ type: "cut" });
  }

  /** After its last word the thread is another archive's. */
  #say(message: ToOpener, transfer: ArrayBuffer[] = []): void {
    if (!this.#isOver) this.#worker.postMessage(message, transfer);
  }
}

function asError({ message, reason, code, isRange }: OpeningError): Error {
  if (reason !== undefined) return new ArchiveError(reason, message);
  if (isRange) return new RangeError(message);
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}
