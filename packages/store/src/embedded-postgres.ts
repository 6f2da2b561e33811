/**
 * A real PostgreSQL server out of an npm package, for `helmr dev` and the tests.
 *
 *   1 stop what a killed process left running on this data folder
 *   2 initdb, the first time
 *   3 start it as its own session (a Ctrl-C in the terminal is ours to handle, not the server's)
 *   4 create the database, the first time
 *
 * It listens on a unix socket in a folder that only its user and root can enter, and on no network address: a guest has
 * no way to it. PostgreSQL refuses to run as root, so under root it runs as user `postgres`, else `nobody`.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, fchmodSync, openSync } from "node:fs";
import { chmod, chown, lstat, mkdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { postgresBinaries } from "./postgres-binaries.ts";
import { type ServerUser, serverCommand, serverUser } from "./postgres-user.ts";

export interface EmbeddedPostgresOptions {
  /** Made when missing; its parent must exist. */
  readonly dataDir: string;
  /** False gives up crash safety for speed (tests). */
  readonly durable: boolean;
  /** Default "helmr". */
  readonly databaseName?: string;
  readonly logger?: {
    info(fields: object, message: string): void;
    warn(fields: object, message: string): void;
  };
  /** Default 60,000: a recovery after kill -9 reads the log first. */
  readonly startTimeoutMs?: number;
}

export interface EmbeddedPostgres {
  /** `postgresql://` URL of the database, over the unix socket. */
  readonly url: string;
  readonly pid: number;
  /** Fast shutdown: open connections are ended. Safe to call twice. */
  stop(): Promise<void>;
}

const superuser = "helmr";
/** A socket's path may take 107 bytes; `/.s.PGSQL.5432` is 14 of them. */
const maxSocketDirLength = 90;
const stopTimeoutMs = 20_000;

/** Start the server on this data folder; rejects with the end of its log when it does not come up. */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { dataDir, durable, logger } = options;
  const user = await serverUser();
  const stale = await stopStalePostgres(dataDir);
  if (stale !== undefined)
    logger?.warn({ pid: stale }, "stopped a PostgreSQL that a killed process had left running");
  const binaries = await postgresBinaries();
  const logFile = `${dataDir}.log`;
  await ownFolder(dataDir, user);
  const socketDir = await makeSocketDir(dataDir, user);
  if (!(await exists(join(dataDir, "PG_VERSION"))))
    await initdb(binaries.initdb, dataDir, durable, user, logFile);

  const settings = serverSettings(socketDir, durable).flatMap((setting) => ["-c", setting]);
  const pid = await spawnServer(binaries.postgres, ["-D", dataDir, ...settings], user, dataDir, logFile);
  const databaseName = options.databaseName ?? "helmr";
  try {
    await waitUntilReady(socketDir, pid, logFile, options.startTimeoutMs ?? 60_000);
    await createDatabase(socketDir, databaseName);
  } catch (error) {
    await stopServer(pid);
    throw error;
  }
  logger?.info({ pid, dataDir }, "PostgreSQL is up");
  let stopped: Promise<void> | undefined;
  const stop = async () => {
    await stopServer(pid);
    await rm(socketDir, { recursive: true, force: true });
  };
  return {
    url: socketUrl(socketDir, databaseName),
    pid,
    stop: () => {
      stopped ??= stop();
      return stopped;
    },
  };
}

/** Stop a server that still runs on this data folder; returns its pid, undefined when there was none. */
export async function stopStalePostgres(dataDir: string): Promise<number | undefined> {
  const text = await readFile(join(dataDir, "postmaster.pid"), "utf8").catch(ignoreMissing);
  const pid = Number(text?.split("\n")[0]);
  if (!Number.isInteger(pid) || pid <= 1 || !(await isServerOf(pid, dataDir))) return undefined;
  await stopServer(pid);
  return pid;
}

/** URL of another database of the same server. */
export function databaseUrl(serverUrl: string, databaseName: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${databaseName}`;
  return url.href;
}

function socketUrl(socketDir: string, databaseName: string): string {
  return `postgresql://${superuser}@localhost/${databaseName}?host=${encodeURIComponent(socketDir)}`;
}

function serverSettings(socketDir: string, durable: boolean): string[] {
  const unsafe = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum_naptime=10s"];
  return [
    "listen_addresses=",
    `unix_socket_directories=${socketDir}`,
    "unix_socket_permissions=0700",
    "max_connections=200",
    "shared_buffers=128MB",
    "jit=off",
    "max_wal_size=1GB",
    "log_min_messages=warning",
    "log_timezone=UTC",
    "timezone=UTC",
    ...(durable ? [] : unsafe),
  ];
}

async function initdb(
  path: string,
  dataDir: string,
  durable: boolean,
  user: ServerUser,
  logFile: string,
): Promise<void> {
  const args = ["-D", dataDir, "-U", superuser, "-A", "trust", "--encoding=UTF8", "--locale=C"];
  if (!durable) args.push("--no-sync");
  const command = await serverCommand(path, args, user, [path, dataDir]);
  const log = openLog(logFile);
  try {
    const child = spawn(command.path, command.args, { ...command.options, stdio: ["ignore", log, log] });
    const code = await new Promise<number | null>((resolve, reject) =>
      child.once("error", reject).once("exit", resolve),
    );
    if (code !== 0) throw new Error(`initdb failed with exit code ${code}:\n${await tail(logFile)}`);
  } catch (error) {
    await rm(dataDir, { recursive: true, force: true });
    throw error;
  } finally {
    closeSync(log);
  }
}

async function spawnServer(
  path: string,
  args: string[],
  user: ServerUser,
  dataDir: string,
  logFile: string,
): Promise<number> {
  const command = await serverCommand(path, args, user, [path, dataDir]);
  const log = openLog(logFile);
  try {
    const child = spawn(command.path, command.args, {
      ...command.options,
      stdio: ["ignore", log, log],
      detached: true,
    });
    await new Promise<void>((resolve, reject) => child.once("error", reject).once("spawn", resolve));
    child.unref();
    return child.pid ?? 0;
  } finally {
    closeSync(log);
  }
}

/** Closed to other users: an error's detail can quote a row. */
function openLog(path: string): number {
  const log = openSync(path, "a", 0o600);
  fchmodSync(log, 0o600);
  return log;
}

async function waitUntilReady(
  socketDir: string,
  pid: number,
  logFile: string,
  timeoutMs: number,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const client = new pg.Client({
      connectionString: socketUrl(socketDir, "postgres"),
      connectionTimeoutMillis: 5000,
    });
    try {
      await client.connect();
      return;
    } catch (error) {
      if (!isAlive(pid) || Date.now() > deadline) {
        throw new Error(`PostgreSQL did not start; the end of ${logFile}:\n${await tail(logFile)}`, {
          cause: error,
        });
      }
    } finally {
      await client.end();
    }
    await sleep(30);
  }
}

async function createDatabase(socketDir: string, name: string): Promise<void> {
  const client = new pg.Client({ connectionString: socketUrl(socketDir, "postgres") });
  await client.connect();
  try {
    const { rowCount } = await client.query("select from pg_database where datname = $1", [name]);
    if (rowCount === 0) await client.query(`create database ${client.escapeIdentifier(name)}`);
  } finally {
    await client.end();
  }
}

/** SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one (recovery at the next start). */
async function stopServer(pid: number): Promise<void> {
  for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
    if (!isAlive(pid)) return;
    process.kill(pid, signal);
    const deadline = Date.now() + stopTimeoutMs;
    while (isAlive(pid) && Date.now() < deadline) await sleep(20);
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

/** Pids are reused: only a process that says it is a server of this folder is one. */
async function isServerOf(pid: number, dataDir: string): Promise<boolean> {
  if (!isAlive(pid)) return false;
  const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(ignoreMissing);
  // Without /proc (macOS) the pid file has to do: the server itself refuses a folder whose pid file names a live process.
  if (commandLine === undefined) return process.platform !== "linux";
  return commandLine.split("\0").includes(dataDir);
}

async function ownFolder(path: string, user: ServerUser): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
  if (user.uid !== undefined) await chown(path, user.uid, user.gid ?? user.uid);
}

/** Beside the data when the path is short enough, else in the temporary folder under a name of its own. */
async function makeSocketDir(dataDir: string, user: ServerUser): Promise<string> {
  const hash = createHash("sha256").update(dataDir).digest("hex").slice(0, 12);
  const beside = `${dataDir}.socket`;
  const path = beside.length <= maxSocketDirLength ? beside : join(tmpdir(), `helmr-pg-${hash}`);
  await rm(path, { recursive: true, force: true });
  await mkdir(path, { mode: 0o700 });
  await ownFolder(path, user);
  const { uid } = await lstat(path);
  if (user.uid !== undefined && uid !== user.uid)
    throw new Error(`${path} belongs to another user: remove it`);
  return path;
}

async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(ignoreMissing)) !== undefined;
}

async function tail(logFile: string): Promise<string> {
  return (await readFile(logFile, "utf8")).slice(-4000);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === "ENOENT" || error.code === "ESRCH") return undefined;
  throw error;
}
