/** Running host tools (`ip`, `nft`, `mount`, ...) with a time limit, a clean environment and errors that name the tool. */
import { execa } from "execa";
import { IsolationError, type IsolationLayer } from "../errors.ts";

export interface HostCommandOptions {
  readonly layer: IsolationLayer;
  /** Text for stdin. */
  readonly input?: string;
  readonly cwd?: string;
  /** Default 10 000 ms: every tool used here answers in under 100 ms on an idle host. */
  readonly timeoutMs?: number;
}

/** Only what the tools need: nothing of the worker's environment (credentials) reaches a child process. */
export const toolEnvironment: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C",
};

/** Run a tool; resolves with its stdout, rejects with an IsolationError that carries its stderr. */
export async function hostCommand(
  command: string,
  args: readonly string[],
  options: HostCommandOptions,
): Promise<string> {
  const result = await tryHostCommand(command, args, options);
  if (result.ok) return result.stdout;
  throw new IsolationError(options.layer, `${command} ${args.join(" ")} failed: ${result.detail}`);
}

export type HostCommandResult =
  | { readonly ok: true; readonly stdout: string; readonly stderr: string }
  | { readonly ok: false; readonly detail: string };

/** As hostCommand, with the failure as a value. */
export async function tryHostCommand(
  command: string,
  args: readonly string[],
  options: HostCommandOptions,
): Promise<HostCommandResult> {
  const result = await execa(command, [...args], {
    reject: false,
    env: toolEnvironment,
    extendEnv: false,
    timeout: options.timeoutMs ?? 10_000,
    killSignal: "SIGKILL",
    maxBuffer: 4 << 20,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
  });
  if (!result.failed) return { ok: true, stdout: result.stdout ?? "", stderr: result.stderr ?? "" };
  const detail = result.stderr?.trim() || result.shortMessage || "no output";
  return { ok: false, detail: detail.slice(0, 2000) };
}
