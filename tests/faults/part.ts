/**
 * One of Helmr's processes under a supervisor, as an operator's machine has one: what ends is started again.
 *
 *   state      enters by                          leaves by
 *   starting   start, the supervisor              running (it says that it is ready), down (it ended: tried again)
 *   running    it is ready; thaw                  frozen, down
 *   frozen     freeze                             running (thaw), down (kill)
 *   down       kill; it ended by itself           starting: `revive` after a kill, else the supervisor
 *   stopped    stop                               never
 *
 * One that was ready and ends without being killed or stopped is a finding: `ownEnds`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, type WriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface PartOptions {
  readonly name: string;
  readonly program: string;
  readonly nodeArgs: readonly string[];
  readonly args: readonly string[];
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** In what it writes, once it is up. */
  readonly readyText: RegExp;
  readonly logFile: string;
}

type State = "starting" | "running" | "frozen" | "down" | "stopped";

const readyTimeoutMs = 120_000;
const stopTimeoutMs = 60_000;
const pauseMs = 500;

export class Part {
  readonly name: string;
  /** How it ended when nobody had asked for it. */
  readonly ownEnds: string[] = [];
  readonly #options: PartOptions;
  readonly #log: WriteStream;
  #child: ChildProcess | undefined;
  #state: State = "down";
  #held = true;
  #ready = Promise.withResolvers<RegExpExecArray>();

  constructor(options: PartOptions) {
    this.name = options.name;
    this.#options = options;
    this.#log = createWriteStream(options.logFile, { flags: "a", mode: 0o600 });
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get state(): State {
    return this.#state;
  }

  /** Resolves with what matched its ready text, of the process that is there now or comes next. */
  async start(): Promise<RegExpExecArray> {
    this.#held = false;
    if (this.#state === "down") this.#spawn();
    return await this.ready();
  }

  async ready(): Promise<RegExpExecArray> {
    const late = sleep(readyTimeoutMs, undefined, { ref: false }).then(() => {
      throw new Error(
        `${this.name} was not ready in ${readyTimeoutMs / 1000} s: see ${this.#options.logFile}`,
      );
    });
    return await Promise.race([this.#ready.promise, late]);
  }

  /** SIGKILL; it stays away until `revive`. */
  async kill(): Promise<void> {
    this.#held = true;
    const child = this.#child;
    if (child === undefined || isOver(child)) return;
    this.#note("killed by the harness");
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  revive(): void {
    this.#held = false;
    if (this.#state === "down") this.#spawn();
  }

  freeze(): void {
    if (this.#state !== "running") return;
    this.#note("frozen by the harness");
    this.#child?.kill("SIGSTOP");
    this.#state = "frozen";
  }

  thaw(): void {
    if (this.#state !== "frozen") return;
    this.#note("thawed by the harness");
    this.#child?.kill("SIGCONT");
    this.#state = "running";
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** As an operator stops it; its exit code, null when it had to be killed. */
  async stop(): Promise<number | null> {
    this.thaw();
    const child = this.#child;
    this.#state = "stopped";
    if (child === undefined || isOver(child)) return 0;
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
    await exited;
    clearTimeout(timer);
    return child.exitCode;
  }

  #note(text: string): void {
    this.#log.write(`--- ${new Date().toISOString()} ${text}\n`);
  }

  #spawn(): void {
    const { program, nodeArgs, args, variables, readyText } = this.#options;
    const { PATH, HOME, TMPDIR, NODE_EXTRA_CA_CERTS } = process.env;
    const child = spawn(process.execPath, [...nodeArgs, program, ...args], {
      env: { PATH, HOME, TMPDIR, NODE_EXTRA_CA_CERTS, NO_COLOR: "1", ...variables } as NodeJS.ProcessEnv,
      stdio: ["ignore", "pipe", "pipe"],
      // A Ctrl-C in the terminal is the driver's to handle.
      detached: true,
    });
    this.#child = child;
    this.#state = "starting";
    this.#note(`started as ${child.pid}`);
    let tail = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data: Buffer) => {
        this.#log.write(data);
        if (this.#child !== child || this.#state !== "starting") return;
        tail = (tail + data.toString()).slice(-16_384);
        const found = readyText.exec(tail);
        if (found === null) return;
        this.#state = "running";
        this.#ready.resolve(found);
      });
    }
    child.once("exit", (code, signal) => void this.#ended(child, code, signal));
  }

  async #ended(child: ChildProcess, code: number | null, signal: NodeJS.Signals | null): Promise<void> {
    this.#note(`ended with ${code ?? signal}`);
    if (this.#child !== child || this.#state === "stopped") return;
    if (!this.#held && this.#state !== "starting")
      this.ownEnds.push(`${this.name} ended by itself with ${code ?? signal}`);
    this.#state = "down";
    this.#ready = Promise.withResolvers();
    await sleep(pauseMs);
    if (!this.#held && this.state === "down") this.#spawn();
  }
}

function isOver(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
