/** Runs the real agent and task host as plain processes, and speaks to the agent over the real link. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import {
  type GuestMessage,
  guestMessage,
  ReliableLink,
  type RunOutcome,
  type WorkerMessage,
} from "@helmr/guest-protocol";
import { buildGuestBundle } from "../src/bundle.ts";

type RunStart = Extract<WorkerMessage, { type: "run.start" }>;

/** Another Node to run the guest's side with, such as 22.18; default the one of the tests. */
export const guestNode = process.env.HELMR_TEST_GUEST_NODE ?? process.execPath;
const waitLimitMs = 20_000;

export interface TestFolder {
  readonly path: string;
  readonly bundle: string;
  readonly source: string;
  readonly workspace: string;
  remove(): Promise<void>;
}

/** A bundle, an empty source tree and a workspace in a fresh folder. */
export async function testFolder(parent = tmpdir()): Promise<TestFolder> {
  const path = await mkdtemp(join(parent, "helmr-guest-"));
  const folder = {
    path,
    bundle: join(path, "helmr"),
    source: join(path, "source"),
    workspace: join(path, "workspace"),
    remove: () => rm(path, { recursive: true, force: true }),
  };
  await buildGuestBundle(folder.bundle);
  await mkdir(folder.source);
  await mkdir(folder.workspace);
  await writeFile(join(folder.source, "package.json"), '{ "type": "module" }');
  return folder;
}

export async function writeFiles(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  }
}

export class TestAgent {
  readonly child: ChildProcess;
  readonly messages: GuestMessage[] = [];
  readonly link: ReliableLink<WorkerMessage, GuestMessage>;
  stderr = "";
  readonly #waiting = new Set<() => void>();

  constructor(folder: TestFolder, env: Record<string, string> = {}, nodePath = guestNode) {
    this.child = spawn(nodePath, [join(folder.bundle, "agent.mjs")], {
      cwd: folder.workspace,
      env: { PATH: process.env.PATH ?? "", IMAGE_VARIABLE: "from the image", ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.link = new ReliableLink<WorkerMessage, GuestMessage>({
      side: "worker",
      incomingSchema: guestMessage,
      onMessage: (message) => {
        this.messages.push(message);
        for (const check of this.#waiting) check();
      },
      onProtocolError: (error) => {
        this.stderr += `\n${error.stack}`;
      },
    });
    const { stdin, stdout, stderr } = this.child;
    if (stdin === null || stdout === null || stderr === null) throw new Error("The agent has no pipes.");
    stderr.on("data", (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    this.link.attach(stdout, stdin);
  }

  /** The first message of a type; rejects when the agent ends before. */
  wait<T extends GuestMessage["type"]>(type: T): Promise<Extract<GuestMessage, { type: T }>> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        const found = this.messages.find((message) => message.type === type);
        if (found === undefined) return;
        done();
        resolve(found as Extract<GuestMessage, { type: T }>);
      };
      const fail = (why: string) => (): void => {
        done();
        reject(
          new Error(`${why} before "${type}"; stderr: ${this.stderr}; got ${JSON.stringify(this.messages)}`),
        );
      };
      const onExit = fail("The agent ended");
      const timer = setTimeout(fail("Time is up"), waitLimitMs);
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        this.child.off("close", onExit);
      };
      this.#waiting.add(check);
      this.child.on("close", onExit);
      check();
    });
  }

  /** Everything printed so far. */
  output(stream: "stdout" | "stderr"): Buffer {
    return Buffer.concat(
      this.messages.flatMap((message) =>
        (message.type === "log" || message.type === "exec.output") && message.stream === stream
          ? [Buffer.from(message.data)]
          : [],
      ),
    );
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once("close", resolve));
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill("SIGKILL");
      await ended;
    }
    await this.link.close();
  }
}

/** A start message for `export const main` of `task.ts`, whose id is `main`. */
export function runStart(folder: TestFolder, changes: Partial<RunStart> = {}): RunStart {
  return {
    type: "run.start",
    run: { id: "run-1", attempt_id: "attempt-1", attempt_number: 1, run_lease_id: "lease-1" },
    session_id: "session-1",
    task: { id: "main", file_path: "task.ts", export_name: "main" },
    payload_json: "{}",
    metadata_json: "{}",
    env: {},
    secrets: [],
    workspace_path: folder.workspace,
    source_root: folder.source,
    ...changes,
  };
}

/** A module with one task `main` and the given body of `run(ctx)`. */
export function taskModule(body: string, head = ""): string {
  return `import { image, logger, metadata, sandbox, task } from "@helmr/sdk";
${head}
const box = sandbox("box").image(image("box").from("node:24"));
export const main = task({ id: "main", sandbox: box, run: async (ctx) => {
${body}
} });
void [logger, metadata];
`;
}

export interface RunResult {
  readonly outcome: RunOutcome;
  readonly stdout: string;
  readonly stderr: string;
  readonly agent: TestAgent;
}

/** Write the files, run the task to its end, and stop the agent. `during` runs once the task has started. */
export async function runTask(
  folder: TestFolder,
  files: Readonly<Record<string, string>>,
  changes: Partial<RunStart> = {},
  during: (agent: TestAgent) => Promise<void> | void = () => undefined,
): Promise<RunResult> {
  await writeFiles(folder.source, files);
  const agent = new TestAgent(folder);
  try {
    await agent.wait("ready");
    await agent.link.send(runStart(folder, changes));
    await during(agent);
    const { outcome } = await agent.wait("run.finished");
    return {
      outcome,
      stdout: agent.output("stdout").toString(),
      stderr: agent.output("stderr").toString(),
      agent,
    };
  } finally {
    await agent.close();
  }
}
