/**
 * The agent's conversation with the worker.
 *
 * | state   | entered by                        | left by                                   |
 * |---------|-----------------------------------|-------------------------------------------|
 * | booting | start                             | task host ready -> idle, `ready` is sent  |
 * | idle    | ready                             | run.start -> busy; index and exec stay    |
 * | busy    | run.start                         | never: a used guest is destroyed          |
 *
 *  S1  A guest executes at most one run; a second `run.start` ends the agent.
 *  S2  A task host that ends while idle ends the agent: a pool must not hand this guest out.
 */
import {
  type GuestMessage,
  protocolVersion,
  type ReliableLink,
  type WorkerMessage,
} from "@helmr/guest-protocol";
import { describeThrown } from "../task-error.ts";
import { Commands } from "./commands.ts";
import { needsRestart } from "./environment.ts";
import { fromHost, readMessages } from "./host-channel.ts";
import { runIndexer } from "./index-run.ts";
import { killLeftovers } from "./kill.ts";
import { type ActiveRun, startRun } from "./run.ts";
import { placeSecrets } from "./secrets.ts";
import type { GuestProcess, ProcessExit } from "./task-process.ts";
import type { GuestUser } from "./users.ts";

type RunStart = Extract<WorkerMessage, { type: "run.start" }>;

const hostReadyLimitMs = 60_000;
const hostStderrBytes = 16 * 1024;

export interface SessionOptions {
  readonly link: ReliableLink<GuestMessage, WorkerMessage>;
  /** Absent in build guests. */
  readonly host: GuestProcess | undefined;
  readonly startHost: (env: Readonly<Record<string, string>>) => GuestProcess;
  readonly user: GuestUser | undefined;
  /** The image's environment; commands run as root get its variant without the task user's HOME. */
  readonly env: Readonly<Record<string, string>>;
  readonly helmrFolder: string;
  /** Ends the agent with a text on stderr. */
  readonly fatal: (message: string) => never;
}

export class AgentSession {
  readonly #options: SessionOptions;
  readonly #commands: Commands;
  #host: GuestProcess | undefined;
  #run: ActiveRun | undefined;
  #busy = false;
  #cancelReason: string | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#host = options.host;
    this.#commands = new Commands(options.env, (message) => this.#send(message));
  }

  /** Wait for the task host and report `ready`. */
  async start(): Promise<void> {
    if (this.#host !== undefined) {
      await untilReady(this.#host);
      this.#watchIdle(this.#host);
    }
    await this.#send({
      type: "ready",
      protocol: protocolVersion,
      node_version: process.versions.node,
      pid: process.pid,
    });
  }

  /** Handle a message of the worker; long work goes on in the background. */
  handle(message: WorkerMessage): void {
    switch (message.type) {
      case "run.start":
        if (this.#busy) this.#options.fatal("A second run.start: a guest executes one run."); // S1
        this.#busy = true;
        void this.#start(message).catch((error: unknown) => this.#failRun(error));
        return;
      case "run.cancel":
        this.#cancelReason ??= message.reason;
        this.#run?.cancel(message.reason);
        return;
      case "call.result":
        this.#run?.tell(message);
        return;
      case "run.restored":
        this.#run?.restored();
        return;
      case "index.start":
        void runIndexer({
          sourceRoot: message.source_root,
          helmrFolder: this.#options.helmrFolder,
          env: this.#options.env,
          user: this.#options.user,
          send: (reply) => this.#send(reply),
        }).catch((error: unknown) => this.#options.fatal(String(error)));
        return;
      case "exec.start":
        void this.#commands.start(message).catch((error: unknown) => this.#options.fatal(String(error)));
        return;
      case "exec.signal":
        this.#commands.signal(message.exec_id, message.signal);
        return;
    }
  }

  async #start(start: RunStart): Promise<void> {
    const secrets = placeSecrets(start.secrets, start.workspace_path, this.#options.user);
    try {
      const env = { ...this.#options.env, ...start.env, ...secrets.env };
      const host = await this.#hostFor(env);
      this.#run = startRun(start, host, secrets, env, (message) => this.#send(message));
    } catch (error) {
      secrets.remove();
      throw error;
    }
    if (this.#cancelReason !== undefined) this.#run.cancel(this.#cancelReason);
    await this.#run.finished;
  }

  async #failRun(error: unknown): Promise<void> {
    const outcome = { status: "failed", failure_kind: "task_failed", error: describeThrown(error) } as const;
    await this.#send({ type: "run.finished", outcome });
  }

  /** The link is closed only when the worker broke the protocol, and then the agent ends anyway. */
  #send(message: GuestMessage): Promise<void> {
    return this.#options.link.send(message);
  }

  /** The host that is up, or a new one when the run's environment holds what Node reads at its start only. */
  async #hostFor(env: Readonly<Record<string, string>>): Promise<GuestProcess> {
    const present = this.#host;
    this.#host = undefined;
    if (present !== undefined && !needsRestart(present.env, env)) return present;
    if (present !== undefined) killLeftovers(present.child.pid ?? 0, { everything: false });
    const host = this.#options.startHost(env);
    await untilReady(host);
    return host;
  }

  /** S2: while no run has taken it, the host's end is the guest's. */
  #watchIdle(host: GuestProcess): void {
    void host.exited.then((exit) => {
      if (this.#host === host) this.#options.fatal(`The idle task host ended (${exitText(exit)}).`);
    });
  }
}

/** Resolves when the host has loaded the SDK; until then nothing of the author's runs in it. */
async function untilReady(host: GuestProcess): Promise<void> {
  let stderr = "";
  const onStderr = (chunk: Buffer): void => {
    stderr = (stderr + chunk.toString("utf8")).slice(-hostStderrBytes);
  };
  host.stderr.on("data", onStderr);
  let timer: NodeJS.Timeout | undefined;
  let stop: () => void = () => undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (what: string): void => reject(new Error(`The task host ${what}.\n${stderr}`));
      stop = readMessages(host.channel, fromHost, () => resolve(), reject);
      void host.exited.then((exit) => fail(`ended at its start (${exitText(exit)})`));
      timer = setTimeout(() => fail(`was not ready after ${hostReadyLimitMs / 1000} s`), hostReadyLimitMs);
    });
  } finally {
    clearTimeout(timer);
    stop();
    host.stderr.off("data", onStderr);
    host.stderr.pause();
  }
}

function exitText(exit: ProcessExit): string {
  return exit.error?.message ?? (exit.signal === undefined ? `code ${exit.code}` : `signal ${exit.signal}`);
}
