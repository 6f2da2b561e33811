/** The thread in which folders are walked, read and written, so that the worker's event loop stays free. */
import { type MessagePort, parentPort } from "node:worker_threads";
import type { ArtifactAccess } from "./artifact-access.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { restoreFolder } from "./restore-job.ts";
import { saveFolder } from "./save-job.ts";
import { threadError } from "./thread-errors.ts";
import type {
  FromThread,
  ThreadError,
  ThreadReply,
  ThreadRequest,
  ThreadStart,
  ToThread,
} from "./thread-messages.ts";

type Unnumbered<T> = T extends unknown ? Omit<T, "id"> : never;

class PortAccess implements ArtifactAccess {
  readonly #port: MessagePort;
  readonly #waiting = new Map<
    number,
    { resolve: (bytes: Uint8Array) => void; reject: (error: unknown) => void }
  >();
  #last = 0;

  constructor(port: MessagePort) {
    this.#port = port;
  }

  reply({ id, bytes, error }: ThreadReply): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(bytes ?? new Uint8Array());
    else waiting?.reject(fromOwner(error));
  }

  fetch(digest: string, maxBytes: number): Promise<Uint8Array> {
    return this.#ask({ type: "fetch", digest, maxBytes }, []);
  }

  async store(digest: string, bytes: Uint8Array): Promise<void> {
    await this.#ask({ type: "store", digest, bytes }, [bytes.buffer as ArrayBuffer]);
  }

  async reserve(digests: readonly string[]): Promise<void> {
    await this.#ask({ type: "reserve", digests }, []);
  }

  #ask(request: Unnumbered<ThreadRequest>, transfer: ArrayBuffer[]): Promise<Uint8Array> {
    this.#last += 1;
    const id = this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#port.postMessage({ ...request, id }, transfer);
    });
  }
}

function fromOwner(error: ThreadError): Error {
  if (error.reason === undefined) return new Error(error.message);
  return new WorkspaceVersionError(error.reason, error.message, { digest: error.digest });
}

async function run(access: PortAccess, { job, aborted }: ThreadStart): Promise<FromThread> {
  const checkAborted = () => {
    if (Atomics.load(aborted, 0) !== 0) throw new Error("given up");
  };
  try {
    const outcome =
      job.kind === "save"
        ? await saveFolder(job.job, access, checkAborted)
        : await restoreFolder(job.job, access, checkAborted);
    return { type: "done", outcome };
  } catch (error) {
    return { type: "failed", error: threadError(error) };
  }
}

if (parentPort === null) throw new Error("this is the main file of a thread");
const port = parentPort;
const access = new PortAccess(port);
port.on("message", async (message: ToThread) => {
  if (message.type === "reply") access.reply(message);
  else port.postMessage(await run(access, message));
});
