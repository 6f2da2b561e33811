/** Commands in a workspace (contract 7.3). */
import { sleep } from "../abort.ts";
import { Outage } from "../retry.ts";
import { pathSegment, type ScopeOptions } from "../transport.ts";
import { wireList, wireObject } from "../wire.ts";
import {
  execOf,
  isEnded,
  type WorkspaceExecSnapshot,
  type WorkspaceExecState,
  type WorkspaceStreamChunk,
} from "./command-objects.ts";
import {
  createReadable,
  type WorkspaceReadable,
  type WorkspaceWriteOptions,
  writeAll,
  writeChunk,
} from "./streams.ts";
import { ask, type Target } from "./target.ts";

export interface WorkspaceExecOptions extends ScopeOptions {
  /** Absolute. Default: the workspace's root. */
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** The command goes on at its own pace when nobody reads what it writes. */
  readonly detached?: boolean | undefined;
  /** Sent as it is: the same key with the same command is one command. */
  readonly idempotencyKey?: string | undefined;
}
export interface WorkspaceExecListOptions extends ScopeOptions {
  readonly state?: WorkspaceExecState | undefined;
  /** 1 to 200, default 50. */
  readonly limit?: number | undefined;
}
export interface WorkspaceExecWaitOptions extends ScopeOptions {
  /** Default 250; less for the first second. */
  readonly pollIntervalMs?: number | undefined;
}
export type WorkspaceSignal =
  | "SIGHUP"
  | "SIGINT"
  | "SIGQUIT"
  | "SIGKILL"
  | "SIGTERM"
  | "SIGUSR1"
  | "SIGUSR2"
  | "SIGSTOP"
  | "SIGCONT";
export interface WorkspaceStdinPipeOptions extends ScopeOptions {
  /** How many bytes were written before. Default 0. */
  readonly offset?: number | undefined;
  /** Whether stdin is closed behind the last byte. Default true. */
  readonly close?: boolean | undefined;
}

export interface WorkspaceStdin {
  /** At most 1 MiB. Repeating a write at its offset is harmless; another offset is 409 `workspace_stream_offset_conflict`. */
  write(data: string | Uint8Array, options: WorkspaceWriteOptions): Promise<WorkspaceStreamChunk>;
  close(options?: ScopeOptions): Promise<WorkspaceExecSnapshot>;
  /** Writes everything, also across cut connections, and closes stdin. Returns the offset behind the last byte. */
  pipe(
    source: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>,
    options?: WorkspaceStdinPipeOptions,
  ): Promise<number>;
}

/** A command: what it was when it was asked for, and what can be done with it. */
export interface WorkspaceExec extends WorkspaceExecSnapshot {
  readonly stdout: WorkspaceReadable;
  readonly stderr: WorkspaceReadable;
  readonly stdin: WorkspaceStdin;
  retrieve(options?: ScopeOptions): Promise<WorkspaceExecSnapshot>;
  /** The command once it has ended, whatever became of it. Survives outages of up to ten minutes. */
  wait(options?: WorkspaceExecWaitOptions): Promise<WorkspaceExecSnapshot>;
  /** Signals the command and what it started. Default SIGTERM. */
  kill(signal?: WorkspaceSignal, options?: ScopeOptions): Promise<WorkspaceExecSnapshot>;
}

export interface WorkspaceExecs {
  retrieve(execId: string, options?: ScopeOptions): Promise<WorkspaceExec>;
  /** Newest first. */
  list(options?: WorkspaceExecListOptions): Promise<WorkspaceExecSnapshot[]>;
}

const usualPollMs = 250;
const firstPollMs = 10;

export async function startExec(
  target: Target,
  command: readonly string[],
  options: WorkspaceExecOptions = {},
): Promise<WorkspaceExec> {
  if (!Array.isArray(command))
    throw new TypeError('exec(argv): must be an array such as ["ls", "-l"]; a shell is ["sh", "-c", "…"]');
  const { cwd, env, detached, idempotencyKey: idempotency_key } = options;
  const body = { command, cwd, env, detached, idempotency_key };
  return execHandle(target, await ask(target, "POST", "/execs", options, { body }));
}

export function createExecs(target: Target): WorkspaceExecs {
  return Object.freeze({
    async retrieve(execId: string, options: ScopeOptions = {}) {
      return execHandle(target, await ask(target, "GET", pathOf(execId), options));
    },
    async list(options: WorkspaceExecListOptions = {}) {
      const query = [["state", options.state] as const, ["limit", options.limit] as const];
      const execs = wireList(await ask(target, "GET", "/execs", options, { query }), "execs");
      return execs.map((exec) => Object.freeze(execOf(exec)));
    },
  });
}

function pathOf(execId: string): string {
  return `/execs/${pathSegment(execId, "exec id")}`;
}

function snapshotOf(answer: unknown): WorkspaceExecSnapshot {
  return Object.freeze(execOf(wireObject(answer, "exec").exec));
}

function execHandle(target: Target, answer: unknown): WorkspaceExec {
  const snapshot = snapshotOf(answer);
  const path = pathOf(snapshot.id);
  const retrieve = async (options: ScopeOptions = {}) => snapshotOf(await ask(target, "GET", path, options));
  return Object.freeze({
    ...snapshot,
    stdout: createReadable(target, `${path}/stdout`),
    stderr: createReadable(target, `${path}/stderr`),
    stdin: createStdin(target, `${path}/stdin`),
    retrieve,
    async wait({ pollIntervalMs, ...scope }: WorkspaceExecWaitOptions = {}) {
      const outage = new Outage();
      for (let delayMs = pollIntervalMs ?? firstPollMs; ; delayMs = Math.min(delayMs * 2, usualPollMs)) {
        const now = await outage.attempt(() => retrieve(scope));
        if (now !== undefined && isEnded(now)) return now;
        await sleep(pollIntervalMs ?? delayMs, scope.signal);
      }
    },
    async kill(signal?: WorkspaceSignal, options: ScopeOptions = {}) {
      return snapshotOf(await ask(target, "POST", `${path}/kill`, options, { body: { signal } }));
    },
  });
}

function createStdin(target: Target, suffix: string): WorkspaceStdin {
  const close = async (options: ScopeOptions = {}) =>
    snapshotOf(await ask(target, "POST", `${suffix}/close`, options, { body: {} }));
  return Object.freeze({
    write: (data: string | Uint8Array, options: WorkspaceWriteOptions) =>
      writeChunk(target, suffix, data, options),
    close,
    async pipe(
      source: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>,
      { offset = 0, close: closes = true, ...scope }: WorkspaceStdinPipeOptions = {},
    ) {
      const end = await writeAll(target, suffix, source, { ...scope, offset });
      if (closes) await close(scope);
      return end;
    },
  });
}
