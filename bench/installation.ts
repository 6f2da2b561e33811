/**
 * An installation at rest: `helmr-control`, `helmr-dispatcher` and `helmr-worker` as processes of their own on a PostgreSQL and an artifact
 * store that exist, and what they hold and use while nothing is asked of them. All of them are fresh, so what is measured is
 * what the data costs, not what was left over by the work that made it.
 */
import { randomBytes } from "node:crypto";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ensureRuntime } from "../packages/dev/src/runtime/index.ts";
import { hold } from "./leftovers.ts";
import { cpuSeconds, proportionalBytes, socketsOf, startProgram, sum, treesOf } from "./processes.ts";

export interface InstallationOptions {
  readonly databaseUrl: string;
  readonly postgresPid: number;
  readonly artifactsDir: string;
  /** For the worker's data; its mounts lie below. */
  readonly folder: string;
  readonly bootstrapToken: string;
}

/** Of all processes together, with their children. */
export interface AtRest {
  /** Proportional set size by program. */
  readonly memoryBytes: Readonly<Record<"control" | "dispatcher" | "worker" | "postgres", number>>;
  /** Of one core, over the time measured. */
  readonly cpu: number;
  readonly processes: number;
  readonly sockets: number;
  /** Below the installation's folder. */
  readonly mounts: number;
  /** Other than those of the machine. */
  readonly namespaces: number;
}

/** Starts everything, lets it come to rest, looks at it for `measureMs`, and stops it. */
export async function measureAtRest(options: InstallationOptions, measureMs: number): Promise<AtRest> {
  await using installation = await startInstallation(options);
  const { pids } = installation;
  await sleep(measureMs / 3);
  const usedBefore = await cpuSeconds(await treesOf(Object.values(pids)));
  await sleep(measureMs);
  const all = await treesOf(Object.values(pids));
  const usedAfter = await cpuSeconds(all);
  const memoryOf = async (pid: number) =>
    sum(await Promise.all((await treesOf([pid])).map(proportionalBytes)));
  return {
    memoryBytes: {
      control: await memoryOf(pids.control),
      dispatcher: await memoryOf(pids.dispatcher),
      worker: await memoryOf(pids.worker),
      postgres: await memoryOf(pids.postgres),
    },
    cpu: (usedAfter - usedBefore) / (measureMs / 1000),
    processes: all.length,
    sockets: sum(await Promise.all(all.map(socketsOf))),
    mounts: await mountsBelow(options.folder),
    namespaces: await namespacesOf(all),
  };
}

interface Installation extends AsyncDisposable {
  readonly pids: Readonly<Record<"control" | "dispatcher" | "worker" | "postgres", number>>;
}

async function startInstallation(options: InstallationOptions): Promise<Installation> {
  const { databaseUrl, artifactsDir, folder, bootstrapToken, postgresPid } = options;
  const runtime = await ensureRuntime();
  const parts = new AsyncDisposableStack();
  const dispose = hold(() => parts.disposeAsync());
  const key = () => randomBytes(32).toString("base64");
  const shared = {
    HELMR_CAS_URI: `file://${artifactsDir}`,
    HELMR_WORKER_BOOTSTRAP_TOKEN: bootstrapToken,
    HELMR_ARTIFACT_ENCRYPTION_KEY: key(),
  };
  try {
    const control = await startProgram(parts, "control-plane/bin/helmr-control.mjs", ["serve"], {
      ...shared,
      HELMR_DATABASE_URL: databaseUrl,
      HELMR_PUBLIC_URL: "http://127.0.0.1:4747",
      HELMR_LISTEN: "127.0.0.1:0",
      HELMR_SECRET_ENCRYPTION_KEY: key(),
      HELMR_AUTH_SECRET: key(),
    });
    const dispatcher = await startProgram(parts, "dispatcher/bin/helmr-dispatcher.mjs", [], {
      HELMR_CAS_URI: shared.HELMR_CAS_URI,
      HELMR_DATABASE_URL: databaseUrl,
    });
    const worker = await startProgram(parts, "worker/bin/helmr-worker.mjs", [], {
      ...shared,
      HELMR_CONTROL_PLANE_URL: control.url ?? "",
      HELMR_WORKER_DATA_DIR: join(folder, "worker"),
      HELMR_CHECKPOINT_ENCRYPTION_KEY: key(),
      HELMR_RUNSC_PATH: runtime.runscPath,
      HELMR_IMAGES_DIR: runtime.imagesDir,
    });
    const pids = {
      control: control.pid,
      dispatcher: dispatcher.pid,
      worker: worker.pid,
      postgres: postgresPid,
    };
    return { pids, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function mountsBelow(folder: string): Promise<number> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  return table.split("\n").filter((line) => line.split(" ")[4]?.startsWith(`${folder}/`)).length;
}

async function namespacesOf(pids: readonly number[]): Promise<number> {
  const own = new Set(await namespaces(process.pid));
  const all = new Set((await Promise.all(pids.map(namespaces))).flat());
  return [...all].filter((each) => !own.has(each)).length;
}

async function namespaces(pid: number): Promise<string[]> {
  const names = await readdir(`/proc/${pid}/ns`).catch(() => []);
  return await Promise.all(names.map((name) => readlink(`/proc/${pid}/ns/${name}`).catch(() => "")));
}
