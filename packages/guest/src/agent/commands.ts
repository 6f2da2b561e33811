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
import { constants } from "node:os";
import type { Readable } from "node:stream";
import type { GuestMessage, WorkerMessage } from "@helmr/guest-protocol";
import { boundedText } from "../task-error.ts";
import { type PipedProcess, startPiped } from "./command-pipes.ts";
import { Consumption } from "./consumption.ts";
import { CreditedOutput } from "./credited-output.ts";
import { signalSession, trySignal } from "./kill.ts";
import { type Operators, operatorProcess } from "./operators.ts";
import { programFile, startText } from "./programs.ts";
import type { Spawner } from "./spawn.ts";
import type { GuestUser } from "./users.ts";

type ExecStart = Extract<WorkerMessage, { type: "exec.start" }>;
type ExecEnd = Pick<Extract<GuestMessage, { type: "exec.exited" }>, "code" | "signal" | "error">;

interface RunningCommand {
  readonly process: PipedProcess;
  readonly output: { readonly stdout: CreditedOutput; readonly stderr: CreditedOutput };
  readonly input: Consumption;
  ended: boolean;
}

export interface CommandsOptions {
  readonly operators: Operators;
  /** Loads the addon; throws where it cannot be loaded. */
  readonly spawner: () => Spawner;
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
    const { stdin } = command.process;
    if (stdin?.writable !== true)
      command.input.done(data.length); // E3
    // Called with an error, too, when the program closes its end.
    else stdin.write(data, () => command.input.done(data.length));
  }

  closeInput(execId: string): void {
    const stdin = this.#running.get(execId)?.process.stdin;
    // A pipe has no half to shut down: it is closed once all is written.
    stdin?.end(() => stdin.destroy());
  }

  grant(execId: string, stream: "stdout" | "stderr", bytes: number): void {
    this.#running.get(execId)?.output[stream].grant(bytes);
  }

  /** Signal the command's process group; SIGKILL ends its whole session. A command that ended is left alone. */
  signal(execId: string, name: string): void {
    const command = this.#running.get(execId);
    if (command === undefined || command.ended || !isSignal(name)) return;
    if (name === "SIGKILL") signalSession(command.process.pid, name);
    trySignal(-command.process.pid, name);
  }

  async #run(message: ExecStart): Promise<ExecEnd> {
    const { operators, send } = this.#options;
    const execId = message.exec_id;
    operators.admit(execId);
    const process = this.#spawn(message);
    // The program closed its input: `write` sees that it takes no more.
    process.stdin?.on("error", () => undefined);
    const started = send({ type: "exec.started", exec_id: execId, pid: process.pid });
    const relay = (stream: "stdout" | "stderr", source: Readable): CreditedOutput =>
      new CreditedOutput(source, (data) => send({ type: "exec.output", exec_id: execId, stream, data }));
    const output = { stdout: relay("stdout", process.stdout), stderr: relay("stderr", process.stderr) };
    const input = new Consumption((bytes) => {
      send({ type: "exec.stdin_consumed", exec_id: execId, bytes }).catch(() => undefined);
    });
    const running: RunningCommand = { process, output, input, ended: false };
    this.#running.set(execId, running);
    operators.started(execId, process.pid);
    try {
      await started;
      const end = await process.ended;
      running.ended = true;
      process.stdin?.destroy();
      output.stdout.programEnded();
      output.stderr.programEnded();
      await Promise.all([output.stdout.ended, output.stderr.ended]);
      return end;
    } finally {
      this.#running.delete(execId);
      operators.ended(execId, process.pid);
    }
  }

  #spawn(message: ExecStart): PipedProcess {
    const { argv, cwd } = message;
    const { user, env } = operatorProcess(this.#options.image, message, message.exec_id);
    const [command = ""] = argv;
    try {
      const request = { file: programFile(command, env.PATH ?? "", cwd), argv, env, cwd, user };
      return startPiped(this.#options.spawner(), request, message.stdin === "pipe");
    } catch (error) {
      throw new Error(startText(error as Error, { argv, cwd, user }));
    }
  }
}

function isSignal(name: string): name is NodeJS.Signals {
  return Object.hasOwn(constants.signals, name);
}
