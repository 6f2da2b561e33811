/**
 * The object store, a folder or an S3 server over one. It lies on a file system of its own, so that it can be full while the
 * machine's disk is not; between a server and who uses it is a line.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { ensureVersitygw } from "../../packages/dev/src/runtime/index.ts";

const run = promisify(execFile);
const startMs = 30_000;
const bucket = "helmr";
const prefix = "faults";
const credentials = { AWS_ACCESS_KEY_ID: "faults-access", AWS_SECRET_ACCESS_KEY: "faults-secret-key" };

export interface ObjectStore {
  start(): Promise<void>;
  /** Of a process that reaches it over this port. */
  variables(port: number): Readonly<Record<string, string>>;
  /** Where it listens; undefined of a folder. */
  readonly port: number | undefined;
  /** Writes fail from now on. */
  fill(): Promise<void>;
  empty(): Promise<void>;
  /** The digests of everything that is stored. */
  stored(): Promise<string[]>;
  stop(): Promise<void>;
}

export class FolderStore implements ObjectStore {
  readonly port = undefined;
  readonly #disk: Disk;

  constructor(dir: string) {
    this.#disk = new Disk(dir);
  }

  variables(): Record<string, string> {
    return { HELMR_CAS_URI: `file://${this.#disk.dir}/objects` };
  }

  start = () => this.#disk.mount();
  fill = () => this.#disk.fill();
  empty = () => this.#disk.empty();
  stored = () => listDigests(join(this.#disk.dir, "objects"));
  stop = () => this.#disk.unmount();
}

export class S3Store implements ObjectStore {
  readonly port: number;
  readonly #disk: Disk;
  #child: ChildProcess | undefined;

  constructor(dir: string, port: number) {
    this.#disk = new Disk(dir);
    this.port = port;
  }

  variables(port: number): Record<string, string> {
    return {
      HELMR_CAS_URI: `s3://${bucket}/${prefix}`,
      HELMR_S3_ENDPOINT: `http://127.0.0.1:${port}`,
      HELMR_S3_FORCE_PATH_STYLE: "true",
      ...credentials,
    };
  }

  async start(): Promise<void> {
    const program = await ensureVersitygw({ log: (line) => console.error(line) });
    await this.#disk.mount();
    const { dir } = this.#disk;
    await mkdir(join(dir, "buckets", bucket), { recursive: true });
    await mkdir(join(dir, "meta"));
    const child = spawn(
      program,
      // biome-ignore format: name and value
      ["--quiet", "--keep-alive", "--port", `127.0.0.1:${this.port}`, "posix", "--sidecar", join(dir, "meta"), join(dir, "buckets")],
      {
        env: {
          ROOT_ACCESS_KEY: credentials.AWS_ACCESS_KEY_ID,
          ROOT_SECRET_KEY: credentials.AWS_SECRET_ACCESS_KEY,
        },
        stdio: "ignore",
        detached: true,
      },
    );
    this.#child = child;
    const deadline = Date.now() + startMs;
    while (!(await this.#answers())) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error("versitygw does not start");
      await sleep(20);
    }
  }

  async #answers(): Promise<boolean> {
    try {
      await (await fetch(`http://127.0.0.1:${this.port}/`)).arrayBuffer();
      return true;
    } catch {
      return false;
    }
  }

  fill = () => this.#disk.fill();
  empty = () => this.#disk.empty();
  stored = () => listDigests(join(this.#disk.dir, "buckets", bucket, prefix));

  async stop(): Promise<void> {
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }
    await this.#disk.unmount();
  }
}

/** A file system in memory. */
class Disk {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  async mount(): Promise<void> {
    await mkdir(this.dir, { recursive: true });
    await run("mount", ["-t", "tmpfs", "-o", "size=1g,mode=0700", "helmr-faults", this.dir]);
  }

  async fill(): Promise<void> {
    const { bavail, bsize } = await statfs(this.dir);
    await run("fallocate", ["-l", String(bavail * bsize), join(this.dir, "filler")]).catch(() => undefined);
    // What others wrote meanwhile may have left it short of room: the rest in smaller pieces.
    await writeFile(join(this.dir, "filler.rest"), Buffer.alloc(2 ** 20)).catch(() => undefined);
  }

  async empty(): Promise<void> {
    for (const name of ["filler", "filler.rest"]) await rm(join(this.dir, name), { force: true });
  }

  async unmount(): Promise<void> {
    await run("umount", [this.dir]).catch(() => run("umount", ["--lazy", this.dir]));
  }
}

/** The layout that both kinds share: `sha256/<first two hex>/<64 hex>`. */
async function listDigests(dir: string): Promise<string[]> {
  const found: string[] = [];
  const root = join(dir, "sha256");
  for (const prefixFolder of await readdir(root).catch(() => [])) {
    for (const name of await readdir(join(root, prefixFolder)).catch(() => [])) found.push(`sha256:${name}`);
  }
  return found;
}
