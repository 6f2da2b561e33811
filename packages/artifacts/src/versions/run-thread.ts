/** Runs a save or a restore in a thread, and does for it what the store is asked for. */
import { Worker } from "node:worker_threads";
import type { StoreAccess } from "./artifact-access.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { threadError } from "./thread-errors.ts";
import type {
  FromThread,
  ThreadData,
  ThreadJob,
  ThreadOutcome,
  ThreadRequest,
  ToThread,
} from "./thread-messages.ts";

/** Resolves or rejects when the thread has ended: nobody is in the folder any more. Aborted: rejects with the signal's reason. */
export async function runInThread(
  job: ThreadJob,
  access: StoreAccess,
  signal: AbortSignal | undefined,
): Promise<ThreadOutcome> {
  signal?.throwIfAborted();
  const aborted = new Int32Array(new SharedArrayBuffer(4));
  const workerData: ThreadData = { job, aborted };
  const worker = new Worker(new URL("./thread-main.ts", import.meta.url), {
    workerData,
    name: `version ${job.kind}`,
  });
  const failures: unknown[] = [];
  /** Answers nobody waits for any more when the work is given up. */
  const given = Promise.withResolvers<never>();
  given.promise.catch(() => undefined);
  const giveUp = () => {
    Atomics.store(aborted, 0, 1);
    given.reject(signal?.reason);
  };
  signal?.addEventListener("abort", giveUp, { once: true });
  try {
    const last = await new Promise<FromThread | undefined>((resolve, reject) => {
      let ended: FromThread | undefined;
      worker.on("message", (message: FromThread) => {
        if (message.type === "done" || message.type === "failed") ended = message;
        else void answer(message);
      });
      const answer = async (request: ThreadRequest) => {
        let reply: ToThread;
        try {
          reply = { id: request.id, bytes: await Promise.race([serve(request, access), given.promise]) };
        } catch (error) {
          failures.push(error);
          reply = { id: request.id, error: threadError(error) };
        }
        worker.postMessage(reply, reply.bytes === undefined ? [] : [reply.bytes.buffer as ArrayBuffer]);
      };
      worker.on("error", reject);
      worker.on("exit", () => resolve(ended));
    });
    signal?.throwIfAborted();
    if (last?.type === "done") return last.outcome;
    throw asError(last, failures);
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}

async function serve(request: ThreadRequest, access: StoreAccess): Promise<Uint8Array | undefined> {
  if (request.type === "fetch") return access.fetch(request.digest, request.maxBytes);
  if (request.type === "store") await access.store(request.digest, request.bytes);
  else await access.reserve(request.digests);
  return undefined;
}

function asError(last: FromThread | undefined, failures: readonly unknown[]): unknown {
  if (last?.type !== "failed") return new Error("the thread of a workspace version ended without a result");
  const { message, reason, digest, stack } = last.error;
  // What the store or the reservation rejected with, rather than its copy.
  const original = failures.find((failure) => failure instanceof Error && failure.message === message);
  if (original !== undefined) return original;
  const error =
    reason === undefined ? new Error(message) : new WorkspaceVersionError(reason, message, { digest });
  if (stack !== undefined) error.stack = stack;
  return error;
}
