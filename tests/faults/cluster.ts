/**
 * Three control planes, two dispatchers and three workers as processes of their own, PostgreSQL, Redis and an object store,
 * and a line of its own between any two of them.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { apiKeyScopes } from "@helmr/api";
import { HelmrClient } from "@helmr/sdk";
import { createApiKey, type Database, migrate, openDatabase } from "@helmr/store";
import { type SeededEnvironment, seedEnvironment } from "@helmr/store/testing";
import { ensureRuntime } from "../../packages/dev/src/runtime/index.ts";
import { cleanUp, tagsOf } from "./clean.ts";
import { Line } from "./line.ts";
import { FolderStore, type ObjectStore, S3Store } from "./object-stores.ts";
import { Part } from "./part.ts";
import { type LineName, leaseMs, lines, type PartName, type Plan, parts } from "./plan.ts";
import { Postgres, Redis } from "./servers.ts";

const root = join(import.meta.dirname, "../..");

export interface ClusterOptions {
  /** An empty folder of this cluster alone; short, because sockets lie in it. */
  readonly folder: string;
  readonly parkAfterSeconds: number;
  readonly store: Plan["store"];
}

export class Cluster {
  readonly folder: string;
  readonly logsDir: string;
  readonly parts = new Map<PartName, Part>();
  readonly lines = new Map<LineName, Line>();
  readonly redis: Redis;
  readonly clockFile: string;
  readonly #options: ClusterOptions;
  readonly #reaper: ReturnType<typeof startReaper>;
  #postgres: Postgres | undefined;
  #store: ObjectStore | undefined;
  #db: Database | undefined;
  #environment: SeededEnvironment | undefined;
  #apiKey = "";

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.folder = options.folder;
    this.logsDir = join(options.folder, "logs");
    this.clockFile = join(options.folder, "clock");
    this.redis = new Redis(options.folder);
    this.#reaper = startReaper(options.folder);
  }

  get postgres(): Postgres {
    if (this.#postgres === undefined) throw new Error("the cluster is not started");
    return this.#postgres;
  }

  get store(): ObjectStore {
    if (this.#store === undefined) throw new Error("the cluster is not started");
    return this.#store;
  }

  /** Of the driver: over the server's socket, past all lines. */
  get db(): Database {
    if (this.#db === undefined) throw new Error("the cluster is not started");
    return this.#db;
  }

  get environment(): SeededEnvironment {
    if (this.#environment === undefined) throw new Error("the cluster is not started");
    return this.#environment;
  }

  /** Where clients reach it, and with what. */
  get access(): { readonly url: string; readonly apiKey: string } {
    return { url: this.#urlOf("clients>control"), apiKey: this.#apiKey };
  }

  client(): HelmrClient {
    return new HelmrClient(this.access);
  }

  part(name: PartName): Part {
    return present(this.parts.get(name), name);
  }

  line(name: LineName): Line {
    return present(this.lines.get(name), name);
  }

  /** Resolves when everything is ready. */
  async start(): Promise<void> {
    const runtime = await ensureRuntime();
    await mkdir(this.logsDir, { recursive: true });
    await writeFile(this.clockFile, "0");
    this.#store = await this.#makeStore();
    await this.#store.start();
    this.#postgres = await Postgres.start(join(this.folder, "postgres"));
    this.#db = openDatabase({
      url: this.#postgres.url,
      maxConnections: 6,
      onConnectionError: () => undefined,
    });
    await migrate(this.#db);
    await this.redis.up();
    this.#environment = await seedEnvironment(this.#db);
    const key = { name: "faults", scopes: apiKeyScopes };
    this.#apiKey = (await createApiKey(this.#db, this.#environment.scope, key)).rawKey;
    await this.#startLines();
    for (const part of this.#describe(runtime, await this.#ports()))
      this.parts.set(part.name as PartName, part);
    const named = (prefix: string) => [...this.parts.values()].filter(({ name }) => name.startsWith(prefix));
    await Promise.all(named("control").map((part) => part.start()));
    await Promise.all([...named("dispatcher"), ...named("worker")].map((part) => part.start()));
  }

  /** What workers of this cluster carry in the names of their network parts. */
  tags(): string[] {
    return tagsOf(this.folder);
  }

  /** Everything; resolves to what could not be removed. */
  async stop(): Promise<string[]> {
    const withoutFail = (work: Promise<unknown> | undefined) => work?.catch(() => undefined);
    await Promise.all([...this.parts.values()].map((part) => withoutFail(part.kill())));
    await withoutFail(this.#db?.close());
    await Promise.all([...this.lines.values()].map((line) => withoutFail(line.stop())));
    await withoutFail(this.redis.down());
    await withoutFail(this.#store?.stop());
    await withoutFail(this.#postgres?.stop());
    const left = await cleanUp(this.folder);
    this.#reaper.dismiss();
    return left;
  }

  async #makeStore(): Promise<ObjectStore> {
    const dir = join(this.folder, "store");
    if (this.#options.store === "file") return new FolderStore(dir);
    const { port, release } = await holdPort();
    await release();
    return new S3Store(dir, port);
  }

  async #startLines(): Promise<void> {
    for (const name of lines) {
      const line = new Line(() => this.#farEnds(name));
      await line.start();
      this.lines.set(name, line);
    }
  }

  #controlPorts: readonly number[] = [];

  /** Fixed before they start, so that a control plane comes back where it was. */
  async #ports(): Promise<readonly number[]> {
    const held = await Promise.all(parts.filter((name) => name.startsWith("control")).map(() => holdPort()));
    this.#controlPorts = held.map(({ port }) => port);
    await Promise.all(held.map(({ release }) => release()));
    return this.#controlPorts;
  }

  #farEnds(name: LineName) {
    if (name.endsWith(">postgres")) return [{ path: this.postgres.socketPath }];
    if (name.endsWith(">redis")) return [{ path: this.redis.socketPath }];
    const host = "127.0.0.1";
    if (name.endsWith(">store"))
      return this.store.port === undefined ? [] : [{ port: this.store.port, host }];
    return this.#controlPorts.map((port) => ({ port, host }));
  }

  #urlOf(name: LineName): string {
    return `http://127.0.0.1:${this.line(name).port}`;
  }

  #describe(runtime: Awaited<ReturnType<typeof ensureRuntime>>, ports: readonly number[]): Part[] {
    const bootstrap = randomBytes(32).toString("hex");
    const key = () => randomBytes(32).toString("base64");
    const artifactKey = { HELMR_ARTIFACT_ENCRYPTION_KEY: key() };
    const shared = {
      HELMR_LOG_LEVEL: process.env.HELMR_LOG_LEVEL ?? "info",
      HELMR_SCHEDULE_JITTER: "0s",
      HELMR_WORKSPACE_IDLE_STOP: "15s",
      HELMR_WORKSPACE_LOST_AFTER: `${2 * leaseMs}ms`,
    };
    const control = {
      ...shared,
      ...artifactKey,
      HELMR_WORKER_BOOTSTRAP_TOKEN: bootstrap,
      HELMR_WORKER_LEASE: `${leaseMs}ms`,
      HELMR_PUBLIC_URL: "http://127.0.0.1:4747",
      HELMR_SECRET_ENCRYPTION_KEY: key(),
      HELMR_AUTH_SECRET: key(),
    };
    const dispatcher = {
      ...shared,
      HELMR_SCHEDULE_REPAIR_EVERY: "1s",
      HELMR_SCHEDULE_REPAIR_LOOKAHEAD: "5s",
      HELMR_SCHEDULE_LEASE: "5s",
      HELMR_ARTIFACT_GRACE: "10s",
      HELMR_ARTIFACT_RESERVATION: "20s",
    };
    const extraCa = process.env.NODE_EXTRA_CA_CERTS;
    const worker = {
      ...artifactKey,
      HELMR_LOG_LEVEL: shared.HELMR_LOG_LEVEL,
      HELMR_WORKER_BOOTSTRAP_TOKEN: bootstrap,
      HELMR_CHECKPOINT_ENCRYPTION_KEY: key(),
      HELMR_PARK_AFTER_SECONDS: String(this.#options.parkAfterSeconds),
      HELMR_RUNSC_PATH: runtime.runscPath,
      HELMR_IMAGES_DIR: runtime.imagesDir,
      ...(extraCa && { HELMR_GUEST_EXTRA_CA_CERTS: extraCa }),
    };
    return parts.map((name) => {
      if (name.startsWith("control")) {
        const port = ports[Number(name.at(-1))];
        return this.#part(name, "control", {
          ...control,
          ...this.#servers(name),
          HELMR_LISTEN: `127.0.0.1:${port}`,
        });
      }
      if (name.startsWith("dispatcher"))
        return this.#part(name, "dispatcher", { ...dispatcher, ...this.#servers(name) });
      return this.#part(name, "worker", {
        ...worker,
        HELMR_WORKER_NAME: name,
        HELMR_WORKER_DATA_DIR: join(this.folder, name),
        HELMR_CONTROL_PLANE_URL: this.#urlOf(`${name}>control` as LineName),
        // Only the one whose clock is moved.
        ...(name === "worker-2" && {
          HELMR_FAULT_CLOCK_FILE: this.clockFile,
          NODE_OPTIONS: `--import=${join(import.meta.dirname, "clock.mjs")}`,
        }),
      });
    });
  }

  #servers(name: string): { HELMR_DATABASE_URL: string; HELMR_REDIS_URL: string } {
    const port = (server: string) => this.line(`${name}>${server}` as LineName).port;
    return {
      HELMR_DATABASE_URL: `postgresql://helmr@127.0.0.1:${port("postgres")}/helmr`,
      HELMR_REDIS_URL: `redis://127.0.0.1:${port("redis")}`,
    };
  }

  #part(
    name: PartName,
    kind: "control" | "dispatcher" | "worker",
    variables: Readonly<Record<string, string>>,
  ): Part {
    const folder = kind === "control" ? "control-plane" : kind;
    return new Part({
      name,
      program: join(root, `packages/${folder}/bin/helmr-${kind}.mjs`),
      // Names the folder on the command line, by which what is left of it is found (clean.ts).
      nodeArgs: [`--diagnostic-dir=${this.logsDir}`],
      args: kind === "control" ? ["serve"] : [],
      variables: { ...variables, ...this.store.variables(this.line(`${name}>store`).port) },
      readyText: new RegExp(`helmr-${kind} is ready`),
      logFile: join(this.logsDir, `${name}.log`),
    });
  }
}

function startReaper(folder: string) {
  const child = spawn(process.execPath, [join(import.meta.dirname, "reaper.ts"), folder], {
    stdio: ["pipe", "ignore", "inherit"],
    detached: true,
  });
  child.unref();
  return { dismiss: () => child.stdin.end("done") };
}

/** A port that is free, held until it is released. */
async function holdPort(): Promise<{ readonly port: number; release(): Promise<void> }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { port: address.port, release: () => new Promise((resolve) => server.close(() => resolve())) };
}

function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new Error(`there is no ${name}`);
  return value;
}
