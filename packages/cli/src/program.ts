/**
 * The command line: which groups there are, how one is loaded, how an error ends the process.
 *
 * Only the group that the first argument names is loaded; help and completion load all.
 */
import { Command, CommanderError } from "commander";
import { CliError, exitCodes, messageOf } from "./errors.ts";
import { note, paint, plainLines } from "./output.ts";
import { cliVersion } from "./version.ts";

type Register = (program: Command) => void;

/** In the order of the help. */
const groups: Readonly<Record<string, () => Promise<{ register: Register }>>> = {
  dev: () => import("./commands/dev.ts"),
  login: () => import("./commands/login.ts"),
  logout: () => import("./commands/logout.ts"),
  whoami: () => import("./commands/whoami.ts"),
  host: () => import("./commands/host.ts"),
  init: () => import("./commands/init.ts"),
  deploy: () => import("./commands/deploy.ts"),
  task: () => import("./commands/task.ts"),
  session: () => import("./commands/session.ts"),
  run: () => import("./commands/run.ts"),
  workspace: () => import("./commands/workspace.ts"),
  token: () => import("./commands/token.ts"),
  schedule: () => import("./commands/schedule.ts"),
  queue: () => import("./commands/queue.ts"),
  deployment: () => import("./commands/deployment.ts"),
  sandbox: () => import("./commands/sandbox.ts"),
  secret: () => import("./commands/secret.ts"),
  project: () => import("./commands/project.ts"),
  env: () => import("./commands/env.ts"),
  "api-key": () => import("./commands/api-key.ts"),
  member: () => import("./commands/member.ts"),
  invitation: () => import("./commands/invitation.ts"),
  org: () => import("./commands/org.ts"),
  worker: () => import("./commands/worker.ts"),
  "worker-group": () => import("./commands/worker-group.ts"),
  audit: () => import("./commands/audit.ts"),
  completion: () => import("./commands/completion.ts"),
  version: () => import("./commands/version.ts"),
};

/** The program with the groups given by name; all of them by default. */
export async function createProgram(names: readonly string[] = Object.keys(groups)): Promise<Command> {
  const program = new Command("helmr")
    .description("Deploy tasks, run them in isolated sandboxes, watch them and read their results.")
    .version(cliVersion, "-V, --version", "print the version")
    .helpCommand("help [command]", "show the help of a command")
    .helpOption("-h, --help", "show help")
    // `--version` behind a command is that command's own.
    .enablePositionalOptions()
    .showHelpAfterError("hint: add --help to see the options and an example")
    .configureHelp({ showGlobalOptions: false })
    .addHelpText("after", overview)
    .exitOverride();
  for (const name of names) {
    const load = groups[name];
    if (load !== undefined) (await load()).register(program);
  }
  return program;
}

/** Run one command line; resolves to the exit code (errors.ts). */
export async function run(argv: readonly string[]): Promise<number> {
  const [first] = argv;
  try {
    const program = await createProgram(first !== undefined && first in groups ? [first] : undefined);
    if (first === "complete") (await import("./completion.ts")).attachCompletion(program);
    await program.parseAsync(argv, { from: "user" });
    return Number(process.exitCode ?? exitCodes.ok);
  } catch (error) {
    return report(error);
  }
}

/** Say an error on stderr, with its hint; returns the exit code. */
function report(error: unknown): number {
  // Commander has printed its own message, or the help, already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  note(`${paint("red", "error:", process.stderr)} ${plainLines(messageOf(error))}`);
  if (error instanceof CliError) {
    if (error.hint !== undefined) note(`hint: ${error.hint}`);
    return error.exitCode;
  }
  if (process.env.HELMR_DEBUG && error instanceof Error) note(error.stack ?? "");
  else note("hint: set HELMR_DEBUG=1 to see where this comes from");
  return exitCodes.failed;
}

const overview = `
Start here:
  $ helmr dev                     a complete server on this machine
  $ helmr init my-project         a first task
  $ helmr deploy my-project
  $ helmr session start hello --payload '{"name":"Ada"}' --follow

Environment: HELMR_API_URL, HELMR_API_KEY, HELMR_PROJECT, HELMR_ENVIRONMENT, NO_COLOR, HELMR_DEBUG.
Exit codes: 0 done (a run waited for: succeeded), 1 failed, 2 usage, 3 not found, 4 not allowed, 5 run cancelled,
6 run expired, 7 server unreachable, 8 request refused, 124 wait timed out, 125 command in a workspace not run, 130
interrupted; \`helmr workspace exec\` ends as its command does.`;
