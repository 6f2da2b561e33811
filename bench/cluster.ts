/**
 * An installation of several processes of each kind, without guests: PostgreSQL and Redis, control planes, dispatchers. Its workers
 * are stand-ins (cluster-workers.ts): they speak the worker's protocol over HTTP from processes of their own and execute nothing.
 */
import { fork, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { apiKeyScopes } from "@helmr/api";
import {
  type ActingScope,
  createApiKey,
  type Database,
  migrate,
  openDatabase,
  startEmbeddedPostgres,
} from "@helmr/store";
import { type SeededTask, seedEnvironment, seedTask } from "@helmr/store/testing";
import { hold } from "./leftovers.ts";
import { cpuSeconds, startProgram, treesOf } from "./processes.ts";

export interface ClusterOptions {
  readonly controlPlanes: number;
  readonly dispatchers: number;
  /** Further variables of the control planes. */
  readonly control?: Readonly<Record<string, string>>;
}

export interface Cluster extends AsyncDisposable {
  readonly urls: readonly string[];
  readonly db: Database;
  readonly scope: ActingScope;
  readonly task: SeededTask;
  readonly bootstrapToken: string;
  readonly pids: Readonly<Record<"control" | "dispatcher" | "postgres" | "redis", readonly number[]>>;
  /** A key of its own for each caller that follows streams: one may follow 100 per control plane. */
  makeKey(): Promise<string>;
  /** Starts a script of this folder; it is ended with the cluster. */
  fork(script: string, options: unknown): Promise<Child>;
  /** Processor seconds used so far. */
  cpu(): Promise<Record<keyof Cluster["pids"], number>>;
}

export interface Child {
  send(message: unknown): void;
  /** The next message that `pick` does not refuse with undefined. */
  receive<T>(pick: (message: never) => T | undefined): Promise<T>;
  onMessage(listener: (message: never) => void): void;
  stop(): Promise<void>;
}

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const parts = new AsyncDisposableStack();
  const dispose = hold(() => parts.disposeAsync());
  try {
    return { ...(await startParts(parts, options)), [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function startParts(
  parts: AsyncDisposableStack,
  { controlPlanes, dispatchers, control: variables }: ClusterOptions,
): Promise<Omit<Cluster, typeof Symbol.asyncDispose>> {
  const folder = await mkdtemp(join(tmpdir(), "helmr-bench-cluster-"));
  parts.defer(() => rm(folder, { recursive: true, force: true }));
  const postgres = await startEmbeddedPostgres({ dataDir: join(folder, "postgres"), durable: true });
  parts.defer(() => postgres.stop());
  const redis = await startRedis(parts, folder);
  const db = openDatabase({ url: postgres.url });
  parts.defer(() => db.close());
  await migrate(db);
  const { scope } = await seedEnvironment(db);
  const task = await seedTask(db, scope);

  const key = () => randomBytes(32).toString("base64");
  const bootstrapToken = randomBytes(32).toString("hex");
  const shared = {
    HELMR_DATABASE_URL: postgres.url,
    HELMR_REDIS_URL: redis.url,
    HELMR_CAS_URI: `file://${join(folder, "artifacts")}`,
    HELMR_ARTIFACT_ENCRYPTION_KEY: key(),
  };
  const control = {
    ...shared,
    HELMR_WORKER_BOOTSTRAP_TOKEN: bootstrapToken,
    HELMR_PUBLIC_URL: "http://127.0.0.1:4747",
    HELMR_LISTEN: "127.0.0.1:0",
    HELMR_SECRET_ENCRYPTION_KEY: key(),
    HELMR_AUTH_SECRET: key(),
    ...variables,
  };
  const urls: string[] = [];
  const pids = {
    control: [] as number[],
    dispatcher: [] as number[],
    postgres: [postgres.pid],
    redis: [redis.pid],
  };
  for (let n = 0; n < controlPlanes; n += 1) {
    const started = await startProgram(parts, "control-plane/bin/helmr-control.mjs", ["serve"], control);
    urls.push(started.url ?? "");
    pids.control.push(started.pid);
  }
  for (let n = 0; n < dispatchers; n += 1) {
    const started = await startProgram(parts, "dispatcher/bin/helmr-dispatcher.mjs", [], shared);
    pids.dispatcher.push(started.pid);
  }
  const cpu = async () => {
    const used = { control: 0, dispatcher: 0, postgres: 0, redis: 0 };
    for (const name of Object.keys(pids) as (keyof typeof pids)[]) {
      used[name] = await cpuSeconds(await treesOf(pids[name]));
    }
    return used;
  };
  let keys = 0;
  const makeKey = async () =>
    (await createApiKey(db, scope, { name: `bench ${++keys}`, scopes: apiKeyScopes })).rawKey;
  const forkChild = (script: string, childOptions: unknown) => startChild(parts, script, childOptions);
  return { urls, db, scope, task, bootstrapToken, pids, makeKey, fork: forkChild, cpu };
}

async function startRedis(
  parts: AsyncDisposableStack,
  folder: string,
): Promise<{ url: string; pid: number }> {
  const socket = join(folder, "redis.socket");
  const args = ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", folder];
  const child = spawn("redis-server", args, { stdio: "ignore" });
  const exited = once(child, "exit").catch(() => {
    throw new Error("redis-server is not installed: apt-get install redis-server");
  });
  exited.catch(() => undefined); // told by the race, or the end that was asked for
  parts.defer(async () => {
    child.kill("SIGTERM");
    await exited.catch(() => undefined);
  });
  await Promise.race([exited, sleep(500)]);
  if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode}`);
  return { url: `unix://${socket}`, pid: child.pid ?? 0 };
}

async function startChild(parts: AsyncDisposableStack, script: string, options: unknown): Promise<Child> {
  const child = fork(join(import.meta.dirname, script), [JSON.stringify(options)], { serialization: "json" });
  const exited = once(child, "exit");
  let asked = false;
  const stop = async () => {
    asked = true;
    if (child.connected) child.disconnect();
    const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
    await exited;
    clearTimeout(timer);
  };
  parts.defer(stop);
  const failed = exited.then(([code]) => {
    if (!asked) throw new Error(`${script} ended with ${code}`);
    return undefined as never;
  });
  failed.catch(() => undefined); // told by the race
  const receive = <T>(pick: (message: never) => T | undefined) =>
    Promise.race([
      failed,
      new Promise<T>((resolve) => {
        const listener = (message: unknown) => {
          const picked = pick(message as never);
          if (picked === undefined) return;
          child.off("message", listener);
          resolve(picked);
        };
        child.on("message", listener);
      }),
    ]);
  await receive((message: { ready?: boolean }) => message.ready);
  return {
    send: (message) => child.send(message as object),
    receive,
    onMessage: (listener) => child.on("message", listener as (message: unknown) => void),
    stop,
  };
}

/** Milliseconds on the clock that all processes of the machine share, to microseconds. */
export const clockMs = () => performance.timeOrigin + performance.now();
