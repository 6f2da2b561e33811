/** `helmr workspace exec`: commands in a workspace, in the foreground or on their own. */
import { randomUUID } from "node:crypto";
import { type Command, InvalidArgumentError } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import type { WorkspaceExec } from "../client/wire.ts";
import { type EnvironmentOptions, environmentApi, interruptible, withApi } from "../context.ts";
import { type CliError, usageError } from "../errors.ts";
import { note, writeFields, writeJson, writeStdout, writeTable } from "../output.ts";
import { repeated as collected, integer } from "../values.ts";
import { exampleWorkspace, ofWorkspace, workspacePath } from "../workspace/address.ts";
import { errorText } from "../workspace/byte-stream.ts";
import { writeExecLogs } from "../workspace/exec-logs.ts";
import { closeStdin, exitCodeOf, type Foreground, runForeground } from "../workspace/foreground.ts";
import { repeated } from "../workspace/repeat.ts";

const exampleExec = "01990000-0000-7000-8000-000000000004";
const signals = ["HUP", "INT", "QUIT", "KILL", "TERM", "USR1", "USR2", "STOP", "CONT"];

export function registerWorkspaceExec(workspace: Command): void {
  const group = ofWorkspace(
    workspace,
    "exec [command...]",
    "Run a command in a workspace as if it ran here",
    [
      `helmr workspace exec ${exampleWorkspace} -- npm test`,
      `tar c . | helmr workspace exec ${exampleWorkspace} -- tar x`,
      `helmr workspace exec ${exampleWorkspace} --detach -- npm run dev`,
    ],
  )
    .option("-C, --cwd <path>", "working folder, absolute (default: the workspace)")
    .option("-e, --var <name=value>", "environment variable, may be given several times", collected)
    .option("-d, --detach", "print the command's id and leave it running")
    .option("-n, --no-stdin", "the command reads nothing from here")
    .enablePositionalOptions()
    .action(exec);
  group.addHelpText(
    "after",
    `
Everything after -- is the program and its arguments; for a shell say: -- sh -c '…'.
Ctrl-C goes to the command; a second one kills it, a third one leaves. The exit code is the command's own, 128 + n when
signal n ended it, 125 when it could not be run or was lost. With --json its output is not shown, its record is.`,
  );
  ofWorkspace(group, "list", "List commands, newest first", [
    `helmr workspace exec list ${exampleWorkspace} --state running`,
  ])
    .option("--state <state>", "queued, materializing, running, exited, terminated, lost or failed")
    .option("--limit <n>", "at most this many", integer(1, 200))
    .action(list);
  const one = (name: string, summary: string, examples: readonly string[]): Command =>
    ofWorkspace(group, `${name} <exec>`, summary, examples);
  const example = (name: string, more = ""): string[] => [
    `helmr workspace exec ${name} ${exampleWorkspace} ${exampleExec}${more}`,
  ];
  one("get", "Show one command", example("get")).action(get);
  one("logs", "Print what a command wrote, byte for byte", example("logs", " --follow"))
    .option("-f, --follow", "go on until the command has ended")
    .action(logs);
  one("kill", "Signal a command and what it started", example("kill", " --signal INT"))
    .option("-s, --signal <name>", signals.join(", "), signalName, "SIGTERM")
    .action(kill);
  one("attach", "Go on with a command as if it had been started here", example("attach"))
    .option("--from-start", "with everything it has written before")
    .option("-n, --no-stdin", "leave the command's stdin alone")
    .action(attach);
}

interface ExecOptions extends EnvironmentOptions {
  readonly cwd?: string;
  readonly var?: string[];
  readonly detach?: boolean;
  readonly stdin: boolean;
}

const exec = async (name: string, command: string[], options: ExecOptions): Promise<void> => {
  if (command.length === 0) {
    throw usageError(
      "there is no command",
      `put it after --: helmr workspace exec ${exampleWorkspace} -- ls -l`,
    );
  }
  const body = {
    command,
    cwd: options.cwd,
    env: options.var === undefined ? undefined : variables(options.var),
    detached: options.detach,
    idempotency_key: randomUUID(),
  };
  const begin = async (api: ApiClient, path: string): Promise<WorkspaceExec> =>
    (await repeated(api, () => api.send("POST", `${path}/execs`, { body, schema: "createdExec" }))).exec;
  if (!options.detach) {
    return inForeground(options, async (api) => {
      const path = await workspacePath(api, name);
      const started = await begin(api, path);
      const stdin = options.stdin ? "forward" : "close";
      return { path, exec: started, cursors: { stdout: 0, stderr: 0 }, stdin };
    });
  }
  await withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const started = await begin(api, path);
    await closeStdin(api, execPath(path, started.id));
    if (options.json) return writeJson({ exec: started });
    await writeStdout(`${started.id}\n`);
    note(`hint: \`helmr workspace exec logs ${name} ${started.id} --follow\` shows what it writes`);
  });
};

type Prepared = Pick<Foreground, "path" | "exec" | "cursors" | "stdin">;

/** Runs to the command's end with its signals, and ends the process as it did. */
async function inForeground(
  options: EnvironmentOptions,
  prepare: (api: ApiClient) => Promise<Prepared>,
): Promise<void> {
  const leaving = new AbortController();
  // Until the command is there an interrupt just ends the waiting.
  const api = await environmentApi(options, leaving.signal);
  const prepared = await interruptible(async (signal) => {
    const abort = (): void => leaving.abort(signal.reason);
    signal.addEventListener("abort", abort);
    try {
      return await prepare(api);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  });
  const leave = (why: CliError): void => leaving.abort(why);
  try {
    const ended = await runForeground({ api, ...prepared, isQuiet: options.json === true, leave });
    if (options.json) await writeJson({ exec: ended });
    process.exitCode = exitCodeOf(ended);
  } catch (error) {
    throw leaving.signal.aborted ? leaving.signal.reason : error;
  }
}

const attach = (
  name: string,
  id: string,
  options: EnvironmentOptions & { fromStart?: boolean; stdin: boolean },
): Promise<void> =>
  inForeground(options, async (api) => {
    const path = await workspacePath(api, name);
    const { exec: found } = await api.get(execPath(path, id), { schema: "execEnvelope" });
    const cursors = options.fromStart
      ? { stdout: 0, stderr: 0 }
      : { stdout: found.stdout_cursor, stderr: found.stderr_cursor };
    return { path, exec: found, cursors, stdin: options.stdin ? "forward" : "leave" };
  });

const list = (
  name: string,
  options: EnvironmentOptions & { state?: string; limit?: number },
): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const query = { state: options.state, limit: options.limit };
    const answer = await api.get(`${path}/execs`, { query, schema: "execList" });
    if (options.json) return writeJson(answer);
    await writeTable<WorkspaceExec>(
      [
        { header: "EXEC", value: (row) => row.id },
        { header: "STATE", value: (row) => row.state },
        { header: "ENDED WITH", value: (row) => row.exit_code ?? row.signal },
        { header: "CREATED", value: (row) => row.created_at },
        { header: "COMMAND", value: (row) => row.command.join(" ") },
      ],
      answer.execs,
    );
  });

const get = (name: string, id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const answer = await api.get(execPath(path, id), { schema: "execEnvelope" });
    if (options.json) return writeJson(answer);
    await writeExec(answer.exec);
  });

const logs = (name: string, id: string, options: EnvironmentOptions & { follow?: boolean }): Promise<void> =>
  withApi(options, async (api) => {
    const path = execPath(await workspacePath(api, name), id);
    const { exec: found } = await api.get(path, { schema: "execEnvelope" });
    await writeExecLogs(api, path, found, { follow: options.follow === true, json: options.json === true });
  });

const kill = (name: string, id: string, options: EnvironmentOptions & { signal: string }): Promise<void> =>
  withApi(options, async (api) => {
    const path = execPath(await workspacePath(api, name), id);
    const body = { signal: options.signal };
    const answer = await api.send("POST", `${path}/kill`, { body, schema: "execEnvelope" });
    if (options.json) return writeJson(answer);
    note(`${options.signal} is sent to ${id}`);
  });

const execPath = (path: string, id: string): string => `${path}/execs/${encodeURIComponent(id)}`;

function writeExec(found: WorkspaceExec): Promise<void> {
  return writeFields([
    ["exec", found.id],
    ["command", JSON.stringify(found.command)],
    ["folder", found.cwd],
    ["variables", found.env_shape === undefined ? undefined : Object.keys(found.env_shape).join(", ")],
    ["state", found.state],
    ["exit code", found.exit_code],
    ["signal", found.signal],
    ["error", errorText(found.error)],
    ["detached", found.detached ? "yes" : undefined],
    ["stdout bytes", found.stdout_cursor],
    ["stderr bytes", found.stderr_cursor],
    ["stdin bytes", found.stdin_cursor],
    ["stdin closed", found.stdin_closed_at],
    ["created", found.created_at],
    ["started", found.started_at],
    ["ended", found.exited_at],
  ]);
}

function variables(given: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    given.map((text) => {
      const at = text.indexOf("=");
      if (at < 1) throw new InvalidArgumentError(`--var ${text}: Use NAME=value.`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

function signalName(text: string): string {
  const name = text.toUpperCase().replace(/^SIG/, "");
  if (!signals.includes(name)) throw new InvalidArgumentError(`Use one of ${signals.join(", ")}.`);
  return `SIG${name}`;
}
