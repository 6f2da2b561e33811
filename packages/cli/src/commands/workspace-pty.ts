/** `helmr workspace shell` and `helmr workspace pty`: terminals in a workspace. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import type { WorkspacePty } from "../client/wire.ts";
import { declare } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { CliError, exitCodes } from "../errors.ts";
import { note, writeFields, writeJson, writeTable } from "../output.ts";
import { integer } from "../values.ts";
import { exampleWorkspace, ofWorkspace, workspacePath } from "../workspace/address.ts";
import { errorText } from "../workspace/byte-stream.ts";
import { type DetachKey, detachKey } from "../workspace/detach-key.ts";
import { repeated } from "../workspace/repeat.ts";
import { requireTerminal, runTerminal } from "../workspace/terminal.ts";
import { ownSize } from "../workspace/terminal-size.ts";

const examplePty = "01990000-0000-7000-8000-000000000005";
const usualScrollbackBytes = 256 * 1024;
const openPollMs = 50;

export function registerWorkspacePty(workspace: Command): void {
  const shell = withDetachKey(
    ofWorkspace(workspace, "shell [command...]", "Open a terminal in a workspace", [
      `helmr workspace shell ${exampleWorkspace}`,
      `helmr workspace shell ${exampleWorkspace} -- vim notes.md`,
    ]),
  )
    .option("-C, --cwd <path>", "working folder, absolute (default: the workspace)")
    .action(openShell);
  shell.addHelpText(
    "after",
    `
Every key goes to the terminal there, Ctrl-C included; only the detach key leaves it. A lost connection is taken up again
where it was. A command after -- is typed into the shell, which it replaces. With --json the terminal's record is printed
when it is left.`,
  );
  const group = declare(workspace, "pty", "Look at terminals and go back to them", [
    `helmr workspace pty connect ${exampleWorkspace} ${examplePty}`,
  ]);
  ofWorkspace(group, "list", "List terminals, newest first", [
    `helmr workspace pty list ${exampleWorkspace} --state open`,
  ])
    .option("--state <state>", "creating, open, resizing, closing, closed, lost or failed")
    .option("--limit <n>", "at most this many", integer(1, 200))
    .action(list);
  const one = (name: string, summary: string): Command =>
    ofWorkspace(group, `${name} <pty>`, summary, [
      `helmr workspace pty ${name} ${exampleWorkspace} ${examplePty}`,
    ]);
  one("get", "Show one terminal").action(get);
  withDetachKey(one("connect", "Go back to a terminal that was left"))
    .option(
      "--scrollback <bytes>",
      "show again at most this much of what it has written",
      integer(0, 64 * 1024 * 1024),
      usualScrollbackBytes,
    )
    .action(connect);
  one("close", "End a terminal and what runs in it").action(close);
}

function withDetachKey(command: Command): Command {
  return command.option(
    "--detach-key <key>",
    "leaves the terminal and lets it run: ctrl-] or another, or none",
    detachKey,
    detachKey("ctrl-]"),
  );
}

interface TerminalOptions extends EnvironmentOptions {
  readonly detachKey: DetachKey;
}

const openShell = async (
  name: string,
  command: string[],
  options: TerminalOptions & { cwd?: string },
): Promise<void> => {
  requireTerminal();
  await withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const body = { cwd: options.cwd, ...ownSize(), idempotency_key: randomUUID() };
    const { pty } = await repeated(api, () =>
      api.send("POST", `${path}/pty`, { body, schema: "createdPty" }),
    );
    const ptyPath = `${path}/pty/${pty.id}`;
    const opened = await waitUntilOpen(api, ptyPath, pty);
    const typed = command.length === 0 ? {} : { typed: ` exec ${command.map(quoted).join(" ")}\r` };
    await inTerminal(api, { name, path: ptyPath, pty: opened, from: 0, shownUntil: 0, ...typed }, options);
  });
};

const connect = async (
  name: string,
  id: string,
  options: TerminalOptions & { scrollback: number },
): Promise<void> => {
  requireTerminal();
  await withApi(options, async (api) => {
    const path = ptyPathOf(await workspacePath(api, name), id);
    const { pty } = await api.get(path, { schema: "ptyEnvelope" });
    const opened = await waitUntilOpen(api, path, pty);
    const shownUntil = opened.output_cursor;
    const from = Math.max(0, shownUntil - options.scrollback);
    await inTerminal(api, { name, path, pty: opened, from, shownUntil }, options);
  });
};

interface Shown {
  /** Of the workspace, as it was given. */
  readonly name: string;
  readonly path: string;
  readonly pty: WorkspacePty;
  readonly from: number;
  readonly shownUntil: number;
  readonly typed?: string;
}

async function inTerminal(api: ApiClient, shown: Shown, options: TerminalOptions): Promise<void> {
  const { name, path, pty } = shown;
  const key = options.detachKey;
  note(
    key.sequences.length === 0
      ? `terminal ${pty.id}`
      : `terminal ${pty.id}; ${key.name} leaves it and lets it run`,
  );
  const end = await runTerminal({ api, ...shown, key });
  if (end === "detached") note(`\r\nleft; back with \`helmr workspace pty connect ${name} ${pty.id}\``);
  if (options.json) await writeJson(await api.get(path, { schema: "ptyEnvelope" }));
  if (end !== "detached" && end.state !== "closed") throw notOpen(end.state, end.error);
}

async function waitUntilOpen(api: ApiClient, path: string, first: WorkspacePty): Promise<WorkspacePty> {
  let pty = first;
  while (pty.state === "creating") {
    await sleep(openPollMs, undefined, { signal: api.signal });
    pty = (await repeated(api, () => api.get(path, { schema: "ptyEnvelope" }))).pty;
  }
  if (pty.state === "open" || pty.state === "resizing") return pty;
  throw notOpen(pty.state, errorText(pty.error));
}

function notOpen(state: string, error: string | undefined): CliError {
  const reason = error ?? (state === "lost" ? "its worker is gone" : undefined);
  return new CliError(`the terminal is ${state}${reason === undefined ? "" : `: ${reason}`}`, {
    exitCode: exitCodes.notRun,
  });
}

const list = (
  name: string,
  options: EnvironmentOptions & { state?: string; limit?: number },
): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const query = { state: options.state, limit: options.limit };
    const answer = await api.get(`${path}/pty`, { query, schema: "ptyList" });
    if (options.json) return writeJson(answer);
    await writeTable<WorkspacePty>(
      [
        { header: "PTY", value: (row) => row.id },
        { header: "STATE", value: (row) => row.state },
        { header: "SIZE", value: (row) => `${row.cols}x${row.rows}` },
        { header: "CREATED", value: (row) => row.created_at },
        { header: "CLOSED", value: (row) => row.closed_at },
      ],
      answer.ptys,
    );
  });

const get = (name: string, id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get(ptyPathOf(await workspacePath(api, name), id), { schema: "ptyEnvelope" });
    if (options.json) return writeJson(answer);
    const { pty } = answer;
    await writeFields([
      ["pty", pty.id],
      ["folder", pty.cwd],
      ["state", pty.state],
      ["size", `${pty.cols}x${pty.rows}`],
      ["error", errorText(pty.error)],
      ["output bytes", pty.output_cursor],
      ["input bytes", pty.input_cursor],
      ["created", pty.created_at],
      ["started", pty.started_at],
      ["closed", pty.closed_at],
    ]);
  });

const close = (name: string, id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const path = ptyPathOf(await workspacePath(api, name), id);
    const answer = await api.send("POST", `${path}/close`, { body: {}, schema: "ptyEnvelope" });
    if (options.json) return writeJson(answer);
    note(`terminal ${id} is ${answer.pty.state}`);
  });

const ptyPathOf = (path: string, id: string): string => `${path}/pty/${encodeURIComponent(id)}`;

/** A word of a POSIX shell. */
function quoted(word: string): string {
  return /^[\w./:@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
