/** The servers that Helmr stands on, to be broken: PostgreSQL and Redis. The object store: object-stores.ts. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "@helmr/store";

const limitMs = 60_000;

export class Postgres {
  readonly #dataDir: string;
  #server: EmbeddedPostgres;

  private constructor(dataDir: string, server: EmbeddedPostgres) {
    this.#dataDir = dataDir;
    this.#server = server;
  }

  static async start(dataDir: string): Promise<Postgres> {
    return new Postgres(dataDir, await startEmbeddedPostgres({ dataDir, durable: true }));
  }

  /** Over its socket: nothing breaks it but the server's end. The same after a restart. */
  get url(): string {
    return this.#server.url;
  }

  get socketPath(): string {
    return join(new URL(this.url).searchParams.get("host") ?? "", ".s.PGSQL.5432");
  }

  /** `immediate` is as good as a crash: what was not flushed is gone, and the next start recovers. */
  async down(mode: "fast" | "immediate"): Promise<void> {
    if (mode === "fast") return await this.#server.stop();
    const { pid } = this.#server;
    process.kill(pid, "SIGQUIT");
    const deadline = Date.now() + limitMs;
    while (isAlive(pid)) {
      if (Date.now() > deadline) throw new Error("PostgreSQL does not end");
      await sleep(20);
    }
  }

  async up(): Promise<void> {
    this.#server = await startEmbeddedPostgres({ dataDir: this.#dataDir, durable: true });
  }

  async stop(): Promise<void> {
    await this.#server.stop();
  }
}

export class Redis {
  readonly socketPath: string;
  readonly #folder: string;
  #child: ChildProcess | undefined;

  constructor(folder: string) {
    this.#folder = folder;
    this.socketPath = join(folder, "redis.sock");
  }

  /** Empty, as nothing of it is kept. */
  async up(): Promise<void> {
    const child = spawn(
      "redis-server",
      // biome-ignore format: name and value
      ["--port", "0", "--unixsocket", this.socketPath, "--save", "", "--appendonly", "no", "--dir", this.#folder],
      { stdio: "ignore", detached: true },
    );
    this.#child = child;
    let problem: Error | undefined;
    child.once("error", (error) => {
      problem = error;
    });
    const deadline = Date.now() + limitMs;
    while (!(await this.#ask("PING"))?.startsWith("+PONG")) {
      if (problem) throw new Error(`install the package redis-server: ${problem.message}`);
      if (Date.now() > deadline) throw new Error("Redis does not start");
      await sleep(20);
    }
  }

  async flush(): Promise<void> {
    await this.#ask("FLUSHALL");
  }

  async down(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  /** Undefined when nobody answers. */
  #ask(command: string): Promise<string | undefined> {
    return new Promise((resolve) => {
      const socket = connect(this.socketPath, () => socket.write(`${command}\r\n`));
      const end = (answer: string | undefined) => {
        socket.destroy();
        resolve(answer);
      };
      socket.setTimeout(5_000, () => end(undefined));
      socket.once("data", (data) => end(data.toString()));
      socket.once("error", () => end(undefined));
    });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
