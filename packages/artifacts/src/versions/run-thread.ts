/** Runs a save or a restore in a thread, and does for it what the store is asked for. */
import { KeptThreads } from "../kept-threads.ts";
import type { StoreAccess } from "./artifact-access.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { threadError } from "./thread-errors.ts";
import type {
  FromThread,
  ThreadJob,
  ThreadOutcome,
  ThreadReply,
  ThreadRequest,
  ThreadStart,
} from "./thread-messages.ts";

const threads = new KeptThreads(new URL("./thread-main.ts", import.meta.url), "workspace versions");

/** Resolves or rejects when the job has ended: nobody is in the folder any more. Aborted: rejects with the signal's reason. */
export async function runInThread(
  job: ThreadJob,
  access: StoreAccess,
  signal: AbortSignal | undefined,
): Promise<ThreadOutcome> {
  signal?.throwIfAborted();
  const aborted = new Int32Array(new SharedArrayBuffer(4));
  const givenUp = Promise.withResolvers<never>();
  givenUp.promise.catch(() => undefined);
  const giveUp = () => {
    Atomics.store(aborted, 0, 1);
    // What the thread waits for may never come.
    givenUp.reject(signal?.reason);
  };
  signal?.addEventListener("abort", giveUp, { once: true });
  const failures: unknown[] = [];
  try {
    const serving = async (request: ThreadRequest): Promise<ThreadReply> => {
      try {
        const bytes = await Promise.race([serve(request, access), givenUp.promise]);
        return { type: "reply", id: request.id, bytes };
      } catch (error) {
        failures.push(error);
        return { type: "reply", id: request.id, error: threadError(error) };
      }
    };
    const last = await converse({ type: "start", job, aborted }, serving);
    signal?.throwIfAborted();
    if (last.type === "done") return last.outcome;
    throw asError(last.error, failures);
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}

type LastMessage = Extract<FromThread, { type: "done" | "failed" }>;

/** Hands a thread its job, answers its requests, and resolves with its last message. Rejects when the thread broke. */
function converse(
  start: ThreadStart,
  serving: (request: ThreadRequest) => Promise<ThreadReply>,
): Promise<LastMessage> {
  return new Promise((resolve, reject) => {
    const worker = threads.take();
    const leave = () => {
      worker.off("message", hear);
      worker.off("error", broken);
      worker.off("exit", broken);
    };
    const broken = (error: unknown) => {
      leave();
      reject(
        error instanceof Error ? error : new Error(`the thread of workspace versions ended with ${error}`),
      );
    };
    const hear = async (message: FromThread) => {
      if (message.type === "done" || message.type === "failed") {
        leave();
        threads.keep(worker);
        resolve(message);
        return;
      }
      const reply = await serving(message);
      worker.postMessage(reply, reply.bytes === undefined ? [] : [reply.bytes.buffer as ArrayBuffer]);
    };
    worker.on("message", hear);
    worker.on("error", broken);
    worker.on("exit", broken);
    worker.postMessage(start);
  });
}

async function serve(request: ThreadRequest, access: StoreAccess): Promise<Uint8Array | undefined> {
  if (request.type === "fetch") return access.fetch(request.digest, request.maxBytes);
  if (request.type === "store") await access.store(request.digest, request.bytes);
  else await access.reserve(request.digests);
  return undefined;
}

function asError(
  { message, reason, digest, stack }: Extract<FromThread, { type: "failed" }>["error"],
  failures: readonly unknown[],
): unknown {
  // What the store or the reservation rejected with, rather than its copy.
  const original = failures.find((failure) => failure instanceof Error && failure.message === message);
  if (original !== undefined) return original;
  const error =
    reason === undefined ? new Error(message) : new WorkspaceVersionError(reason, message, { digest });
  if (stack !== undefined) error.stack = stack;
  return error;
}
