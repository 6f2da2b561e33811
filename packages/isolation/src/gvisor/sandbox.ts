/**
 * One `runsc run` or `runsc restore` process: starting it, knowing when the guest's processes run, and why it ended.
 *
 * `runsc restore` makes the sandbox at once and reads the image when its gate was opened (resources.ts): what needs no image
 * is done while that is still on its way.
 *
 * `runsc run` in the foreground (instead of create + start) is one process start less, hands the guest's exit code
 * on, and is told apart from a failure of runsc itself by its own log.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { constants } from "node:os";
import path from "node:path";
import { type Duplex, PassThrough, type Readable, type Writable } from "node:stream";
import { IsolationError } from "../errors.ts";
import { toolEnvironment, tryHostCommand } from "../host/command.ts";
import type { GuestExit } from "../isolation.ts";
import { ProcessStream } from "./stream.ts";

/** Inside a root folder of its own every sandbox can have the same id, which keeps socket paths short. */
const sandboxId = "g";
const startTimeoutMs = 60_000;
const commandTimeoutMs = 10_000;
/** Memory goes to tmpfs at some 2 GB/s; a guest of 64 GiB on a busy host is what this allows for. */
const saveTimeoutMs = 300_000;
/** What runsc exits with when it fails itself; a guest's own code 128 is told apart by runsc's log. */
const runscFailureCode = 128;

export interface SandboxOptions {
  readonly runscPath: string;
  /** Shared by all sandboxes: runsc keeps one empty network namespace there for its file servers. */
  readonly sharedRoot: string;
  /** This sandbox's state; below /run. */
  readonly root: string;
  /** Holds config.json; receives runsc's log. */
  readonly bundle: string;
  readonly network: "sandbox" | "none";
  readonly cgroups: boolean;
  /** The folder of a checkpoint's image to go on from; undefined: the first process is started. */
  readonly image: string | undefined;
  /** Where discarded writes go, and how many bytes at most; undefined: the root is written directly. */
  readonly scratch: { readonly directory: string; readonly sizeMib: number } | undefined;
}

type RunscProcess = ChildProcessByStdio<Writable, Readable, Readable>;

export class Sandbox {
  readonly #options: SandboxOptions;
  /** The first process's stdin and stdout. */
  readonly stream: Duplex;
  readonly stderr: Readable;
  readonly #process: RunscProcess;
  readonly #ended: Promise<{ readonly code: number | null; readonly signal: string | null }>;

  constructor(options: SandboxOptions) {
    this.#options = options;
    const { bundle, image } = options;
    const command = image === undefined ? ["run"] : ["restore", "--image-path", image];
    const args = [...globalFlags(options), ...command, "--bundle", bundle, sandboxId];
    // A process group of its own: Ctrl-C in the worker's terminal must not reach guests.
    this.#process = spawn(options.runscPath, args, {
      stdio: ["pipe", "pipe", "pipe"],
      env: toolEnvironment,
      detached: true,
    });
    this.stream = new ProcessStream(this.#process.stdin, this.#process.stdout);
    // The same care as S1 of stream.ts: without a reader from the start, Node discards what it finds at the exit.
    this.stderr = this.#process.stderr.pipe(new PassThrough());
    this.#ended = once(this.#process, "exit").then(([code, signal]) => ({ code, signal }));
    this.#ended.catch(() => undefined); // Every reader awaits it itself.
  }

  /** Resolves when the guest's first process was started; rejects if that failed. */
  async started(): Promise<void> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), startTimeoutMs);
    try {
      const running = watchForState(this.#options.root, abort.signal);
      const outcome = await Promise.race([running, this.#ended]);
      // A guest may be over before its state was read: that is a start, unless runsc itself failed.
      if (outcome !== "running" && outcome.code === runscFailureCode) await this.#throwFailure();
      if (outcome !== "running" && outcome.code === null) {
        throw new IsolationError("sandbox", `runsc was killed (${outcome.signal}) before the guest ran`);
      }
      if (outcome === "running" && abort.signal.aborted) {
        throw new IsolationError("sandbox", `runsc did not start the guest within ${startTimeoutMs} ms`);
      }
    } catch (error) {
      if (error instanceof IsolationError) throw error;
      throw new IsolationError("sandbox", `cannot run ${this.#options.runscPath}`, { cause: error });
    } finally {
      clearTimeout(timer);
      abort.abort();
    }
  }

  async #throwFailure(): Promise<void> {
    const detail = await this.#failure();
    const program = detail === undefined ? undefined : missingProgram(detail);
    if (program !== undefined)
      throw new IsolationError("program", `there is no program ${JSON.stringify(program)} in the guest`);
    if (detail !== undefined)
      throw new IsolationError("sandbox", `runsc could not start the guest: ${detail}`);
  }

  /** The last error runsc logged about itself. */
  async #failure(): Promise<string | undefined> {
    const log = await readFile(path.join(this.#options.bundle, "runsc.log"), "utf8").catch(() => "");
    const messages = [...log.matchAll(/"msg":"((?:[^"\\]|\\.)*)","level":"error"/g)];
    const text = messages.at(-1)?.[1];
    return text === undefined ? undefined : String(JSON.parse(`"${text}"`)).slice(0, 2000);
  }

  /** How the guest ended, without knowing about memory (the cgroup does). */
  async exit(): Promise<GuestExit> {
    const { code, signal } = await this.#ended;
    if (code === null) return { reason: "lost", detail: `runsc was killed by ${signal ?? "a signal"}` };
    if (code === runscFailureCode) {
      const detail = await this.#failure();
      if (detail !== undefined) return { reason: "lost", detail };
    }
    const name = code > 128 ? signalName(code - 128) : undefined;
    return name === undefined ? { reason: "exited", code } : { reason: "signalled", signal: name };
  }

  /** Process ids that live when there is no cgroup to find them by: runsc, its file server and the sandbox. */
  async processIds(): Promise<number[]> {
    const state = await readState(this.#options.root);
    const own =
      this.#process.exitCode === null && this.#process.signalCode === null ? this.#process.pid : undefined;
    return [state?.goferPid, state?.sandboxPid, own].filter(
      (pid) => pid !== undefined && pid > 0,
    ) as number[];
  }

  get running(): boolean {
    return (
      this.#process.pid !== undefined && this.#process.exitCode === null && this.#process.signalCode === null
    );
  }

  /** SIGKILL to runsc itself; the sandbox's processes are found through the cgroup. */
  killRunsc(): void {
    this.#process.kill("SIGKILL");
  }

  /** Stop every task inside the sandbox; calls nest, and each needs a `resume` (Kernel.Pause of gVisor). */
  async pause(): Promise<void> {
    await this.#command(["pause"], commandTimeoutMs);
  }

  /** Waits for a `save` that is under way in the sandbox (its runsc may be gone). */
  async resume(): Promise<void> {
    await this.#command(["resume"], saveTimeoutMs);
  }

  /** Write the image. The sandbox lives on: without --leave-running runsc kills it, also when saving failed. */
  async save(directory: string): Promise<void> {
    // Pages stay uncompressed: restoring maps and reads them side by side, and the archive compresses better.
    const flags = ["--leave-running", "--compression=none"];
    await this.#command(["checkpoint", ...flags, `--image-path=${directory}`], saveTimeoutMs);
  }

  async #command(args: readonly string[], timeoutMs: number): Promise<void> {
    const { root, sharedRoot, runscPath } = this.#options;
    const all = [`--root=${root}`, `--shared-root=${sharedRoot}`, ...args, sandboxId];
    const result = await tryHostCommand(runscPath, all, { layer: "sandbox", timeoutMs });
    if (!result.ok) throw new IsolationError("sandbox", `runsc ${args[0]} failed: ${result.detail}`);
  }
}

/** The program of the guest that runsc did not find, by name or by path. */
function missingProgram(detail: string): string | undefined {
  const byName = /error finding executable "(.*?)" in PATH/.exec(detail);
  const byPath = /failed to load (\/.*?): no such file or directory/.exec(detail);
  return (byName ?? byPath)?.[1];
}

function globalFlags(options: SandboxOptions): string[] {
  const { scratch } = options;
  return [
    `--root=${options.root}`,
    `--shared-root=${options.sharedRoot}`,
    `--log=${path.join(options.bundle, "runsc.log")}`,
    "--log-format=json",
    "--platform=systrap",
    "--directfs=true",
    `--network=${options.network}`,
    // A restored guest is elsewhere on the network: its old connections end instead of hanging.
    "--allow-live-tcp-migration=false",
    // Changes the host makes in a mounted folder (entries renamed into a workspace) are seen at once.
    "--file-access-mounts=shared",
    // sudo and su of an image work as in any container; the sandbox boundary does not depend on it.
    "--allow-suid=true",
    "--host-settings=ignore",
    ...(options.cgroups ? [] : ["--ignore-cgroups"]),
    scratch === undefined
      ? "--overlay2=none"
      : `--overlay2=root:dir=${scratch.directory},size=${scratch.sizeMib}m`,
  ];
}

interface SandboxState {
  readonly status: string;
  readonly goferPid: number | undefined;
  readonly sandboxPid: number | undefined;
}

/** runsc writes its state when it has started the first process; undefined while it is absent or half written. */
async function readState(root: string): Promise<SandboxState | undefined> {
  const text = await readFile(path.join(root, `${sandboxId}_sandbox:${sandboxId}.state`), "utf8").catch(
    () => "",
  );
  try {
    const state = JSON.parse(text) as { status?: unknown; goferPid?: unknown; sandbox?: { pid?: unknown } };
    return {
      status: String(state.status),
      goferPid: pidOf(state.goferPid),
      sandboxPid: pidOf(state.sandbox?.pid),
    };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function pidOf(value: unknown): number | undefined {
  return typeof value === "number" && value > 0 ? value : undefined;
}

/** Resolves when the state says "running", or when the signal aborts. */
function watchForState(root: string, signal: AbortSignal): Promise<"running"> {
  return new Promise((resolve, reject) => {
    const watcher = watch(root);
    const finish = () => {
      watcher.close();
      resolve("running");
    };
    const look = async () => {
      const state = await readState(root);
      if (state !== undefined && state.status === "running") finish();
    };
    watcher.on("change", () => void look().catch(reject));
    watcher.on("error", reject);
    signal.addEventListener("abort", finish, { once: true });
    void look().catch(reject);
  });
}

function signalName(number: number): string | undefined {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0];
}
