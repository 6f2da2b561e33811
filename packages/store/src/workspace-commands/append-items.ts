/** What append items change, decided in JavaScript on locked rows: from the states there are to those to write. */
import { codedError, type WorkspaceAppendItem } from "@helmr/api";
import { uuidv7 } from "../ids.ts";
import type { OutputStream } from "./chunks.ts";
import { maxChunkBytes, maxUnreadBytes, readerSeenSeconds } from "./lifecycle.ts";

export interface StreamRef {
  readonly resourceId: string;
  readonly stream: OutputStream;
}

interface StreamState {
  cursor: number;
  readonly retained: number;
  readonly read: number;
  /** Seconds since an attached reader was seen; null: never. */
  readonly read_ago: number | null;
}

/** An exec or pty that is active, as read under its lock, and what becomes of it. */
export interface CommandState {
  readonly kind: "exec" | "pty";
  readonly id: string;
  state: string;
  readonly detached: boolean;
  readonly streams: { readonly [Stream in OutputStream]?: StreamState };
  pid?: number;
  has_started?: boolean;
  has_ended?: boolean;
  exit_code?: number;
  signal?: string;
  error?: { readonly message: string };
}

export interface NewChunk extends StreamRef {
  readonly id: string;
  readonly offset: number;
  readonly data: Buffer;
  readonly observedAt: string;
}

export interface Changes {
  readonly commands: Map<string, CommandState>;
  readonly chunks: NewChunk[];
}

/**
 * Items of what is not active any more change nothing (C6): the stop of a copy may have ended it before its worker could
 * report the end.
 */
export function collect(
  active: ReadonlyMap<string, CommandState>,
  items: readonly WorkspaceAppendItem[],
): Changes {
  const changes: Changes = { commands: new Map(), chunks: [] };
  for (const item of items) {
    const command = active.get(resourceOf(item));
    if (command === undefined || command.has_ended) continue;
    changes.commands.set(command.id, command);
    if (item.kind === "output") addOutput(changes, command, item);
    else if (command.kind === "exec") changeExec(command, item);
    else changePty(command, item);
  }
  return changes;
}

function resourceOf(item: WorkspaceAppendItem): string {
  if (item.kind === "output") return item.resource_id;
  return "exec_id" in item ? item.exec_id : item.pty_id;
}

/** C2, C4: what does not go on where the stream stands is refused; a repeated item is known by its number, not by this. */
function addOutput(
  { chunks }: Changes,
  command: CommandState,
  item: WorkspaceAppendItem & { readonly kind: "output" },
): void {
  const stream = command.streams[item.stream];
  if (stream === undefined) return;
  const data = Buffer.from(item.content_base64, "base64");
  if (item.offset !== stream.cursor) {
    throw codedError(
      "workspace_stream_offset_conflict",
      `${item.stream} stands at ${stream.cursor}, and the item begins at ${item.offset}`,
    );
  }
  for (let at = 0; at < data.length; at += maxChunkBytes) {
    const piece = data.subarray(at, at + maxChunkBytes);
    const ref = { resourceId: command.id, stream: item.stream };
    chunks.push({ ...ref, id: uuidv7(), offset: stream.cursor, data: piece, observedAt: item.observed_at });
    stream.cursor += piece.length;
  }
}

function changeExec(exec: CommandState, item: WorkspaceAppendItem): void {
  if (item.kind === "exec.started") {
    exec.state = "running";
    exec.pid = item.pid;
    exec.has_started = true;
  } else if (item.kind === "exec.exited") {
    exec.state = item.state;
    exec.has_ended = true;
    if (item.exit_code !== undefined) exec.exit_code = item.exit_code;
    if (item.signal !== undefined) exec.signal = item.signal;
    if (item.error !== undefined) exec.error = item.error;
  }
}

function changePty(pty: CommandState, item: WorkspaceAppendItem): void {
  if (item.kind === "pty.opened") {
    if (pty.state === "creating") pty.state = "open";
    pty.pid = item.pid;
    pty.has_started = true;
  } else if (item.kind === "pty.resized") {
    if (pty.state === "resizing") pty.state = "open";
  } else if (item.kind === "pty.closed") {
    pty.state = item.state;
    pty.has_ended = true;
    if (item.error !== undefined) pty.error = item.error;
  }
}

/** Streams of which the worker is to send no more: an attached reader was there just now and is far behind. */
export function pausedStreams(commands: Iterable<CommandState>): StreamRef[] {
  const paused: StreamRef[] = [];
  for (const { id: resourceId, detached, streams, has_ended: hasEnded } of commands) {
    if (detached || hasEnded) continue;
    for (const stream of ["stdout", "stderr", "output"] as const) {
      const state = streams[stream];
      if (state === undefined || state.read_ago === null || state.read_ago > readerSeenSeconds) continue;
      if (state.cursor - state.read > maxUnreadBytes) paused.push({ resourceId, stream });
    }
  }
  return paused;
}
