/**
 * A terminal in a workspace on this one: every key goes there, everything it shows comes here.
 *
 * T1  this terminal is raw meanwhile, and as it was before on every way out of the process but SIGKILL;
 * T2  a lost connection loses and doubles nothing, keys included; the detach key works without one;
 * T3  what was shown before is shown again without the questions in it (terminal-modes.ts).
 *
 *   it ends by                         the process ends with
 *   the terminal's own end             0; 125 when it was lost or could not be opened
 *   the detach key                     0; the terminal goes on
 *   SIGINT, SIGTERM, SIGHUP            130, 143, 129; the terminal goes on
 */
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { ApiClient } from "../client/api-client.ts";
import type { WorkspacePty } from "../client/wire.ts";
import { CliError, exitCodes, usageError } from "../errors.ts";
import { writeStdout } from "../output.ts";
import { followBytes, type StreamEnd } from "./byte-stream.ts";
import { beforeKey, type DetachKey } from "./detach-key.ts";
import { InputPump } from "./input-pump.ts";
import { fromWhole, TerminalModes, withoutQuestions } from "./terminal-modes.ts";
import { ownSize, Resizer } from "./terminal-size.ts";

export interface TerminalOptions {
  readonly api: ApiClient;
  /** Of the pty. */
  readonly path: string;
  /** It is open. */
  readonly pty: WorkspacePty;
  readonly key: DetachKey;
  /** Where in its output to begin. */
  readonly from: number;
  /** What comes before this was shown before (T3). */
  readonly shownUntil: number;
  /** Typed before anything else. */
  readonly typed?: string;
}

/** A lost connection that is back by then is not worth a line on the screen. */
const lostNoticeMs = 3000;
const leaveGraceMs = 300;

/** Throws exit code 2 where there is no terminal. */
export function requireTerminal(): void {
  if (process.stdin.isTTY && process.stdout.isTTY) return;
  throw usageError(
    "stdin and stdout are no terminal, and a shell needs one",
    "run a single command with `helmr workspace exec <workspace> -- <command>`",
  );
}

/** Shows the terminal until it has ended, or somebody pressed the detach key. */
export async function runTerminal(options: TerminalOptions): Promise<StreamEnd | "detached"> {
  const { path, pty, key } = options;
  const leaving = new AbortController();
  const api = options.api.until(leaving.signal);
  const ending = Promise.withResolvers<"detached">();
  ending.promise.catch(() => undefined);
  const pump = new InputPump({
    api,
    path: `${path}/input`,
    offset: pty.input_cursor,
    offsetNow: async () => (await api.get(path, { schema: "ptyEnvelope" })).pty.input_cursor,
    onFailed: ending.reject,
  });
  const resizer = new Resizer(api, path, ending.reject);
  const modes = new TerminalModes();
  const release = takeTerminal({
    onKeys: keyHandler(pump, key, () => ending.resolve("detached")),
    onResize: () => resizer.set(ownSize()),
    onHangup: () =>
      ending.reject(new CliError("the terminal was closed here", { exitCode: exitCodes.hungUp })),
    // T1: after the modes that the program there has switched on.
    atExit: () => modes.reset,
  });
  try {
    if (options.typed !== undefined) pump.push(Buffer.from(options.typed));
    await redraw(resizer, options);
    return await Promise.race([ending.promise, show({ ...options, api }, modes)]);
  } finally {
    leaving.abort();
    release();
  }
}

/** A program that has drawn before the first byte we show draws again when the size changes. */
async function redraw(resizer: Resizer, { from }: TerminalOptions): Promise<void> {
  const size = ownSize();
  if (from > 0) {
    resizer.set({ ...size, rows: Math.max(1, size.rows - 1) });
    await resizer.sent();
  }
  resizer.set(size);
}

async function show(
  { api, path, from, shownUntil, key }: TerminalOptions,
  modes: TerminalModes,
): Promise<StreamEnd> {
  let notice: NodeJS.Timeout | undefined;
  const leave = key.sequences.length === 0 ? "" : `; ${key.name} leaves`;
  const onLost = (): void => {
    notice ??= setTimeout(
      () => process.stderr.write(`\r\n[connection lost, trying again${leave}]\r\n`),
      lostNoticeMs,
    );
  };
  const onOpen = (): void => {
    clearTimeout(notice);
    notice = undefined;
  };
  const write = async (data: Buffer): Promise<void> => {
    modes.feed(data);
    await writeStdout(data);
  };
  const again: Buffer[] = [];
  const showAgain = async (): Promise<void> => {
    const all = Buffer.concat(again.splice(0));
    await write(withoutQuestions(from > 0 ? fromWhole(all) : all)); // T3
  };
  let at = from;
  try {
    const stream = followBytes({
      api,
      path: `${path}/output`,
      cursor: from,
      signal: api.signal,
      onLost,
      onOpen,
    });
    for (;;) {
      const { done, value } = await stream.next();
      if (done) {
        await showAgain();
        return value;
      }
      if (at >= shownUntil) await write(value.data);
      else again.push(value.data);
      const wasBefore = at < shownUntil;
      at = value.end;
      if (wasBefore && at >= shownUntil) await showAgain();
    }
  } finally {
    clearTimeout(notice);
  }
}

function keyHandler(pump: InputPump, key: DetachKey, onDetach: () => void): (typed: Buffer) => void {
  let isFull = false;
  return (typed) => {
    const before = beforeKey(typed, key);
    const bytes = before ?? typed;
    // More than a person types, and nobody takes it: the bell says that it is lost.
    if (isFull) process.stdout.write("\x07");
    else if (!pump.push(bytes)) {
      isFull = true;
      void pump.drained().then(() => {
        isFull = false;
      });
    }
    // T2: what was typed before it gets its chance, and no more.
    if (before !== undefined) void Promise.race([pump.drained(), sleep(leaveGraceMs)]).then(onDetach);
  };
}

interface Taken {
  readonly onKeys: (typed: Buffer) => void;
  readonly onResize: () => void;
  readonly onHangup: () => void;
  readonly atExit: () => string;
}

/** T1. Returns what gives the terminal back; also called when the process ends otherwise. */
function takeTerminal({ onKeys, onResize, onHangup, atExit }: Taken): () => void {
  const { stdin, stdout } = process;
  let isTaken = true;
  const release = (): void => {
    if (!isTaken) return;
    isTaken = false;
    stdin.off("data", onKeys).pause();
    stdout.off("resize", onResize);
    process.off("SIGHUP", onHangup).off("exit", release);
    try {
      stdin.setRawMode(false);
      stdout.write(atExit());
    } catch {
      // The terminal itself is gone: there is nothing to give back.
    }
  };
  process.once("exit", release).on("SIGHUP", onHangup);
  stdin.setRawMode(true);
  // Node's raw mode still turns each \n that is shown into \r\n; full-screen programs mean what they send. What is not there
  // (Windows) does not do so. `setRawMode(false)` takes it back.
  spawnSync("stty", ["-opost"], { stdio: ["inherit", "ignore", "ignore"] });
  stdin.on("data", onKeys).resume();
  stdout.on("resize", onResize);
  return release;
}
