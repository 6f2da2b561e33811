/**
 * Commands (execs) and terminals (ptys) in live copies of workspaces, and their byte streams. No code outside of this folder
 * writes their columns, but ../materializations/end.ts, by which all of a copy end with it.
 *
 *   exec            enters by                            leaves by
 *   materializing   createExec: the copy is not up yet   startMaterialization, appendToMaterialization, the copy's end
 *   queued          createExec, startMaterialization     appendToMaterialization (exec.started, exec.exited), the copy's end
 *   running         appendToMaterialization              appendToMaterialization (exec.exited), the copy's end
 *   exited|terminated|failed|lost                        never: terminal
 *
 *   pty
 *   creating        createPty                            appendToMaterialization (pty.opened, pty.closed), the copy's end
 *   open            appendToMaterialization              resizePty, closePty, appendToMaterialization, the copy's end
 *   resizing        resizePty                            appendToMaterialization (pty.resized -> open), closePty, ...
 *   closing         closePty                             appendToMaterialization (pty.closed), the copy's end
 *   closed|failed|lost                                   never: terminal
 *
 * Locks: as in ../materializations/lifecycle.ts, execs and ptys last.
 *
 * Invariants; the property test in ../../test/workspace-streams-model.test.ts checks them after every step:
 *   C1  Of a workspace at most one exec or pty is active (the workspace is locked where one is made).
 *   C2  Offsets count bytes: a stream's chunks follow each other without gap or overlap, the last one ends at its cursor.
 *   C3  Input is written where the stream stands, or is the chunk that is there already, which is answered again.
 *   C4  An append item whose number is not above the copy's append_number has no effect; output continues its stream.
 *   C5  Of output at most `streamRetentionBytes` and what the chunk at their beginning has before them are kept; `*_retained`
 *       is where the kept ones begin.
 *   C6  Nothing is written to a stream whose exec or pty has ended: its state is read with its last chunks.
 *   C7  What ended long ago has no chunks: first `*_retained` is the cursor, then they go in pages, then streams_removed_at is
 *       set (removeOldStreams).
 */
import type { Selectable } from "kysely";
import type { ExecState, PtyState, WorkspacesSchema } from "../schema-workspaces.ts";

export type ExecRow = Selectable<WorkspacesSchema["workspace_execs"]>;
export type PtyRow = Selectable<WorkspacesSchema["workspace_ptys"]>;

export const activeExecStates = ["queued", "materializing", "running"] as const satisfies ExecState[];
export const activePtyStates = ["creating", "open", "resizing", "closing"] as const satisfies PtyState[];

/** Whether the exec has ended. */
export function isExecOver(state: ExecState): boolean {
  return !(activeExecStates as readonly string[]).includes(state);
}

/** Whether the pty has ended. */
export function isPtyOver(state: PtyState): boolean {
  return !(activePtyStates as readonly string[]).includes(state);
}

/** Whom to tell of a new command: the worker of the copy, if it has one. */
export interface CommandTarget {
  readonly materializationId: string;
  readonly workerInstanceId: string | null;
}

/** Input that waits for the worker of one live copy, beyond which writers are told to try again. */
export const maxWaitingInputBytes = 16 * 1024 * 1024;
/** The same of commands, of whichever kind. */
export const maxWaitingCommands = 10_000;
/** A piece of output as it is kept: its frame, in base64, stays far below what clients buffer (contract 6.2: 1 MiB). */
export const maxChunkBytes = 256 * 1024;
/** A reader that is that far behind holds back its stream, while it was there within `readerSeenSeconds`. */
export const maxUnreadBytes = 16 * 1024 * 1024;
export const readerSeenSeconds = 15;
/** Contract 7.3 and 7.4. */
export const commandKeyTtlMs = 24 * 3_600_000;
