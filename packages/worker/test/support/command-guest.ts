/** A real guest of the base image for commands and terminals, without a worker or a control plane. */
import { randomUUID } from "node:crypto";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { resolveImage } from "@helmr/artifacts/images";
import { agentArgv, agentEnvironment, buildGuestBundle } from "@helmr/guest";
import { type GuestMessage, guestPaths } from "@helmr/guest-protocol";
import { createGvisorIsolation, type GuestSpec, type Isolation } from "@helmr/isolation";
import pino from "pino";
import type { CommandEnd, ExecHandle, ExecRequest } from "../../src/guest-command-types.ts";
import { GuestCommands, isCommandMessage } from "../../src/guest-commands.ts";
import { type GuestSession, startGuestSession } from "../../src/guest-session.ts";
import { baseImage, cacheDir, installed } from "./bench.ts";

export interface Finished {
  readonly end: CommandEnd;
  readonly stdout: string;
  readonly stderr: string;
}

/** Folders and driver of a test file. */
export class GuestHost {
  readonly dir: string;
  readonly isolation: Isolation;
  readonly #root: GuestSpec["root"];

  private constructor(dir: string, isolation: Isolation, root: GuestSpec["root"]) {
    this.dir = dir;
    this.isolation = isolation;
    this.#root = root;
  }

  static async start(): Promise<GuestHost> {
    const runscPath = process.env.HELMR_RUNSC ?? (await installed("runsc", "runsc"));
    if (runscPath === undefined) throw new Error("no runsc: run npm run quickstart once, or set HELMR_RUNSC");
    const image = await resolveImage(join(cacheDir, "images"), baseImage);
    if (image === undefined) throw new Error(`no ${baseImage}: run npm run quickstart once`);
    const dir = await mkdtemp(join(tmpdir(), "commands-"));
    await buildGuestBundle(join(dir, "bundle"));
    const isolation = createGvisorIsolation({
      runscPath,
      stateDir: join(dir, "isolation"),
      instanceName: "commands",
      logger: pino({ level: process.env.HELMR_TEST_LOG ?? "silent" }),
    });
    return new GuestHost(dir, isolation, { path: image.rootfs, digest: image.digest });
  }

  async stop(): Promise<void> {
    await this.isolation.close();
    await rm(this.dir, { recursive: true, force: true });
  }

  /** A guest with an empty workspace; `source` is the task source, absent: none is mounted and no task host started. */
  async spec(options: { readonly source?: string; readonly user?: string } = {}): Promise<GuestSpec> {
    const id = `c-${randomUUID().slice(0, 8)}`;
    const workspace = join(this.dir, id);
    await mkdir(workspace);
    await chmod(workspace, 0o777);
    const bind = (destination: string, path: string, readOnly: boolean) => ({
      destination,
      source: { kind: "bind", path } as const,
      readOnly,
    });
    const { source, user } = options;
    return {
      id,
      root: this.#root,
      argv: agentArgv({ hasShell: true }),
      env: {
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        IMAGE_VARIABLE: "from the image",
        ...agentEnvironment({ taskUser: user, taskHost: source !== undefined }),
      },
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [] },
      mounts: [
        bind(guestPaths.helmr, join(this.dir, "bundle"), true),
        ...(source === undefined ? [] : [bind(guestPaths.taskSource, source, true)]),
        bind("/workspace", workspace, false),
      ],
      resources: { cpu: 2, memoryMib: 1024, diskMib: 512 },
      network: { mode: "none" },
      maxProcesses: 512,
    };
  }

  async guest(options: { readonly source?: string; readonly user?: string } = {}): Promise<CommandGuest> {
    const session = await startGuestSession(this.isolation, await this.spec(options));
    const guest = new CommandGuest(session);
    session.listen((message) => guest.receive(message));
    return guest;
  }
}

export class CommandGuest {
  session: GuestSession;
  readonly commands: GuestCommands;
  /** Of the run. */
  readonly messages: GuestMessage[] = [];
  readonly violations: string[] = [];

  constructor(session: GuestSession) {
    this.session = session;
    this.commands = new GuestCommands((message) => this.session.send(message));
  }

  receive(message: GuestMessage): void {
    if (!isCommandMessage(message)) {
      this.messages.push(message);
      return;
    }
    const violation = this.commands.receive(message);
    if (violation !== undefined) this.violations.push(violation);
  }

  async stop(): Promise<void> {
    this.commands.closeAll("the test is over");
    await this.session.destroy();
  }

  /** Run a command to its end; `during` may write to it and signal it. */
  async exec(
    argv: readonly string[],
    changes: Partial<ExecRequest> = {},
    during: (handle: ExecHandle, output: () => string) => Promise<void> | void = () => undefined,
  ): Promise<Finished> {
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    const text = (stream: "stdout" | "stderr") => Buffer.concat(output[stream]).toString();
    const ended = Promise.withResolvers<CommandEnd>();
    const handle = this.commands.startExec(
      { id: randomUUID(), argv, cwd: "/workspace", stdin: "none", ...changes },
      {
        onOutput: (stream, data) => {
          output[stream].push(Buffer.from(data));
        },
        onExited: ended.resolve,
      },
    );
    await during(handle, () => text("stdout"));
    return { end: await ended.promise, stdout: text("stdout"), stderr: text("stderr") };
  }

  /** Standard output of a script of /bin/sh that must succeed. */
  async shell(script: string): Promise<string> {
    const { end, stdout, stderr } = await this.exec(["/bin/sh", "-c", script]);
    if (end.kind !== "exited" || end.code !== 0)
      throw new Error(`${JSON.stringify(end)}: ${stdout}${stderr}`);
    return stdout;
  }

  /** A terminal, its screen as text so far, and its end. */
  terminal(changes: Partial<Parameters<GuestCommands["openPty"]>[0]> = {}): Terminal {
    return new Terminal(this.commands, changes);
  }
}

export class Terminal {
  readonly handle: ReturnType<GuestCommands["openPty"]>;
  readonly opened: Promise<number>;
  readonly closed: Promise<CommandEnd>;
  #text = "";
  #waiting: (() => void)[] = [];

  constructor(commands: GuestCommands, changes: Partial<Parameters<GuestCommands["openPty"]>[0]>) {
    const opened = Promise.withResolvers<number>();
    const closed = Promise.withResolvers<CommandEnd>();
    this.handle = commands.openPty(
      {
        id: randomUUID(),
        cwd: "/workspace",
        cols: 80,
        rows: 24,
        env: { INPUTRC: "/tmp/inputrc" },
        ...changes,
      },
      {
        onOpened: opened.resolve,
        onOutput: (data) => {
          this.#text += data.toString();
          for (const check of this.#waiting) check();
        },
        onClosed: (end) => {
          closed.resolve(end);
          for (const check of this.#waiting) check();
        },
      },
    );
    this.opened = opened.promise;
    this.closed = closed.promise;
  }

  get text(): string {
    return this.#text;
  }

  type(text: string): Promise<void> {
    return this.handle.write(Buffer.from(text));
  }

  /** Everything up to the first match; what follows is for the next call. */
  async until(pattern: RegExp): Promise<string> {
    let end: CommandEnd | undefined;
    void this.closed.then((reason) => {
      end = reason;
    });
    const limit = AbortSignal.timeout(30_000);
    for (;;) {
      const found = pattern.exec(this.#text);
      if (found !== null) {
        const seen = this.#text.slice(0, found.index + found[0].length);
        this.#text = this.#text.slice(seen.length);
        return seen;
      }
      const state = () => `${JSON.stringify(end)} ${JSON.stringify(this.#text.slice(-2000))}`;
      if (end !== undefined || limit.aborted) throw new Error(`no ${pattern} on the terminal: ${state()}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1_000);
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
      this.#waiting = [];
    }
  }
}
