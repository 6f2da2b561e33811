/**
 * Commands and terminals in a guest: `exec.*` and `pty.*`, both ways.
 *
 * | worker                                        | guest                                                          |
 * |-----------------------------------------------|----------------------------------------------------------------|
 * | exec.start                                    | exec.started, or exec.exited with `error`                      |
 * | exec.stdin, exec.stdin_close (stdin: "pipe")  | exec.stdin_consumed                                            |
 * | exec.output_credit                            | exec.output                                                    |
 * | exec.signal                                   | exec.exited: the last message of this command                  |
 * | pty.start                                     | pty.opened, or pty.closed with `error`                         |
 * | pty.input, pty.resize                         | pty.input_consumed, pty.resized (one for each pty.resize)      |
 * | pty.output_credit                             | pty.output                                                     |
 * | pty.close                                     | pty.closed: the last message of this terminal                  |
 *
 *  F1  The worker sends at most `limits.commandWindowBytes` of input beyond what the guest said was consumed: a program
 *      that does not read holds back its own input alone. What a program no longer takes is consumed, too.
 *  F2  The guest sends at most `limits.commandWindowBytes` of one output stream, and as much more as the worker gave
 *      credit for: output nobody takes holds back its own program alone. So neither side ever stops reading the link.
 *  F3  What the worker sends for a command that has ended meanwhile is ignored. The guest has no such excuse: it has sent
 *      the end itself.
 */
import * as z from "zod";
import { limits } from "./constants.ts";

const id = z.string().min(1).max(64);
const item = z.string().max(limits.commandItemBytes);
const argv = z.array(item).min(1).max(limits.commandItems);
const env = z.record(item, item);
const signal = z.string().min(1).max(32);
const pid = z.int32().positive();
const size = z.int().min(1).max(limits.terminalSize);
const byteCount = z.int().min(1).max(limits.commandWindowBytes);
const outputStream = z.enum(["stdout", "stderr"]);
/** Buffers, too: those are Uint8Arrays over any kind of ArrayBuffer. */
const chunk = z.custom<Uint8Array>(
  (value) => value instanceof Uint8Array && value.length > 0 && value.length <= limits.commandChunkBytes,
  "not a chunk of bytes",
);

/** Name, uid or uid:gid inside the guest; absent: the image's user. */
const user = z.string().max(256).optional();
const cwd = z.string().min(1).max(4096);

/** Worker to guest. `env` comes on top of the image's environment. */
export const workerCommandMessages = [
  /** `stdin` absent: none, the command reads the end of the file at once. */
  z.object({
    type: z.literal("exec.start"),
    exec_id: id,
    argv,
    cwd,
    env,
    user,
    stdin: z.enum(["none", "pipe"]).optional(),
  }),
  z.object({ type: z.literal("exec.stdin"), exec_id: id, data: chunk }),
  z.object({ type: z.literal("exec.stdin_close"), exec_id: id }),
  z.object({
    type: z.literal("exec.output_credit"),
    exec_id: id,
    stream: outputStream,
    bytes: byteCount,
  }),
  /** To the command's process group. */
  z.object({ type: z.literal("exec.signal"), exec_id: id, signal }),
  /** `argv` absent: the login shell of the user in /etc/passwd, else /bin/bash, else /bin/sh. */
  z.object({
    type: z.literal("pty.start"),
    pty_id: id,
    cols: size,
    rows: size,
    cwd,
    env,
    user,
    argv: argv.optional(),
  }),
  z.object({ type: z.literal("pty.input"), pty_id: id, data: chunk }),
  z.object({ type: z.literal("pty.resize"), pty_id: id, cols: size, rows: size }),
  z.object({ type: z.literal("pty.output_credit"), pty_id: id, bytes: byteCount }),
  /** SIGHUP to the processes of the terminal's session, SIGKILL to those that are left after a grace. */
  z.object({ type: z.literal("pty.close"), pty_id: id }),
] as const;

const errorText = z.string().max(limits.errorTextBytes + 64);
/** How a process ended: `code` or `signal`; or `error`, when it could not be started. */
const end = {
  code: z.int32().optional(),
  signal: signal.optional(),
  error: errorText.optional(),
};

/** Guest to worker. */
export const guestCommandMessages = [
  z.object({ type: z.literal("exec.started"), exec_id: id, pid }),
  z.object({ type: z.literal("exec.output"), exec_id: id, stream: outputStream, data: chunk }),
  z.object({ type: z.literal("exec.stdin_consumed"), exec_id: id, bytes: byteCount }),
  z.object({ type: z.literal("exec.exited"), exec_id: id, ...end }),
  z.object({ type: z.literal("pty.opened"), pty_id: id, pid }),
  z.object({ type: z.literal("pty.output"), pty_id: id, data: chunk }),
  z.object({ type: z.literal("pty.input_consumed"), pty_id: id, bytes: byteCount }),
  z.object({ type: z.literal("pty.resized"), pty_id: id, cols: size, rows: size }),
  z.object({ type: z.literal("pty.closed"), pty_id: id, ...end }),
] as const;
