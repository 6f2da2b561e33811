/**
 * A command in a workspace as if it ran here: its output, our stdin, our signals, its exit code.
 *
 *   SIGINT (Ctrl-C)   1st: SIGINT to the command; 2nd: SIGKILL to it; 3rd: we leave, it may still be there
 *   SIGTERM           1st: SIGTERM to the command; 2nd: we leave
 *   SIGHUP            SIGHUP to the command, and we leave
 *   our reader is gone (`| head`)   SIGTERM to the command, and we leave with 141, as a local command does
 */
import { constants } from "node:os";
import type { ApiClient } from "../client/api-client.ts";
import type { WorkspaceExec } from "../client/wire.ts";
import { CliError, exitCodes } from "../errors.ts";
import { note, surviveWithoutReader, writeStderr, writeStdout } from "../output.ts";
import { errorText, followBytes } from "./byte-stream.ts";
import { codeOf, InputPump } from "./input-pump.ts";
import { repeated } from "./repeat.ts";

export interface Foreground {
  readonly api: ApiClient;
  /** Of the workspace. */
  readonly path: string;
  readonly exec: WorkspaceExec;
  /** Of the output. */
  readonly cursors: { readonly stdout: number; readonly stderr: number };
  /** `close`: the command's stdin ends at once; `leave`: it stays as it is. */
  readonly stdin: "forward" | "close" | "leave";
  /** Its output goes nowhere: only its end counts. */
  readonly isQuiet: boolean;
  /** Ends everything that is waited for. */
  readonly leave: (why: CliError) => void;
}

/** The command once it has ended. Throws when it could not be run or was lost. */
export async function runForeground(foreground: Foreground): Promise<WorkspaceExec> {
  const { api, exec, cursors, isQuiet } = foreground;
  const restore = forwardSignals(foreground);
  const input = forwardStdin(foreground);
  try {
    await Promise.race([
      input.failed,
      Promise.all([
        copyOutput(foreground, "stdout", cursors.stdout, isQuiet ? undefined : writeStdout),
        copyOutput(foreground, "stderr", cursors.stderr, isQuiet ? undefined : writeStderr),
      ]),
    ]);
    const execPath = `${foreground.path}/execs/${exec.id}`;
    return (await repeated(api, () => api.get(execPath, { schema: "execEnvelope" }))).exec;
  } finally {
    input.stop();
    restore();
  }
}

async function copyOutput(
  { api, path, exec }: Foreground,
  name: "stdout" | "stderr",
  cursor: number,
  write: ((data: Uint8Array) => Promise<void>) | undefined,
): Promise<void> {
  const stream = { api, path: `${path}/execs/${exec.id}/${name}`, cursor, signal: api.signal };
  for await (const { data } of followBytes(stream)) await write?.(data);
}

/** What the process ends with. */
export function exitCodeOf(exec: WorkspaceExec): number {
  if (exec.state === "exited") return exec.exit_code ?? 0;
  if (exec.state === "terminated")
    return 128 + (constants.signals[exec.signal as NodeJS.Signals] ?? constants.signals.SIGKILL);
  throw new CliError(
    `the command ${exec.state === "lost" ? "was lost" : "could not be run"}: ${errorText(exec.error) ?? "its worker is gone"}`,
    {
      exitCode: exitCodes.notRun,
      hint: exec.state === "lost" ? "`helmr workspace get` shows what became of the files" : undefined,
    },
  );
}

/** Returns what takes the listeners away. */
function forwardSignals(foreground: Foreground): () => void {
  const { leave } = foreground;
  let interrupts = 0;
  let terminations = 0;
  const interrupted = (exitCode: 130 | 143): CliError =>
    new CliError("interrupted", {
      exitCode,
      hint: `the command may still run: \`helmr workspace exec kill ${foreground.exec.workspace_id} ${foreground.exec.id}\``,
    });
  const onInterrupt = (): void => {
    interrupts += 1;
    if (interrupts > 2) leave(interrupted(exitCodes.interrupted));
    else void kill(foreground, interrupts === 1 ? "SIGINT" : "SIGKILL");
  };
  const onTerminate = (): void => {
    terminations += 1;
    if (terminations > 1) leave(interrupted(exitCodes.terminated));
    else void kill(foreground, "SIGTERM");
  };
  const onHangup = (): void => {
    void kill(foreground, "SIGHUP").finally(() => process.exit(129));
  };
  let isGone = false;
  surviveWithoutReader(() => {
    if (isGone) return;
    isGone = true;
    void kill(foreground, "SIGTERM").finally(() => process.exit(141));
  });
  process.on("SIGINT", onInterrupt).on("SIGTERM", onTerminate).on("SIGHUP", onHangup);
  return () => {
    process.off("SIGINT", onInterrupt).off("SIGTERM", onTerminate).off("SIGHUP", onHangup);
  };
}

/** Says what stood in the way; a command that has ended already is no fault. */
async function kill({ api, path, exec }: Foreground, signal: string): Promise<void> {
  try {
    const body = { signal };
    await api.send("POST", `${path}/execs/${exec.id}/kill`, { body, schema: "execEnvelope" });
  } catch (error) {
    if (codeOf(error) !== "workspace_exec_terminal" && !api.signal.aborted)
      note(`${signal} did not reach the command: ${errorText(error)}`);
  }
}

/** A command that has ended already has no stdin to close. */
export async function closeStdin(api: ApiClient, execPath: string): Promise<void> {
  try {
    await repeated(api, () =>
      api.send("POST", `${execPath}/stdin/close`, { body: {}, schema: "execEnvelope" }),
    );
  } catch (error) {
    const code = codeOf(error);
    if (code !== "workspace_exec_terminal" && code !== "workspace_exec_stdin_closed") throw error;
  }
}

interface Forwarding {
  /** Rejects when the command's input cannot go on. */
  readonly failed: Promise<never>;
  stop(): void;
}

function forwardStdin(foreground: Foreground): Forwarding {
  const { api, path, exec } = foreground;
  const target = `${path}/execs/${exec.id}/stdin`;
  let fail: (error: unknown) => void = () => undefined;
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  failed.catch(() => undefined);
  const isOpen = exec.stdin_closed_at === undefined;
  if (foreground.stdin === "leave" || !isOpen) return { failed, stop: () => undefined };

  const close = (): Promise<void> => closeStdin(api, `${path}/execs/${exec.id}`);
  if (foreground.stdin === "close") {
    close().catch(fail);
    return { failed, stop: () => undefined };
  }
  const pump = new InputPump({ api, path: target, offset: exec.stdin_cursor, onFailed: fail });
  const { stdin } = process;
  const onData = (data: Buffer): void => {
    if (pump.push(data)) return;
    stdin.pause();
    void pump.drained().then(() => stdin.resume());
  };
  const onEnd = (): void => {
    pump.drained().then(close).catch(fail);
  };
  stdin.on("data", onData).once("end", onEnd).once("error", onEnd);
  return {
    failed,
    stop() {
      stdin
        .off("data", onData)
        .off("end", onEnd)
        .off("error", onEnd)
        .on("error", () => undefined);
      stdin.destroy();
    },
  };
}
