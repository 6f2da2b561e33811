/**
 * The one data folder of an embedded stack: who owns it, and what must survive a restart.
 *
 *   state.json   0600  keys and tokens made at the first start
 *   postgres/          the database
 *   artifacts/         the content-addressed store
 *   worker/            workspaces, layers, caches and guests of the worker
 */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { chmod, mkdir, readFile, realpath, rename, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { makeFolder } from "@helmr/process/make-folder";
import envPaths from "env-paths";
import { StartError } from "./start-error.ts";

/** What a restart needs to be the same installation. Values are secrets: never logged. */
export interface StackState {
  readonly format: 1;
  readonly installationId: string;
  /** 32 bytes, base64: encrypts the secrets in the database. */
  readonly secretEncryptionKey: string;
  /** The key before, while secrets are still under it. */
  readonly secretEncryptionKeyOld?: string;
  readonly bootstrapToken: string;
  /** 32 bytes, base64: what secrets of tokens are derived from. */
  readonly authSecret: string;
  /** 32 bytes, base64: seals the guests of waiting runs. */
  readonly checkpointEncryptionKey: string;
  /** 32 bytes, base64: seals sources, workspaces and image layers. */
  readonly artifactEncryptionKey: string;
  readonly apiKey?: string;
  /** Of the local owner. */
  readonly sessionToken?: string;
  /** The port of the last start: kept, when free, so that clients find the stack again. */
  readonly port?: number;
}

export interface DataFolder {
  readonly path: string;
  readonly postgres: string;
  readonly artifacts: string;
  readonly worker: string;
  readState(): Promise<StackState>;
  writeState(state: StackState): Promise<void>;
}

/** `$XDG_DATA_HOME/helmr` or the platform's equivalent. */
export function defaultDataDir(): string {
  return envPaths("helmr", { suffix: "" }).data;
}

/** Make the folder, which the database's user can pass through (0711; its parts are 0700 or that user's), and describe it. */
export async function openDataFolder(path: string): Promise<DataFolder> {
  await makeDataFolder(path);
  const root = await realpath(path);
  // Only added to: the folder may be one that others use, too.
  const { mode } = await stat(root);
  if ((mode & 0o111) !== 0o111) await chmod(root, (mode & 0o7777) | 0o111);
  const folder = {
    path: root,
    postgres: join(root, "postgres"),
    artifacts: join(root, "artifacts"),
    worker: join(root, "worker"),
  };
  for (const sub of [folder.artifacts, folder.worker]) await mkdir(sub, { recursive: true, mode: 0o700 });
  const stateFile = join(root, "state.json");
  const writeState = async (state: StackState): Promise<void> => {
    const draft = `${stateFile}.${process.pid}`;
    await writeFile(draft, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
    await rename(draft, stateFile);
  };
  const readState = async (): Promise<StackState> => {
    const text = await readFile(stateFile, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
    const known = text === undefined ? {} : parseState(text, stateFile);
    const state = { ...newState(), ...known };
    // A folder of an older version lacks the secrets that came since: they are made now, and stay.
    if (Object.keys(state).some((name) => !(name in known))) await writeState(state);
    return state;
  };
  return { ...folder, readState, writeState };
}

/** A folder that is made here is for its owner, and for the database's user to pass through. */
async function makeDataFolder(path: string): Promise<void> {
  try {
    await makeFolder(path, 0o711);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StartError(`the data folder ${path} cannot be made (${why}); choose another with --data-dir`, {
      cause,
    });
  }
}

function newState(): StackState {
  return {
    format: 1,
    installationId: randomUUID(),
    secretEncryptionKey: randomBytes(32).toString("base64"),
    authSecret: randomBytes(32).toString("base64"),
    checkpointEncryptionKey: randomBytes(32).toString("base64"),
    artifactEncryptionKey: randomBytes(32).toString("base64"),
    bootstrapToken: `hlmr_wb_${randomBytes(32).toString("base64url")}`,
  };
}

function parseState(text: string, file: string): Partial<StackState> {
  const state = JSON.parse(text) as Partial<StackState>;
  if (state.format !== 1 || !state.installationId || !state.secretEncryptionKey || !state.bootstrapToken) {
    throw new StartError(
      `${file} was not written by this version of Helmr; start with --reset, or use another --data-dir`,
    );
  }
  return state;
}

/**
 * Take the folder for this process, or reject with who holds it.
 *
 * The lock is a listening abstract Unix socket named after the folder: the kernel gives it to one process at a time and
 * takes it back at any death, also kill -9, so that a stale lock cannot exist.
 */
export async function lockDataFolder(path: string): Promise<AsyncDisposable> {
  await makeDataFolder(path);
  const name = createHash("sha256")
    .update(await realpath(path))
    .digest("hex")
    .slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(
        error.code === "EADDRINUSE"
          ? new StartError(
              `another helmr dev is running on ${path}; stop it, or choose another folder with --data-dir`,
            )
          : error,
      );
    });
    server.listen(`\0helmr-dev-${name}`, resolve);
  });
  server.unref();
  return {
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
