/**
 * The task host: the process a task runs in. The agent starts it before a run is there, so that Node, the module hooks
 * and the SDK are loaded when the run arrives. It executes one run and ends.
 *
 * | state    | entered by           | left by                                          |
 * |----------|----------------------|--------------------------------------------------|
 * | ready    | hooks and SDK loaded | run.start -> running                             |
 * | running  | run.start            | outcome, or an error nobody caught -> finishing  |
 * | finishing| `run.finished` sent  | output flushed -> process.exit                   |
 *
 * A task may end the process itself at any time; the agent turns that into an outcome.
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { inspect } from "node:util";
import type { RunOutcome } from "@helmr/guest-protocol";
import type { FromHost, ToHost } from "../host-protocol.ts";
import { openJsonChannel } from "../json-channel.ts";
import { boundedText, describeThrown } from "../task-error.ts";
import { createBridge } from "./bridge.ts";
import { Calls } from "./calls.ts";
import { registerModuleHooks } from "./module-hooks.ts";
import { prepareReseeding } from "./randomness.ts";
import { cancelled, executeRun, type SdkInternal } from "./run.ts";

const sdkFolder = join(import.meta.dirname, "sdk");
/** Taken before any code of the author can replace them. */
const { stdout, stderr } = process;
const exit = process.exit.bind(process);
const flushLimitMs = 1_000;
const reseedRandomness = prepareReseeding(import.meta.dirname);

const abort = new AbortController();
let running = false;
let finishing = false;

makeBlocking(stdout);
makeBlocking(stderr);
registerModuleHooks(sdkFolder);
// Loaded by file, past the hooks' specifier: one instance with what the task imports as "@helmr/sdk".
const sdk = (await import(pathToFileURL(sdkEntry("internal")).href)) as SdkInternal;
await import(pathToFileURL(sdkEntry("index")).href);
// The first TypeScript module pays for the compiler and the loader's cold paths: 60 ms in a guest, so pay it here.
await import(pathToFileURL(join(import.meta.dirname, "warm.ts")).href);
const channel = openJsonChannel<ToHost, FromHost>(onMessage);
const calls = new Calls((call) => channel.send({ type: "call", ...call }));
process.on("uncaughtException", onUncaught);
channel.send({ type: "ready" });

function sdkEntry(name: "index" | "internal"): string {
  return join(sdkFolder, "lib", `${name}.js`);
}

function onMessage(message: ToHost): void {
  if (message.type === "run.cancel") {
    // A DOMException, as `AbortSignal.timeout` and fetch use, so that `throwIfAborted` throws an AbortError.
    abort.abort(new DOMException(message.reason, "AbortError"));
    return;
  }
  if (message.type === "call.result") {
    calls.settle(message.call_id, message.result);
    return;
  }
  if (message.type === "run.restored") {
    const reseeding = reseedRandomness();
    const problem = reseeding.complete ? undefined : reseeding.reason;
    channel.send({ type: "run.restored", randomness_problem: problem });
    return;
  }
  if (running) return;
  running = true;
  const bridge = createBridge(message, {
    metadata: (operation) => channel.send({ type: "metadata", operation }),
    call: (method, params) => calls.make(method, params),
    signal: abort.signal,
  });
  void executeRun(message, {
    sdk,
    bridge,
    signal: abort.signal,
    onStarted: () => channel.send({ type: "run.started", at_ms: Date.now() }),
  }).then(finish);
}

/** Thrown in a callback, or a rejection nobody handled; a listener of the author's own takes precedence. */
function onUncaught(error: unknown, origin: NodeJS.UncaughtExceptionOrigin): void {
  if (process.listenerCount("uncaughtException") > 1) return;
  if (abort.signal.aborted) {
    void finish(cancelled(abort.signal));
    return;
  }
  stderr.write(`${boundedText(inspect(error))}\n`);
  const described = describeThrown(error);
  const what = origin === "unhandledRejection" ? "Unhandled promise rejection" : "Uncaught exception";
  described.message = boundedText(`${what}: ${described.message}`);
  void finish({ status: "failed", failure_kind: "task_failed", error: described });
}

async function finish(outcome: RunOutcome): Promise<void> {
  if (finishing) return;
  finishing = true;
  await Promise.race([
    Promise.all([flushed(stdout), flushed(stderr)]),
    new Promise((resolve) => setTimeout(resolve, flushLimitMs)),
  ]);
  channel.send({ type: "run.finished", outcome });
  await channel.flushed();
  exit(0);
}

/**
 * Write at once and wait when the agent holds output back: memory stays bounded, and `process.exit` right after a
 * large write loses nothing. Node does so for pipes, but not for the sockets that parents make of them.
 */
function makeBlocking(stream: NodeJS.WriteStream): void {
  const { _handle: handle } = stream as { _handle?: { setBlocking?: (blocking: boolean) => unknown } };
  handle?.setBlocking?.(true);
}

/** For streams that could not be made blocking. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => stream.once("drain", resolve));
}
