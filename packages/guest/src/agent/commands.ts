/**
 * `exec.*`: commands in the guest with their input, output and end.
 *
 * | state   | entered by            | left by                                                                        |
 * |---------|-----------------------|--------------------------------------------------------------------------------|
 * | running | exec.start            | end of the process -> draining; it did not start -> ended                      |
 * | draining| end of the process    | output sent, or limit of what its children hold open (credited-output.ts) -> ended |
 * | ended   | exec.exited is sent   | never                                                                          |
 *
 *  E1  `exec.exited` is the last message of a command, after all of its output.
 *  E2  What it left in the background goes on, as with a shell that one logs out of; only its pipes are closed.
 *  E3  Memory: of input at most the window, of output the two streams' buffers. A program that closed its input or has
 *      ended takes what still comes.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { statSync } from "node:fs";
import { constants } from "node:os";
import type { Readable } from "node:stream";
import type { GuestMessage, WorkerMessage } from "@helmr/guest-protocol";
import { boundedText } from "../task-error.ts";
import { Consumption } from "./consumption.ts";
import { CreditedOutput } from "./credited-output.ts";
import { signalSession, trySignal } from "./kill.ts";
import { type Operators, operatorProcess } from "./operators.ts";
import type { GuestUser } from "./users.ts";

type ExecStart = Extract<WorkerMessage, { type: "exec.start" }>;
type ExecEnd = Pick<Extract<GuestMessage, { type: "exec.exited" }>, "code" | "signal" | "error">;

interface RunningCommand {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly output: { readonly stdout: CreditedOutput; readonly stderr: CreditedOutput };
  readonly input: Consumption;
  ended: boolean;
}

export interface CommandsOptions {
  readonly operators: Operators;
  readonly image: { readonly user: GuestUser | undefined; readonly env: Readonly<Record<string, string>> };
  readonly send: (message: GuestMessage) => Promise<void>;
}

export class Commands {
  readonly #options: CommandsOptions;
  readonly #running = new Map<string, RunningCommand>();

  constructor(options: CommandsOptions) {
    this.#options = options;
  }

  /** Run a command to its end (E1). Rejects only when the link is closed. */
  async start(message: ExecStart): Promise<void> {
    const end = await this.#run(message).catch((error: Error): ExecEnd => ({ error: error.message }));
    const error = end.error === undefined ? undefined : boundedText(end.error);
    await this.#options.send({ type: "exec.exited", exec_id: message.exec_id, ...end, error });
  }

  /** Throws a RangeError when the worker sends more than the window. */
  write(execId: string, data: Uint8Array): void {
    const command = this.#running.get(execId);
    if (command === undefined) return;
    command.input.take(data.length);
    const { stdin } = command.child;
    if (stdin === null || !stdin.writable)
      command.input.done(data.length); // E3
    // Called with an error, too, when the program closes its end.
    else stdin.write(data, () => command.input.done(data.length));
  }

  closeInput(execId: string): void {
    this.#running.get(execId)?.child.stdin?.end();
  }

  grant(execId: string, stream: "stdout" | "stderr", bytes: number): void {
    this.#running.get(execId)?.output[stream].grant(bytes);
  }

  /** Signal the command's process group; SIGKILL ends its whole session. A command that ended is left alone. */
  signal(execId: string, name: string): void {
    const command = this.#running.get(execId);
    if (command === undefined || command.ended || !isSignal(name)) return;
    if (name === "SIGKILL") signalSession(command.pid, name);
    trySignal(-command.pid, name);
  }

  async #run(message: ExecStart): Promise<ExecEnd> {
    const { operators, image, send } = this.#options;
    const execId = message.exec_id;
    operators.admit(execId);
    const { user, env } = operatorProcess(image, message, execId);
    const [command = "", ...args] = message.argv;
    const child = spawn(command, args, {
      cwd: message.cwd,
      env,
      detached: true,
      stdio: [message.stdin === "pipe" ? "pipe" : "ignore", "pipe", "pipe"],
      ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
    });
    const exited = new Promise<ExecEnd>((resolve, reject) => {
      child.once("error", (error) => reject(startError(error, message)));
      child.once("exit", (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined }));
    });
    const { pid, stdout, stderr } = child;
    if (pid === undefined || stdout === null || stderr === null) return exited;
    // The program closed its input: `write` sees that it takes no more.
    child.stdin?.on("error", () => undefined);
    const relay = (stream: "stdout" | "stderr", source: Readable): CreditedOutput =>
      new CreditedOutput(source, (data) => send({ type: "exec.output", exec_id: execId, stream, data }));
    const started = send({ type: "exec.started", exec_id: execId, pid });
    const output = { stdout: relay("stdout", stdout), stderr: relay("stderr", stderr) };
    const input = new Consumption((bytes) => {
      send({ type: "exec.stdin_consumed", exec_id: execId, bytes }).catch(() => undefined);
    });
    const running: RunningCommand = { child, pid, output, input, ended: false };
    this.#running.set(execId, running);
    operators.started(execId, pid);
    try {
      await started;
      const end = await exited;
      running.ended = true;
      child.stdin?.destroy();
      output.stdout.programEnded();
      output.stderr.programEnded();
      await Promise.all([output.stdout.ended, output.stderr.ended]);
      return end;
    } finally {
      this.#running.delete(execId);
      operators.ended(execId, pid);
    }
  }
}

function startError(error: Error, { argv: [command], cwd, user }: ExecStart): Error {
  const code = (error as NodeJS.ErrnoException).code;
  if (code !== "ENOENT" && code !== "EACCES" && code !== "ENOTDIR") return error;
  const folder = statSync(cwd, { throwIfNoEntry: false });
  if (folder?.isDirectory() !== true) return new Error(`${code}: the guest has no folder ${cwd}.`);
  if (code === "ENOENT") return new Error(`ENOENT: the guest has no command "${command}".`);
  const who = user === undefined ? "The image's user" : `User ${user}`;
  return new Error(`${code}: ${who} may not execute "${command}", or not enter ${cwd}.`);
}

function isSignal(name: string): name is NodeJS.Signals {
  return Object.hasOwn(constants.signals, name);
}
