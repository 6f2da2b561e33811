/**
 * The thread in which archives are opened: away from the owner's event loop, and from its heap, which every hundred megabytes of
 * buffers would have collected as a whole.
 */
import { parentPort } from "node:worker_threads";
import { ArchiveError } from "./errors.ts";
import { type OpenJob, openInto } from "./open-job.ts";
import type { FromOpener, OpeningError, ToOpener } from "./open-messages.ts";

if (parentPort === null) throw new Error("this is the main file of a thread");
const port = parentPort;
const say = (message: FromOpener) => port.postMessage(message);

/** What comes for one archive, in order; the owner sends no more than was taken. */
class Incoming {
  #pieces: Uint8Array[] = [];
  #state: "open" | "ended" | "cut" = "open";
  #wake = Promise.withResolvers<void>();
  readonly #folders = new Map<string, PromiseWithResolvers<string>>();

  hear(message: Exclude<ToOpener, { type: "open" }>): void {
    if (message.type === "folder") {
      const { part, path } = message;
      if (path === undefined) this.#folder(part).reject(new Error("there is no folder"));
      else this.#folder(part).resolve(path);
      return;
    }
    if (message.type === "piece") this.#pieces.push(message.bytes);
    else this.#state = message.type === "end" ? "ended" : "cut";
    if (this.#state === "cut")
      for (const folder of this.#folders.values()) folder.reject(new Error("the source has failed"));
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  async *pieces(): AsyncGenerator<Buffer> {
    for (;;) {
      if (this.#state === "cut") throw new Error("the source has failed");
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        say({ type: "taken", bytes: piece.length });
        yield Buffer.from(piece.buffer, piece.byteOffset, piece.length);
      } else if (this.#state === "ended") return;
      else await this.#wake.promise;
    }
  }

  folderOf(part: string): Promise<string> {
    say({ type: "folder", part });
    return this.#folder(part).promise;
  }

  #folder(part: string): PromiseWithResolvers<string> {
    const known = this.#folders.get(part) ?? Promise.withResolvers<string>();
    known.promise.catch(() => undefined); // Awaited when its turn comes, which may be never.
    this.#folders.set(part, known);
    return known;
  }
}

async function open(incoming: Incoming, job: OpenJob): Promise<FromOpener> {
  try {
    return {
      type: "done",
      opened: await openInto(incoming.pieces(), job, (part) => incoming.folderOf(part)),
    };
  } catch (error) {
    return { type: "failed", error: openingError(error) };
  }
}

function openingError(error: unknown): OpeningError {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
  const reason = error instanceof ArchiveError ? error.reason : undefined;
  return { message, code, reason, isRange: error instanceof RangeError };
}

let incoming: Incoming | undefined;
port.on("message", async (message: ToOpener) => {
  if (message.type !== "open") {
    incoming?.hear(message); // After a failure the rest of the archive is of no interest.
    return;
  }
  const own = new Incoming();
  incoming = own;
  const last = await open(own, message.job);
  incoming = undefined;
  say(last);
});
