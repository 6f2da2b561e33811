/**
 * One live copy of a workspace that somebody asked for: what is to be done in it, and what happens there.
 *
 * | state   | enters by             | commands                        | leaves by                                    |
 * |---------|-----------------------|---------------------------------|----------------------------------------------|
 * | waiting | construction          | are kept                        | open; end, drop -> ended                     |
 * | open    | the start is accepted | are carried out, in their order | end, drop, a report that failed -> ended     |
 * | ended   | end, drop             | are dropped                     | never                                        |
 *
 *  L1  Each command is taken once, in the order of its number; input waits for its program alone, so that a signal passes it.
 *  L2  What is told of a copy goes through one numbered queue; `end` resolves when all of it is acknowledged.
 *  L3  Input that no program reads is bounded: while more than `maxInputBytes` waits, the copy asks for its commands seldom,
 *      and what goes beyond `maxInputBytesEver` ends the command it is for.
 *  L4  `end` gives what runs a chance: SIGTERM (a terminal: SIGHUP), a grace, and only then SIGKILL.
 */
import type { WorkspaceCommand } from "@helmr/api";
import pLimit from "p-limit";
import pRetry from "p-retry";
import type { Logger } from "pino";
import { execEnd, isSignal, maxEndText, ptyEnd } from "./command-ends.ts";
import { type ControlPlaneClient, isFinal, LeaseLostError } from "./control-plane-client.ts";
import { headOf, messageOf } from "./failure.ts";
import type { ExecHandle, PtyHandle } from "./guest-command-types.ts";
import type { GuestCommands } from "./guest-commands.ts";
import { LiveFilesError, readLiveFiles } from "./live-files.ts";
import { WorkspaceAppends } from "./workspace-appends.ts";

/** Where commands are carried out. */
export interface LiveGuest {
  readonly commands: GuestCommands;
  /** Of the workspace: inside the guest, and on this host. */
  readonly mountPath: string;
  readonly mountPoint: string;
}

export interface LiveCopyOptions {
  readonly materializationId: string;
  readonly fencing: number;
  readonly client: Pick<
    ControlPlaneClient,
    "materializationStarted" | "workspaceAppend" | "workspaceAnswer" | "finishMaterialization"
  >;
  /** Save now and record the version as the answer of this request; rejects with what the caller of the request is told. */
  readonly save: (requestId: string) => Promise<void>;
  /** It is to be stopped. */
  readonly onStop: () => void;
  /** A command or terminal began or ended. */
  readonly onActivity: () => void;
  /** The copy is lost, or nothing can be reported of it. */
  readonly onFailure: (error: unknown) => void;
  /** Its lease is over. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** Before its end is told again. */
  readonly awayPauseMs?: number;
}

type Command = WorkspaceCommand;
type Running = { readonly input: (data: Uint8Array) => Promise<void>; isSignalled: boolean } & (
  | { readonly kind: "exec"; readonly handle: ExecHandle }
  | { readonly kind: "pty"; readonly handle: PtyHandle }
);

const maxInputBytes = 4 * 1024 * 1024;
const maxInputBytesEver = 64 * 1024 * 1024;
/** L4 */
const graceMs = 2_000;
const killLimitMs = 2_000;
const defaultAwayPauseMs = 1_000;
/** Longer than a lease: one that is confirmed while this is never answered is somebody's mistake. */
const finishLimitMs = 10 * 60_000;
const maxReads = 4;

export class LiveCopy {
  readonly materializationId: string;
  readonly fencing: number;
  readonly #options: LiveCopyOptions;
  readonly #appends: WorkspaceAppends;
  readonly #running = new Map<string, Running>();
  readonly #reads = pLimit(maxReads);
  #state: "waiting" | "open" | "ended" = "waiting";
  #kept: { readonly command: Command; readonly data: Buffer }[] = [];
  #guest: LiveGuest | undefined;
  #inputBytes = 0;
  /** Number of the last command that is done or in hand. */
  afterSeq = 0;

  constructor(options: LiveCopyOptions) {
    this.#options = options;
    this.materializationId = options.materializationId;
    this.fencing = options.fencing;
    this.#appends = new WorkspaceAppends({
      send: (items) =>
        options.client.workspaceAppend(
          this.materializationId,
          { fencing: this.fencing, items: [...items] },
          options.signal,
        ),
      onFailure: (error) => this.#fail(error),
      signal: options.signal,
    });
  }

  /** Commands and terminals at work. */
  get active(): number {
    return this.#running.size;
  }

  /** L3 */
  get isFull(): boolean {
    return this.#inputBytes > maxInputBytes;
  }

  /** The guest is up: say so, and carry out what came. */
  async start(guest: LiveGuest, startMs: number): Promise<void> {
    const { client, signal } = this.#options;
    try {
      await client.materializationStarted(
        this.materializationId,
        { fencing: this.fencing, start_ms: startMs },
        signal,
      );
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#state !== "waiting") return;
    this.#state = "open";
    this.#guest = guest;
    for (const { command, data } of this.#kept.splice(0)) this.#carryOut(guest, command, data);
  }

  /** L1: a command of the control plane, with the bytes that go with it. */
  take(seq: number, command: Command, data: Buffer): void {
    if (seq <= this.afterSeq || this.#state === "ended") return;
    this.afterSeq = seq;
    if (command.kind === "stop") this.#options.onStop();
    else if (this.#guest === undefined) this.#kept.push({ command, data });
    else this.#carryOut(this.#guest, command, data);
  }

  /**
   * End what runs (L4), with all of it reported (L2); `reason` is what its users are told. `guestEnds`: what does not end
   * counts as gone with the guest.
   */
  async end(reason: string, { guestEnds }: { readonly guestEnds: boolean }): Promise<void> {
    if (this.#state === "ended") return;
    this.#state = "ended";
    for (const { command } of this.#kept.splice(0)) this.#refuse(command, reason);
    const guest = this.#guest;
    if (guest !== undefined && this.#running.size > 0) {
      for (const running of this.#running.values()) this.#signal(running, "SIGTERM");
      if (!(await within(guest.commands.idle, graceMs))) {
        for (const running of this.#running.values()) this.#signal(running, "SIGKILL");
        await within(guest.commands.idle, killLimitMs);
      }
      this.#appends.ignorePauses();
      if (guestEnds) {
        guest.commands.closeAll(reason);
        await guest.commands.idle;
      }
    }
    await this.#appends.flush();
    this.#appends.abandon();
  }

  /**
   * Tell the control plane that the copy is gone; after `end`. Told again while nobody answers, as long as the copy has its
   * lease: a copy that nobody reports is lost in time, and what was saved would be called unsaved.
   */
  async finish(
    outcome: Parameters<ControlPlaneClient["finishMaterialization"]>[1]["outcome"],
  ): Promise<void> {
    const { client, signal, logger, awayPauseMs = defaultAwayPauseMs } = this.#options;
    const body = { fencing: this.fencing, outcome };
    try {
      await pRetry(() => client.finishMaterialization(this.materializationId, body, signal), {
        retries: Number.POSITIVE_INFINITY,
        minTimeout: awayPauseMs,
        factor: 1,
        maxRetryTime: finishLimitMs,
        shouldRetry: ({ error }) => !isFinal(error),
        signal,
      });
    } catch (error) {
      logger.warn({ reason: messageOf(error) }, "the end of a live copy was not reported");
    }
  }

  /** Report nothing any more; what runs is killed. */
  drop(): void {
    this.#state = "ended";
    this.#kept = [];
    this.#appends.abandon();
    for (const running of this.#running.values()) this.#signal(running, "SIGKILL");
  }

  #carryOut(guest: LiveGuest, command: Command, data: Buffer): void {
    switch (command.kind) {
      case "exec.start":
        this.#startExec(guest, command);
        break;
      case "pty.start":
        this.#openPty(guest, command);
        break;
      case "exec.stdin":
        this.#input(command.exec_id, data);
        break;
      case "pty.input":
        this.#input(command.pty_id, data);
        break;
      case "exec.stdin_close": {
        const running = this.#running.get(command.exec_id);
        // An input that is closed already needs no closing.
        if (running?.kind === "exec") running.handle.closeInput().catch(() => undefined);
        break;
      }
      case "exec.signal": {
        const running = this.#running.get(command.exec_id);
        if (running !== undefined && isSignal(command.signal)) this.#signal(running, command.signal);
        break;
      }
      case "pty.resize":
        this.#resize(command);
        break;
      case "pty.close": {
        const running = this.#running.get(command.pty_id);
        if (running !== undefined) this.#signal(running, "SIGHUP");
        break;
      }
      case "save":
        void this.#answer(command.request_id, async () => {
          await this.#options.save(command.request_id);
          return undefined;
        });
        break;
      case "files":
        void this.#answer(command.request_id, () =>
          this.#reads(() => readLiveFiles(guest.mountPoint, command)),
        );
        break;
      case "stop": // taken before
        break;
    }
  }

  #startExec(guest: LiveGuest, command: Extract<Command, { kind: "exec.start" }>): void {
    const { exec_id: id, command: argv, env } = command;
    try {
      const handle = guest.commands.startExec(
        { id, argv, cwd: command.cwd || guest.mountPath, env, stdin: "pipe" },
        {
          onStarted: (pid) => this.#appends.push({ kind: "exec.started", exec_id: id, pid }),
          onOutput: (stream, data) => this.#appends.output(id, stream, data),
          onExited: (end) => {
            this.#appends.push({
              kind: "exec.exited",
              exec_id: id,
              ...execEnd(end, this.#running.get(id)?.isSignalled === true),
            });
            this.#forget(id);
          },
        },
      );
      this.#add(id, { kind: "exec", handle, input: (data) => handle.write(data), isSignalled: false });
    } catch (error) {
      this.#refuse(command, messageOf(error));
    }
  }

  #openPty(guest: LiveGuest, command: Extract<Command, { kind: "pty.start" }>): void {
    const { pty_id: id, cols, rows } = command;
    try {
      const handle = guest.commands.openPty(
        { id, cols, rows, cwd: command.cwd || guest.mountPath },
        {
          onOpened: (pid) => this.#appends.push({ kind: "pty.opened", pty_id: id, pid }),
          onOutput: (data) => this.#appends.output(id, "output", data),
          onClosed: (end) => {
            this.#appends.push({ kind: "pty.closed", pty_id: id, ...ptyEnd(end) });
            this.#forget(id);
          },
        },
      );
      this.#add(id, { kind: "pty", handle, input: (data) => handle.write(data), isSignalled: false });
    } catch (error) {
      this.#refuse(command, messageOf(error));
    }
  }

  #add(id: string, running: Running): void {
    this.#running.set(id, running);
    this.#options.onActivity();
  }

  #forget(id: string): void {
    this.#running.delete(id);
    this.#appends.forget(id);
    this.#options.onActivity();
  }

  /** It is not started, and its users are told why. */
  #refuse(command: Command, reason: string): void {
    const error = { message: headOf(reason, maxEndText) };
    if (command.kind === "exec.start")
      this.#appends.push({ kind: "exec.exited", exec_id: command.exec_id, state: "failed", error });
    else if (command.kind === "pty.start")
      this.#appends.push({ kind: "pty.closed", pty_id: command.pty_id, state: "failed", error });
    else if (command.kind === "save" || command.kind === "files")
      void this.#answer(command.request_id, () => Promise.reject(new Error(reason)));
  }

  /** L3 */
  #input(id: string, data: Buffer): void {
    const running = this.#running.get(id);
    if (running === undefined) return;
    if (this.#inputBytes + data.length > maxInputBytesEver) {
      this.#signal(running, "SIGKILL");
      return;
    }
    this.#inputBytes += data.length;
    running
      .input(data)
      // It has ended, or closed its input: nobody reads these bytes.
      .catch(() => undefined)
      .finally(() => {
        this.#inputBytes -= data.length;
      });
  }

  #resize({ pty_id: id, cols, rows }: Extract<Command, { kind: "pty.resize" }>): void {
    const running = this.#running.get(id);
    if (running?.kind !== "pty") return;
    running.handle.resize(cols, rows).then(
      () => this.#appends.push({ kind: "pty.resized", pty_id: id, cols, rows }),
      // Closed meanwhile: its end says so.
      () => undefined,
    );
  }

  #signal(running: Running, signal: NodeJS.Signals): void {
    if (running.kind === "pty") running.handle.close();
    else {
      running.isSignalled = true;
      running.handle.signal(signal);
    }
  }

  /** Undefined: what was done has answered it. */
  async #answer(
    requestId: string,
    work: () => Promise<{ readonly result: Record<string, unknown>; readonly data?: Buffer } | undefined>,
  ): Promise<void> {
    const { client, signal, logger } = this.#options;
    let answer: { status: "done" | "failed"; result: Record<string, unknown>; data?: Buffer } | undefined;
    try {
      const done = await work();
      answer = done === undefined ? undefined : { status: "done", ...done };
    } catch (error) {
      const code = error instanceof LiveFilesError ? error.code : "failed";
      answer = { status: "failed", result: { code, message: headOf(messageOf(error), maxEndText) } };
    }
    if (answer === undefined || signal.aborted) return;
    const { data, ...rest } = answer;
    const body = {
      fencing: this.fencing,
      ...rest,
      ...(data === undefined ? {} : { data_base64: data.toString("base64") }),
    };
    try {
      await client.workspaceAnswer(this.materializationId, requestId, body, signal);
    } catch (error) {
      // The request has its time limit: whoever asked is told then.
      logger.warn({ reason: messageOf(error) }, "a question about a live copy was not answered");
      if (error instanceof LeaseLostError) this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#state === "ended" || this.#options.signal.aborted) return;
    this.drop();
    this.#options.onFailure(error);
  }
}

async function within(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  const { promise: limit, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(() => resolve(false), limitMs);
  try {
    return await Promise.race([promise.then(() => true), limit]);
  } finally {
    clearTimeout(timer);
  }
}
