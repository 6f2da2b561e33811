/** What GuestCommands is asked for, and what it tells. */
export type CommandEnd =
  | { readonly kind: "exited"; readonly code: number }
  | { readonly kind: "signalled"; readonly signal: string }
  /** It could not be started, or its output not be taken; `error` says why, for the operator. */
  | { readonly kind: "failed"; readonly error: string }
  /** The guest went before it. */
  | { readonly kind: "lost"; readonly reason: string };

interface Start {
  /** Unique among the commands and terminals of the guest that run; at most 64 characters. */
  readonly id: string;
  /** Absolute folder inside the guest. */
  readonly cwd: string;
  /** On top of the image's. */
  readonly env?: Readonly<Record<string, string>>;
  /** Name, uid or uid:gid inside the guest; default the image's user. */
  readonly user?: string;
}
export interface ExecRequest extends Start {
  readonly argv: readonly string[];
  /** "none": the command reads the end of the file at once. */
  readonly stdin: "none" | "pipe";
}
export interface PtyRequest extends Start {
  readonly cols: number;
  readonly rows: number;
  /** Default: the user's login shell. */
  readonly argv?: readonly string[];
}

export interface ExecEvents {
  onStarted?(pid: number): void;
  /** Called for one piece of a stream at a time; the next comes when its promise is done. A rejection kills the command. */
  onOutput(stream: "stdout" | "stderr", data: Buffer): void | Promise<void>;
  onExited(end: CommandEnd): void;
}
export interface PtyEvents {
  onOpened?(pid: number): void;
  /** As `ExecEvents.onOutput`. */
  onOutput(data: Buffer): void | Promise<void>;
  onClosed(end: CommandEnd): void;
}

export interface ExecHandle {
  readonly id: string;
  /** Resolves when all of it is on its way; while the program does not read, it waits. @see CommandInput.write */
  write(data: Uint8Array): Promise<void>;
  closeInput(): Promise<void>;
  /** To the process group; SIGKILL to everything of its session. Nothing happens when it has ended. */
  signal(name: NodeJS.Signals): void;
}
export interface PtyHandle {
  readonly id: string;
  /** Resolves when all of it is on its way; while the program does not read, it waits. @see CommandInput.write */
  write(data: Uint8Array): Promise<void>;
  /** Resolves when the terminal has the size; rejects with a CommandInputClosedError when it is closed before. */
  resize(cols: number, rows: number): Promise<void>;
  /** SIGHUP, then SIGKILL after 2 s. Nothing happens when it is closed. */
  close(): void;
}
