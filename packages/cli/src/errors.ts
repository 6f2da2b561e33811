/**
 * Errors a person reads, and the exit code each ends the command with.
 *
 *   code  meaning
 *   0     done; where a command waits for a run: the run succeeded
 *   1     the run or the deployment failed, or something unexpected happened
 *   2     wrong usage: options, arguments, files that cannot be read
 *   3     what was asked for does not exist
 *   4     no credential, a wrong one, or one without the permission
 *   5     the run was cancelled
 *   6     the run expired in its queue
 *   7     the server cannot be reached or cannot answer
 *   8     the server refused the request: invalid, in conflict, gone, too large
 *   124   a wait reached its `--timeout`
 *   125   a command or terminal in a workspace could not be started, or was lost (docker's number for it)
 *   130   interrupted (128 + the signal's number: 143 for SIGTERM)
 *
 * `helmr workspace exec` ends as the command did: with its own code, or 128 + the number of the signal that ended it.
 */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  auth: 4,
  cancelled: 5,
  expired: 6,
  unavailable: 7,
  refused: 8,
  timedOut: 124,
  notRun: 125,
  hungUp: 129,
  interrupted: 130,
  terminated: 143,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** An error with its exit code and, in `hint`, what to do next. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exitCode: ExitCode;
  readonly hint: string | undefined;
  /** The machine code of the server's refusal. */
  readonly code: string | undefined;

  constructor(
    message: string,
    options: { exitCode?: ExitCode; hint?: string | undefined; code?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? exitCodes.failed;
    this.hint = options.hint;
    this.code = options.code;
  }
}

/** Wrong usage that only shows after the options are parsed. */
export function usageError(message: string, hint?: string): CliError {
  return new CliError(message, { exitCode: exitCodes.usage, hint });
}

/** The text of anything that was thrown, with the innermost cause where it says more (`fetch failed`). */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? messageOf(error.cause) : "";
  return cause === "" || error.message.includes(cause) ? error.message : `${error.message}: ${cause}`;
}
