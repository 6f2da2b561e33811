/** The servers that Helmr stands on, to be broken: PostgreSQL, Redis, and a folder of bounded size as object store. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm, statfs, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "@helmr/store";

const run = promisify(execFile);
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

/** On a file system of its own, so that it can be full while the machine's disk is not. */
export class FolderStore {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  get uri(): string {
    return `file://${this.dir}`;
  }

  async start(): Promise<void> {
    await mkdir(this.dir, { recursive: true });
    await run("mount", ["-t", "tmpfs", "-o", "size=1g,mode=0700", "helmr-faults", this.dir]);
  }

  async fill(): Promise<void> {
    const { bavail, bsize } = await statfs(this.dir);
    await run("fallocate", ["-l", String(bavail * bsize), join(this.dir, "filler")]).catch(() => undefined);
    // What others wrote meanwhile may have left it short: the rest, a piece at a time.
    await writeFile(join(this.dir, "filler.rest"), Buffer.alloc(2 ** 20)).catch(() => undefined);
  }

  async empty(): Promise<void> {
    for (const name of ["filler", "filler.rest"]) await rm(join(this.dir, name), { force: true });
  }

  /** The digests of everything that is stored. */
  async stored(): Promise<string[]> {
    const found: string[] = [];
    const root = join(this.dir, "sha256");
    for (const prefix of await readdir(root).catch(() => [])) {
      for (const name of await readdir(join(root, prefix))) found.push(`sha256:${name}`);
    }
    return found;
  }

  /** Of writes that nobody ended; a start removes them a day later. */
  async staged(): Promise<string[]> {
    return await readdir(join(this.dir, "staging")).catch(() => []);
  }

  async stop(): Promise<void> {
    await run("umount", [this.dir]).catch(() => run("umount", ["--lazy", this.dir]));
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
