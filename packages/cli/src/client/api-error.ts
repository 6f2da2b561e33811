/** Answers that are errors, as messages with an exit code and a hint. */
import { CliError, type ExitCode, exitCodes, messageOf } from "../errors.ts";

/** Nothing answered at `url`. */
export function unreachable(url: string, cause: unknown): CliError {
  const timedOut = cause instanceof Error && cause.name === "TimeoutError";
  return new CliError(
    timedOut ? `no answer from ${url} in time` : `cannot reach ${url}: ${messageOf(cause)}`,
    {
      exitCode: exitCodes.unavailable,
      hint: "start a server with `helmr dev`, or name one with --api-url or HELMR_API_URL",
      cause,
    },
  );
}

/** The error an answer with a status other than 2xx stands for; reads its body. The answer is the error's `cause`. */
export async function responseError(response: Response): Promise<CliError> {
  const { message, code } = parseBody(await response.text().catch(() => ""));
  const text = message ?? `the server answered ${response.status} ${response.statusText}`.trim();
  return new CliError(code === undefined ? text : `${text} (${code})`, {
    exitCode: exitCodeOf(response.status),
    hint: (code === undefined ? undefined : codeHints[code]) ?? statusHints[response.status],
    ...(code === undefined ? {} : { code }),
    cause: response,
  });
}

function parseBody(body: string): { message?: string; code?: string } {
  try {
    const { error, code } = JSON.parse(body) as { error?: unknown; code?: unknown };
    return {
      ...(typeof error === "string" && error !== "" ? { message: error } : {}),
      ...(typeof code === "string" ? { code } : {}),
    };
  } catch {
    return {};
  }
}

function exitCodeOf(status: number): ExitCode {
  if (status === 401 || status === 403) return exitCodes.auth;
  if (status === 404) return exitCodes.notFound;
  if (status === 408 || status === 429 || status >= 500) return exitCodes.unavailable;
  return exitCodes.refused;
}

const statusHints: Readonly<Record<number, string>> = {
  400: "`helmr <command> --help` shows an example",
  401: "check HELMR_API_KEY, sign in again with `helmr login`, or start `helmr dev` again to save fresh credentials",
  403: "`helmr whoami` shows what you may do; an API key may do what its scopes and its creator's role allow",
  404: "check the name or id; only the records of one environment or organization are seen",
  413: "send less in one request; the limit is 128 MiB",
  429: "wait a little, then try again",
  500: "the server's log says more",
  502: "try again in a moment",
  503: "try again in a moment",
};

const codeHints: Readonly<Record<string, string>> = {
  task_not_deployed: "`helmr task list` shows what is deployed; `helmr deploy` deploys",
  task_archived: "`helmr deploy` a source that contains the task",
  sandbox_not_deployed: "`helmr sandbox list` shows what is deployed",
  session_terminal: "start a new session",
  session_expired: "start a new session",
  session_fingerprint_mismatch: "the external id belongs to a session with other options: use another one",
  idempotency_fingerprint_mismatch: "the idempotency key was used with other options: use another one",
  idempotency_external_id_mismatch: "the idempotency key belongs to a session with another external id",
  idempotency_pending: "the same start is under way elsewhere: try again in a moment",
  close_run_active: "wait for the run with `helmr run wait`, or cancel with `helmr session cancel`",
  workspace_writer_active:
    "one command or terminal at a time: `helmr workspace exec list` and `helmr workspace pty list` show which",
  workspace_in_use:
    "`helmr workspace stop <workspace>` saves and ends its live copy; a run has to end, or `helmr run cancel <run>`",
  workspace_not_active:
    "`helmr workspace get <workspace>` shows its state; `helmr workspace fork` makes a usable copy",
  workspace_not_live:
    "leave --live out to read the saved files, or `helmr workspace materialize <workspace> --wait`",
  workspace_sandbox_incompatible: "use a workspace made from the task's sandbox, or leave --workspace-id out",
};
