/** Control plane and PostgreSQL as processes of their own, to be killed and started again at the same addresses. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import {
  type Database,
  type EmbeddedPostgres,
  migrate,
  openDatabase,
  startEmbeddedPostgres,
} from "@helmr/store";
import type { ControlPlaneSettings } from "./control-plane-process.ts";
import { Front } from "./front.ts";

export type Mortal = "the control plane" | "PostgreSQL";

export interface Outage {
  /** Resolves when it is dead. */
  begin(): Promise<void>;
  /** It was there and is over. */
  readonly over: Promise<void>;
}

const program = fileURLToPath(new URL("./control-plane-process.ts", import.meta.url));

export class MortalParts {
  readonly front = new Front();
  readonly db: Database;
  /** Of the front: it stays. */
  readonly url: string;
  readonly #settings: ControlPlaneSettings;
  readonly #dataDir: string;
  #postgres: EmbeddedPostgres;
  #controlPlane: ChildProcess | undefined;

  private constructor(
    url: string,
    front: Front,
    dataDir: string,
    postgres: EmbeddedPostgres,
    settings: ControlPlaneSettings,
  ) {
    this.url = url;
    this.front = front;
    this.#dataDir = dataDir;
    this.#postgres = postgres;
    this.#settings = settings;
    this.db = openDatabase({ url: postgres.url });
  }

  /** `dir` is an empty folder; what is committed survives a kill (the database is a durable one). */
  static async start(dir: string, settings: Omit<ControlPlaneSettings, "databaseUrl">): Promise<MortalParts> {
    const dataDir = join(dir, "postgres");
    const postgres = await startEmbeddedPostgres({ dataDir, durable: true });
    const front = new Front();
    const url = await front.start();
    const parts = new MortalParts(url, front, dataDir, postgres, { ...settings, databaseUrl: postgres.url });
    try {
      await migrate(parts.db);
      await parts.revive("the control plane");
    } catch (error) {
      await parts.stop();
      throw error;
    }
    return parts;
  }

  /** SIGKILL; resolves when nothing of it runs any more. */
  async kill(mortal: Mortal): Promise<void> {
    if (mortal === "PostgreSQL") return await killWithChildren(this.#postgres.pid);
    const child = this.#controlPlane;
    this.front.target = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  /** Start it again; resolves when it answers. */
  async revive(mortal: Mortal): Promise<void> {
    if (mortal === "PostgreSQL") {
      this.#postgres = await startEmbeddedPostgres({ dataDir: this.#dataDir, durable: true });
      return;
    }
    const child = spawn(process.execPath, [program, JSON.stringify(this.#settings)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#controlPlane = child;
    const lines = createInterface({ input: child.stdout });
    const [line] = (await Promise.race([once(lines, "line"), once(child, "exit")])) as unknown[];
    if (typeof line !== "string") throw new Error(`the control plane ended with ${line} before it listened`);
    this.front.target = line;
  }

  /** An outage that is yet to begin: it ends by itself, `awayMs` after the kill, and the time that a start takes. */
  outage(mortal: Mortal, awayMs: number): Outage {
    const { promise: over, resolve, reject } = Promise.withResolvers<void>();
    over.catch(() => undefined); // told where it is awaited
    const begin = async () => {
      await this.kill(mortal);
      void sleep(awayMs)
        .then(() => this.revive(mortal))
        .then(resolve, reject);
    };
    return { begin, over };
  }

  /** What was asked is done, but nobody hears of it: the outage begins in place of the answer. */
  outageAfter(mortal: Mortal, awayMs: number, isMeant: Front["loses"]): Promise<void> {
    const { begin, over } = this.outage(mortal, awayMs);
    this.front.loses = (path, answer) => {
      if (answer.statusCode !== 200 || !isMeant(path, answer)) return false;
      this.front.loses = () => false;
      void begin();
      return true;
    };
    return over;
  }

  async stop(): Promise<void> {
    await this.front.stop();
    await this.kill("the control plane");
    await this.db.close();
    await this.#postgres.stop();
  }
}

/** The server and every process of it: none of them gets to write anything more. */
async function killWithChildren(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP"); // no new ones while they are counted
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8"))
    .trim()
    .split(" ")
    .map(Number);
  const pids = [pid, ...children.filter((child) => child > 0)];
  for (const each of pids) killOne(each);
  while ((await Promise.all(pids.map(isRunning))).includes(true)) await sleep(5);
}

function killOne(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const [state] = stat.slice(stat.lastIndexOf(")") + 2);
  return state !== undefined && state !== "Z" && state !== "X";
}
