/** `exec.start` and `exec.signal`: commands in the guest with streamed output. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import type { GuestMessage, WorkerMessage } from "@helmr/guest-protocol";
import { boundedText } from "../task-error.ts";
import { killLeftovers, trySignal } from "./kill.ts";
import { OutputRelay } from "./relay.ts";
import { type GuestUser, resolveUser } from "./users.ts";

type ExecStart = Extract<WorkerMessage, { type: "exec.start" }>;
type ExecExited = Extract<GuestMessage, { type: "exec.exited" }>;

/** Commands at the same time; more are refused. */
const maxCommands = 64;
const outputLimitMs = 2_000;

export class Commands {
  readonly #running = new Map<string, number>();
  readonly #send: (message: GuestMessage) => Promise<void>;
  readonly #baseEnv: Readonly<Record<string, string>>;

  constructor(baseEnv: Readonly<Record<string, string>>, send: (message: GuestMessage) => Promise<void>) {
    this.#baseEnv = baseEnv;
    this.#send = send;
  }

  /** Run a command to its end; `exec.exited` comes last, after all of its output. */
  async start(message: ExecStart): Promise<void> {
    const ended = await this.#run(message).catch(
      (error: Error): Omit<ExecExited, "type" | "exec_id"> => ({ error: boundedText(error.message) }),
    );
    this.#running.delete(message.exec_id);
    await this.#send({ type: "exec.exited", exec_id: message.exec_id, ...ended });
  }

  /** Signal the command's process group; a command that ended is left alone. */
  signal(execId: string, name: string): void {
    const pid = this.#running.get(execId);
    if (pid === undefined || !isSignal(name)) return;
    trySignal(-pid, name);
  }

  async #run(message: ExecStart): Promise<Omit<ExecExited, "type" | "exec_id">> {
    if (this.#running.size >= maxCommands)
      throw new Error(`${maxCommands} commands run already in this guest.`);
    if (this.#running.has(message.exec_id)) throw new Error(`The command ${message.exec_id} runs already.`);
    const user: GuestUser | undefined = message.user === undefined ? undefined : resolveUser(message.user);
    const [command = "", ...args] = message.argv;
    const child = spawn(command, args, {
      cwd: message.cwd,
      env: { ...this.#baseEnv, ...(user === undefined ? {} : { HOME: user.home }), ...message.env },
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
    });
    const relay = new OutputRelay(child.stdout, child.stderr, (stream, data) =>
      this.#send({ type: "exec.output", exec_id: message.exec_id, stream, data }),
    );
    const ended = new Promise<Omit<ExecExited, "type" | "exec_id">>((resolve, reject) => {
      child.once("error", (error) => reject(startError(error, message)));
      child.once("exit", (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined }));
    });
    if (child.pid !== undefined) this.#running.set(message.exec_id, child.pid);
    const result = await ended;
    if (child.pid !== undefined) killLeftovers(child.pid, { everything: false });
    const timer = setTimeout(() => relay.stop(), outputLimitMs);
    await relay.ended;
    clearTimeout(timer);
    return result;
  }
}

function startError(error: Error, message: ExecStart): Error {
  const code = (error as NodeJS.ErrnoException).code;
  if (code !== "ENOENT") return error;
  return new Error(`ENOENT: the guest has no command "${message.argv[0]}", or no folder ${message.cwd}.`);
}

function isSignal(name: string): name is NodeJS.Signals {
  return Object.hasOwn(constants.signals, name);
}
