/** Terminals in a workspace (contract 7.4). */
import { sleep } from "../abort.ts";
import { Outage } from "../retry.ts";
import { pathSegment, type ScopeOptions } from "../transport.ts";
import { wireList, wireObject } from "../wire.ts";
import {
  ptyOf,
  type WorkspacePtySnapshot,
  type WorkspacePtyState,
  type WorkspaceStreamChunk,
} from "./command-objects.ts";
import { createReadable, type WorkspaceReadable, type WorkspaceWriteOptions, writeChunk } from "./streams.ts";
import { ask, type Target } from "./target.ts";

export interface WorkspacePtyCreateOptions extends ScopeOptions {
  /** Absolute. Default: the workspace's root. */
  readonly cwd?: string | undefined;
  /** Up to 500. Default 80. */
  readonly cols?: number | undefined;
  /** Up to 500. Default 24. */
  readonly rows?: number | undefined;
  /** Sent as it is: the same key with the same options is one terminal. */
  readonly idempotencyKey?: string | undefined;
}
export interface WorkspacePtyListOptions extends ScopeOptions {
  readonly state?: WorkspacePtyState | undefined;
  /** 1 to 200, default 50. */
  readonly limit?: number | undefined;
}

/** A terminal: what it was when it was asked for, and what can be done with it. */
export interface WorkspacePty extends WorkspacePtySnapshot {
  readonly output: WorkspaceReadable;
  retrieve(options?: ScopeOptions): Promise<WorkspacePtySnapshot>;
  /** The terminal as soon as it takes input, or has ended instead: it does not while it is `creating`. */
  waitUntilOpen(options?: ScopeOptions): Promise<WorkspacePtySnapshot>;
  /** Types. At most 1 MiB; offsets as of a command's stdin. */
  input(data: string | Uint8Array, options: WorkspaceWriteOptions): Promise<WorkspaceStreamChunk>;
  resize(cols: number, rows: number, options?: ScopeOptions): Promise<WorkspacePtySnapshot>;
  close(options?: ScopeOptions): Promise<WorkspacePtySnapshot>;
}

export interface WorkspacePtys {
  create(options?: WorkspacePtyCreateOptions): Promise<WorkspacePty>;
  retrieve(ptyId: string, options?: ScopeOptions): Promise<WorkspacePty>;
  /** Newest first. */
  list(options?: WorkspacePtyListOptions): Promise<WorkspacePtySnapshot[]>;
}

const pollMs = 100;

export function createPtys(target: Target): WorkspacePtys {
  return Object.freeze({
    async create(options: WorkspacePtyCreateOptions = {}) {
      const { cwd, cols, rows, idempotencyKey: idempotency_key } = options;
      const body = { cwd, cols, rows, idempotency_key };
      return ptyHandle(target, await ask(target, "POST", "/pty", options, { body }));
    },
    async retrieve(ptyId: string, options: ScopeOptions = {}) {
      return ptyHandle(target, await ask(target, "GET", pathOf(ptyId), options));
    },
    async list(options: WorkspacePtyListOptions = {}) {
      const query = [["state", options.state] as const, ["limit", options.limit] as const];
      const ptys = wireList(await ask(target, "GET", "/pty", options, { query }), "ptys");
      return ptys.map((pty) => Object.freeze(ptyOf(pty)));
    },
  });
}

function pathOf(ptyId: string): string {
  return `/pty/${pathSegment(ptyId, "pty id")}`;
}

function snapshotOf(answer: unknown): WorkspacePtySnapshot {
  return Object.freeze(ptyOf(wireObject(answer, "pty").pty));
}

function ptyHandle(target: Target, answer: unknown): WorkspacePty {
  const snapshot = snapshotOf(answer);
  const path = pathOf(snapshot.id);
  const retrieve = async (options: ScopeOptions = {}) => snapshotOf(await ask(target, "GET", path, options));
  return Object.freeze({
    ...snapshot,
    output: createReadable(target, `${path}/output`),
    retrieve,
    async waitUntilOpen(options: ScopeOptions = {}) {
      const outage = new Outage();
      for (;;) {
        const now = await outage.attempt(() => retrieve(options));
        if (now !== undefined && now.state !== "creating") return now;
        await sleep(pollMs, options.signal);
      }
    },
    input: (data: string | Uint8Array, options: WorkspaceWriteOptions) =>
      writeChunk(target, `${path}/input`, data, options),
    async resize(cols: number, rows: number, options: ScopeOptions = {}) {
      return snapshotOf(await ask(target, "POST", `${path}/resize`, options, { body: { cols, rows } }));
    },
    async close(options: ScopeOptions = {}) {
      return snapshotOf(await ask(target, "POST", `${path}/close`, options, { body: {} }));
    },
  });
}
