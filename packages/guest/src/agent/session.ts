/**
 * The agent's conversation with the worker.
 *
 * | state   | entered by                        | left by                                   |
 * |---------|-----------------------------------|-------------------------------------------|
 * | booting | start                             | task host ready -> idle, `ready` is sent  |
 * | idle    | ready                             | run.start -> busy; index stays            |
 * | busy    | run.start                         | never: a used guest is destroyed          |
 *
 * Commands and terminals are served from `ready` on in every state, before, beside, after and without a run.
 *
 *  S1  A guest executes at most one run; a second `run.start` ends the agent.
 *  S2  A task host that ends while idle ends the agent: a pool must not hand this guest out. Once operators use the guest
 *      it is in no pool any more, and what they started must not end with a host that one of them killed: a run that
 *      comes gets a new one.
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
import { killSessionTree } from "./kill.ts";
import { Operators } from "./operators.ts";
import { type ActiveRun, startRun } from "./run.ts";
import { placeSecrets } from "./secrets.ts";
import { Spawner } from "./spawn.ts";
import type { GuestProcess, ProcessExit } from "./task-process.ts";
import { Terminals } from "./terminals.ts";
import type { GuestUser } from "./users.ts";

type OperatorMessage = Extract<WorkerMessage, { type: `exec.${string}` | `pty.${string}` }>;
type RunStart = Extract<WorkerMessage, { type: "run.start" }>;

const hostReadyLimitMs = 60_000;
const hostStderrBytes = 16 * 1024;

export interface SessionOptions {
  readonly link: ReliableLink<GuestMessage, WorkerMessage>;
  /** Absent in build guests and where no run is expected. */
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
  readonly #operators = new Operators();
  readonly #commands: Commands;
  readonly #terminals: Terminals;
  #host: GuestProcess | undefined;
  #run: ActiveRun | undefined;
  #busy = false;
  #cancelReason: string | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#host = options.host;
    const { env, user, helmrFolder } = options;
    let spawner: Spawner | undefined;
    const shared = {
      operators: this.#operators,
      spawner: () => {
        spawner ??= new Spawner(helmrFolder);
        return spawner;
      },
      image: { env, user },
      send: (message: GuestMessage) => this.#send(message),
    };
    this.#commands = new Commands(shared);
    this.#terminals = new Terminals(shared);
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
      default:
        this.#operate(message);
    }
  }

  #operate(message: OperatorMessage): void {
    const fatal = (error: unknown): void => this.#options.fatal(String(error));
    try {
      // Rejects only when the link is closed, throws only when the worker sends more input than its windows allow.
      void this.#handleOperator(message)?.catch(fatal);
    } catch (error) {
      fatal(error);
    }
  }

  #handleOperator(message: OperatorMessage): Promise<void> | undefined {
    switch (message.type) {
      case "exec.start":
        return this.#commands.start(message);
      case "exec.stdin":
        this.#commands.write(message.exec_id, message.data);
        return;
      case "exec.stdin_close":
        this.#commands.closeInput(message.exec_id);
        return;
      case "exec.output_credit":
        this.#commands.grant(message.exec_id, message.stream, message.bytes);
        return;
      case "exec.signal":
        this.#commands.signal(message.exec_id, message.signal);
        return;
      case "pty.start":
        return this.#terminals.start(message);
      case "pty.input":
        this.#terminals.write(message.pty_id, message.data);
        return;
      case "pty.resize":
        this.#terminals.resize(message.pty_id, message.cols, message.rows);
        return;
      case "pty.output_credit":
        this.#terminals.grant(message.pty_id, message.bytes);
        return;
      case "pty.close":
        this.#terminals.close(message.pty_id);
        return;
    }
  }

  async #start(start: RunStart): Promise<void> {
    const secrets = placeSecrets(start.secrets, start.workspace_path, this.#options.user);
    try {
      const env = { ...this.#options.env, ...start.env, ...secrets.env };
      const host = await this.#hostFor(env);
      this.#run = startRun(start, host, secrets, env, this.#operators, (message) => this.#send(message));
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
    if (present !== undefined) killSessionTree(present.child.pid ?? 0);
    const host = this.#options.startHost(env);
    await untilReady(host);
    return host;
  }

  /** S2: while no run has taken it, the host's end is the guest's. */
  #watchIdle(host: GuestProcess): void {
    void host.exited.then((exit) => {
      if (this.#host !== host) return;
      if (!this.#operators.used) this.#options.fatal(`The idle task host ended (${exitText(exit)}).`);
      this.#host = undefined;
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
