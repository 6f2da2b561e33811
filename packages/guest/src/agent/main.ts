/**
 * The agent: first process of a guest (or the only child of PID 1, see `agentArgv`), running as root.
 *
 * Order matters for the start time: the task host is started before anything large is loaded, so that both processes
 * come up side by side (docs/decisions/0003).
 *
 * Exit codes: 70 the task host failed, 71 the image's node is too old, 72 the image has no such user, 73 the worker broke
 * the protocol. The reason is on stderr; stdout carries frames only.
 */
import { Socket } from "node:net";
import { join } from "node:path";
import type { GuestMessage, WorkerMessage } from "@helmr/guest-protocol";
import { agentVariables, imageEnvironment } from "./environment.ts";
import { type GuestProcess, startProcess } from "./task-process.ts";
import { type GuestUser, resolveUser } from "./users.ts";

const minimumNode = [22, 18] as const;
const helmrFolder = import.meta.dirname;

function fatal(code: number, message: string): never {
  process.stderr.write(`helmr agent: ${message}\n`);
  process.exit(code);
}

function checkNode(): void {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > minimumNode[0] || (major === minimumNode[0] && minor >= minimumNode[1])) return;
  fatal(
    71,
    `The image's node is ${process.versions.node}; tasks need ${minimumNode.join(".")} or later. ` +
      'Start the image from a newer one, such as image("...").from("node:24-bookworm-slim").',
  );
}

function taskUser(): GuestUser | undefined {
  const spec = process.env[agentVariables.taskUser];
  if (spec === undefined || spec === "") return undefined;
  try {
    return resolveUser(spec);
  } catch (error) {
    return fatal(72, (error as Error).message);
  }
}

/** Whatever a library prints must not end up between frames. */
function keepStdoutForFrames(): void {
  Object.defineProperty(process, "stdout", { value: process.stderr });
  globalThis.console = new console.Console(process.stderr, process.stderr);
}

function warmSchemas(): void {
  const run = { id: "", attempt_id: "", attempt_number: 1, run_lease_id: "" };
  const task = { id: "", file_path: "", export_name: "" };
  const rest = {
    session_id: "",
    payload_json: "",
    metadata_json: "",
    env: {},
    secrets: [],
    workspace_path: "",
  };
  const message = workerMessage.parse({ type: "run.start", run, task, ...rest, source_root: "" });
  decodeBody(encodeFrame({ frame: "data", seq: 1, message }).subarray(4));
}

checkNode();
keepStdoutForFrames();
const user = taskUser();
const env = imageEnvironment(process.env, user);
const startHost = (hostEnv: Readonly<Record<string, string>>): GuestProcess =>
  startProcess({
    argv: [process.execPath, join(helmrFolder, "task-host.mjs")],
    cwd: process.cwd(),
    env: hostEnv,
    user,
  });
const host = process.env[agentVariables.taskHost] === "0" ? undefined : startHost(env);

const { decodeBody, encodeFrame, ReliableLink, workerMessage } = await import("@helmr/guest-protocol");
const { AgentSession } = await import("./session.ts");
const link = new ReliableLink<GuestMessage, WorkerMessage>({
  side: "guest",
  incomingSchema: workerMessage,
  onMessage: (message) => session.handle(message),
  onProtocolError: (error) => fatal(73, error.message),
  // Without a worker nobody ends this guest; a restore attaches before the stream is read again.
  onDetach: () => fatal(73, "the worker closed the stream"),
});
const session = new AgentSession({
  link,
  host,
  startHost,
  user,
  env,
  helmrFolder,
  fatal: (message) => fatal(73, message),
});
// Sockets, not process.stdin and process.stdout: writes to a pipe through the latter block the agent.
link.attach(new Socket({ fd: 0, writable: false }), new Socket({ fd: 1, readable: false }));
// While the task host comes up: the first parse of a schema compiles it.
warmSchemas();
await session.start().catch((error: Error) => fatal(70, error.message));
