/**
 * `pty.*`: terminals in the guest.
 *
 * | state   | entered by             | left by                                                                  |
 * |---------|------------------------|--------------------------------------------------------------------------|
 * | open    | pty.start              | pty.close -> closing; end of the process -> draining; not started -> closed |
 * | closing | pty.close: SIGHUP sent | end of the process, by SIGKILL after `closeGraceMs` -> draining          |
 * | draining| end of the process     | output sent, or its limit (credited-output.ts) -> closed                 |
 * | closed  | pty.closed is sent     | never                                                                    |
 *
 *  T1  `pty.closed` is the last message of a terminal, after all of its output.
 *  T2  Writing to a terminal never blocks the agent: what its program does not read waits here, at most the window.
 *  T3  The file descriptor belongs to the stream: it is used only while that is not destroyed.
 */
import { closeSync } from "node:fs";
import { ReadStream } from "node:tty";
import type { GuestMessage, WorkerMessage } from "@helmr/guest-protocol";
import { boundedText } from "../task-error.ts";
import { Consumption } from "./consumption.ts";
import { CreditedOutput } from "./credited-output.ts";
import { signalSession } from "./kill.ts";
import { type Operators, operatorProcess } from "./operators.ts";
import { programFile, shellOf, startText } from "./programs.ts";
import { openPseudoTerminal, setSize } from "./pseudo-terminal.ts";
import type { ProcessEnd, Spawner } from "./spawn.ts";
import { TerminalInput } from "./terminal-input.ts";
import type { GuestUser } from "./users.ts";

type PtyStart = Extract<WorkerMessage, { type: "pty.start" }>;
type PtyEnd = Pick<Extract<GuestMessage, { type: "pty.closed" }>, "code" | "signal" | "error">;

const closeGraceMs = 2_000;

interface OpenTerminal {
  readonly pid: number;
  readonly fd: number;
  readonly stream: ReadStream;
  readonly output: CreditedOutput;
  readonly input: TerminalInput;
  ended: boolean;
  killTimer: NodeJS.Timeout | undefined;
}

export interface TerminalsOptions {
  readonly operators: Operators;
  /** Loads the addon; throws where it cannot be loaded. */
  readonly spawner: () => Spawner;
  readonly image: { readonly user: GuestUser | undefined; readonly env: Readonly<Record<string, string>> };
  readonly send: (message: GuestMessage) => Promise<void>;
}

export class Terminals {
  readonly #options: TerminalsOptions;
  readonly #open = new Map<string, OpenTerminal>();

  constructor(options: TerminalsOptions) {
    this.#options = options;
  }

  /** Keep a terminal until it is closed (T1). Rejects only when the link is closed. */
  async start(message: PtyStart): Promise<void> {
    const end = await this.#run(message).catch((error: Error): PtyEnd => ({ error: error.message }));
    const error = end.error === undefined ? undefined : boundedText(end.error);
    await this.#options.send({ type: "pty.closed", pty_id: message.pty_id, ...end, error });
  }

  /** Throws a RangeError when the worker sends more than the window. */
  write(ptyId: string, data: Uint8Array): void {
    this.#open.get(ptyId)?.input.write(data);
  }

  /** Answered by `pty.resized` while the terminal is open; its program gets SIGWINCH. */
  resize(ptyId: string, cols: number, rows: number): void {
    const terminal = this.#open.get(ptyId);
    if (terminal === undefined) return;
    if (!terminal.stream.destroyed) setSize(this.#options.spawner(), terminal.fd, cols, rows); // T3
    this.#options.send({ type: "pty.resized", pty_id: ptyId, cols, rows }).catch(() => undefined);
  }

  grant(ptyId: string, bytes: number): void {
    this.#open.get(ptyId)?.output.grant(bytes);
  }

  /** What is left of the session after the grace is killed; what left the session (setsid, nohup'd daemons) stays. */
  close(ptyId: string): void {
    const terminal = this.#open.get(ptyId);
    if (terminal === undefined || terminal.ended || terminal.killTimer !== undefined) return;
    signalSession(terminal.pid, "SIGHUP");
    // Those that Ctrl-Z stopped would not see it.
    signalSession(terminal.pid, "SIGCONT");
    terminal.killTimer = setTimeout(() => signalSession(terminal.pid, "SIGKILL"), closeGraceMs);
  }

  async #run(message: PtyStart): Promise<PtyEnd> {
    const { operators, send } = this.#options;
    const id = message.pty_id;
    operators.admit(id);
    const { terminal, exited } = this.#spawn(message);
    this.#open.set(id, terminal);
    operators.started(id, terminal.pid);
    try {
      await send({ type: "pty.opened", pty_id: id, pid: terminal.pid });
      const end = await exited;
      terminal.ended = true;
      clearTimeout(terminal.killTimer);
      // A job that ignored the hangup, once the shell is gone.
      if (terminal.killTimer !== undefined) signalSession(terminal.pid, "SIGKILL");
      terminal.output.programEnded();
      await terminal.output.ended;
      return end;
    } finally {
      terminal.stream.destroy();
      terminal.input.close();
      this.#open.delete(id);
      operators.ended(id, terminal.pid);
    }
  }

  #spawn(message: PtyStart): { terminal: OpenTerminal; exited: Promise<ProcessEnd> } {
    const { image, send } = this.#options;
    const { pty_id: id, cols, rows, cwd } = message;
    const { user, env: operatorEnv } = operatorProcess(image, message, id);
    const shell = shellOf(user);
    const argv = message.argv ?? (shell === undefined ? [] : [shell]);
    const [command] = argv;
    if (command === undefined) {
      throw new Error(
        "The image has no shell (/bin/bash, /bin/sh): name the program the terminal is to start.",
      );
    }
    const env: Record<string, string> = {
      TERM: "xterm-256color",
      ...(shell === undefined ? {} : { SHELL: shell }),
      ...operatorEnv,
    };
    const file = programFile(command, env.PATH ?? "", cwd);
    const spawner = this.#options.spawner();
    const { master: fd, slave } = openPseudoTerminal(spawner, { cols, rows, user });
    let started: { readonly pid: number; readonly ended: Promise<ProcessEnd> };
    try {
      const stdio = { stdin: slave, stdout: slave, stderr: slave, terminal: true };
      started = spawner.start({ file, argv, env, cwd, user, ...stdio });
    } catch (error) {
      closeSync(fd);
      throw new Error(startText(error as Error, { argv, cwd, user }));
    }
    const stream = new ReadStream(fd);
    const consumption = new Consumption((bytes) => {
      send({ type: "pty.input_consumed", pty_id: id, bytes }).catch(() => undefined);
    });
    const input = new TerminalInput(stream, fd, consumption);
    const output = new CreditedOutput(stream, (data) => send({ type: "pty.output", pty_id: id, data }));
    const { pid, ended: exited } = started;
    return { terminal: { pid, fd, stream, output, input, ended: false, killTimer: undefined }, exited };
  }
}
