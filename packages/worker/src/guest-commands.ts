/**
 * Commands and terminals in one guest, over its session: what the worker asks for, and a check of everything the guest
 * says about it.
 *
 * | state    | enters by              | leaves by                                                                    |
 * |----------|------------------------|------------------------------------------------------------------------------|
 * | starting | startExec, openPty     | started, opened -> running; exited, closed with `error` -> draining          |
 * | running  | exec.started, pty.opened | exited, closed -> draining                                                 |
 * | draining | the end is known, or   | everything that came before was taken -> over                                |
 * |          | closeAll               |                                                                              |
 * | over     | onExited, onClosed called | never                                                                     |
 *
 *  G1  What the guest says of a command that is not starting or running, or says out of order, or beyond its credit, breaks
 *      the protocol: `receive` gives a text, and the caller ends the guest.
 *  G2  `receive` never waits: output that is not taken holds back its own program alone (guest-command-output.ts).
 *      So what is being taken is in no checkpoint: a guest is parked only while `active` is 0.
 *  G3  The end is told once, after all of the output was taken, also when the guest is gone.
 */
import { type GuestMessage, LinkClosedError, limits, type WorkerMessage } from "@helmr/guest-protocol";
import { messageOf } from "./failure.ts";
import { CommandInput, CommandInputClosedError } from "./guest-command-input.ts";
import { CommandOutput } from "./guest-command-output.ts";
import type {
  CommandEnd,
  ExecEvents,
  ExecHandle,
  ExecRequest,
  PtyEvents,
  PtyHandle,
  PtyRequest,
} from "./guest-command-types.ts";
import { printable } from "./output-tail.ts";

/** Messages of the guest about commands and terminals. */
export type CommandMessage = Extract<GuestMessage, { type: `exec.${string}` | `pty.${string}` }>;
export function isCommandMessage(message: GuestMessage): message is CommandMessage {
  return message.type.startsWith("exec.") || message.type.startsWith("pty.");
}

interface PendingResize {
  readonly cols: number;
  readonly rows: number;
  readonly done: PromiseWithResolvers<void>;
}

interface Command {
  readonly kind: "exec" | "pty";
  readonly id: string;
  phase: "starting" | "running" | "over";
  readonly outputs: ReadonlyMap<string, CommandOutput>;
  readonly input: CommandInput;
  readonly resizes: PendingResize[];
  failure: string | undefined;
  onStarted(pid: number): void;
  onEnd(end: CommandEnd): void;
}

/** Of one terminal, unanswered: all terminals' answers fit into what may wait for the guest's link. */
const maxResizes = 8;

export class GuestCommands {
  readonly #send: (message: WorkerMessage) => Promise<void>;
  /** Starting and running, by kind and id. */
  readonly #commands = new Map<string, Command>();
  #active = 0;
  #idleWaiters: (() => void)[] = [];
  #gone: string | undefined;

  /** `send`: that of the guest's session. */
  constructor(send: (message: WorkerMessage) => Promise<void>) {
    this.#send = send;
  }

  /** Commands and terminals whose end was not told yet. */
  get active(): number {
    return this.#active;
  }

  /** Resolves when none is active. */
  get idle(): Promise<void> {
    if (this.#active === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Throws an Error when the guest is gone or as many run as may. What goes wrong later is told by `onExited`. */
  startExec(request: ExecRequest, events: ExecEvents): ExecHandle {
    const { id, argv, cwd, env = {}, user, stdin } = request;
    const take = (stream: "stdout" | "stderr") => ({
      stream,
      take: (data: Buffer) => events.onOutput(stream, data),
      grant: (bytes: number) => this.#tell({ type: "exec.output_credit", exec_id: id, stream, bytes }),
    });
    const command = this.#add("exec", id, [take("stdout"), take("stderr")], {
      write: (data) => this.#send({ type: "exec.stdin", exec_id: id, data }),
      kill: () => this.#tell({ type: "exec.signal", exec_id: id, signal: "SIGKILL" }),
      onStarted: (pid) => events.onStarted?.(pid),
      onEnd: (end) => events.onExited(end),
    });
    this.#start(command, { type: "exec.start", exec_id: id, argv: [...argv], cwd, env, user, stdin });
    if (stdin === "none") command.input.end("The command was started without input.");
    return {
      id,
      write: (data) => command.input.write(data),
      closeInput: () => command.input.finish(() => this.#send({ type: "exec.stdin_close", exec_id: id })),
      signal: (signal) => {
        if (command.phase !== "over") this.#tell({ type: "exec.signal", exec_id: id, signal });
      },
    };
  }

  /** As `startExec`; the end is told by `onClosed`. */
  openPty(request: PtyRequest, events: PtyEvents): PtyHandle {
    const { id, argv, cols, rows, cwd, env = {}, user } = request;
    const output = {
      stream: "output",
      take: (data: Buffer) => events.onOutput(data),
      grant: (bytes: number) => this.#tell({ type: "pty.output_credit", pty_id: id, bytes }),
    };
    const close = () => this.#tell({ type: "pty.close", pty_id: id });
    const command = this.#add("pty", id, [output], {
      write: (data) => this.#send({ type: "pty.input", pty_id: id, data }),
      kill: close,
      onStarted: (pid) => events.onOpened?.(pid),
      onEnd: (end) => events.onClosed(end),
    });
    const argument = argv === undefined ? undefined : [...argv];
    this.#start(command, { type: "pty.start", pty_id: id, cols, rows, cwd, env, user, argv: argument });
    return {
      id,
      write: (data) => command.input.write(data),
      resize: (newCols, newRows) => this.#resize(command, newCols, newRows),
      close: () => {
        if (command.phase !== "over") close();
      },
    };
  }

  /** Handle a message of the guest; a text says how it breaks the protocol (G1). */
  receive(message: GuestMessage): string | undefined {
    if (!isCommandMessage(message)) return `sent ${message.type}, which is about no command`;
    const [kind, id] =
      "exec_id" in message ? (["exec", message.exec_id] as const) : (["pty", message.pty_id] as const);
    const command = this.#commands.get(keyOf(kind, id));
    if (command === undefined) return `sent ${message.type} for what does not run`;
    const problem = this.#handle(command, message);
    return problem === undefined ? undefined : `sent ${message.type} ${problem}`;
  }

  /** The guest is gone, or is about to go: everything that runs is lost. Later starts are refused. Call it when the session has ended. */
  closeAll(reason: string): void {
    this.#gone ??= reason;
    for (const command of [...this.#commands.values()]) this.#end(command, { kind: "lost", reason });
  }

  #add(
    kind: Command["kind"],
    id: string,
    outputs: readonly {
      readonly stream: string;
      readonly take: (data: Buffer) => void | Promise<void>;
      readonly grant: (bytes: number) => void;
    }[],
    seams: Pick<Command, "onStarted" | "onEnd"> & {
      readonly write: (data: Uint8Array) => Promise<void>;
      readonly kill: () => void;
    },
  ): Command {
    if (this.#gone !== undefined) throw new Error(`The guest is gone: ${this.#gone}`);
    if (this.#active >= limits.commands) {
      throw new Error(
        `${limits.commands} commands and terminals run in this guest; wait until one has ended.`,
      );
    }
    if (this.#commands.has(keyOf(kind, id))) throw new Error(`The id ${id} is in use.`);
    const onFailure = (error: unknown): void => {
      command.failure = `its output could not be taken: ${messageOf(error)}`;
      if (command.phase !== "over") seams.kill();
    };
    const command: Command = {
      kind,
      id,
      phase: "starting",
      outputs: new Map(
        outputs.map(({ stream, take, grant }) => [
          stream,
          new CommandOutput({
            take,
            grant: (bytes) => {
              if (command.phase !== "over") grant(bytes);
            },
            onFailure,
          }),
        ]),
      ),
      input: new CommandInput(seams.write),
      resizes: [],
      failure: undefined,
      onStarted: seams.onStarted,
      onEnd: seams.onEnd,
    };
    this.#commands.set(keyOf(kind, id), command);
    this.#active += 1;
    return command;
  }

  #start(command: Command, message: WorkerMessage): void {
    this.#send(message).catch((error: unknown) => {
      const lost = error instanceof LinkClosedError;
      const text = messageOf(error);
      this.#end(command, lost ? { kind: "lost", reason: text } : { kind: "failed", error: text });
    });
  }

  /** For messages whose loss means that the link is closed: the session's end tells the rest. */
  #tell(message: WorkerMessage): void {
    this.#send(message).catch(() => undefined);
  }

  async #resize(command: Command, cols: number, rows: number): Promise<void> {
    if (command.phase === "over") throw closedTerminal();
    if (command.resizes.length >= maxResizes)
      throw new RangeError("Too many sizes at once; wait for the last.");
    const done = Promise.withResolvers<void>();
    command.resizes.push({ cols, rows, done });
    this.#tell({ type: "pty.resize", pty_id: command.id, cols, rows });
    await done.promise;
  }

  #handle(command: Command, message: CommandMessage): string | undefined {
    switch (message.type) {
      case "exec.started":
      case "pty.opened":
        if (command.phase !== "starting") return "twice";
        command.phase = "running";
        command.onStarted(message.pid);
        return;
      case "exec.output":
      case "pty.output": {
        if (command.phase !== "running") return "before it was started";
        const stream = message.type === "exec.output" ? message.stream : "output";
        return command.outputs.get(stream)?.push(message.data) === true ? undefined : "beyond its credit";
      }
      case "exec.stdin_consumed":
      case "pty.input_consumed":
        return command.input.consumed(message.bytes) ? undefined : "for more than was sent";
      case "pty.resized": {
        const next = command.resizes.shift();
        if (next?.cols !== message.cols || next.rows !== message.rows) return "that was not asked for";
        next.done.resolve();
        return;
      }
      case "exec.exited":
      case "pty.closed":
        return this.#exited(command, message);
    }
  }

  #exited(
    command: Command,
    { code, signal, error }: Extract<CommandMessage, { type: "exec.exited" | "pty.closed" }>,
  ): string | undefined {
    const given = [code, signal, error].filter((value) => value !== undefined);
    if (given.length !== 1) return "without one reason";
    if ((command.phase === "starting") !== (error !== undefined)) return "out of order";
    if (error !== undefined) this.#end(command, { kind: "failed", error: printable(error) });
    else if (code !== undefined) this.#end(command, { kind: "exited", code });
    else this.#end(command, { kind: "signalled", signal: printable(signal ?? "") });
    return;
  }

  /** G3 */
  #end(command: Command, end: CommandEnd): void {
    if (command.phase === "over") return;
    command.phase = "over";
    this.#commands.delete(keyOf(command.kind, command.id));
    command.input.end(command.kind === "exec" ? "The command has ended." : "The terminal is closed.");
    for (const { done } of command.resizes.splice(0)) done.reject(closedTerminal());
    void Promise.all([...command.outputs.values()].map((output) => output.drained())).then(() => {
      this.#active -= 1;
      command.onEnd(command.failure === undefined ? end : { kind: "failed", error: command.failure });
      if (this.#active === 0) for (const resolve of this.#idleWaiters.splice(0)) resolve();
    });
  }
}

function closedTerminal(): CommandInputClosedError {
  return new CommandInputClosedError("The terminal is closed.");
}

function keyOf(kind: Command["kind"], id: string): string {
  return `${kind} ${id}`;
}
