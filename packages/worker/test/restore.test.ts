/**
 * The real agent and a real task over a checkpoint: saved in the middle of a flood of output, restored, with the link taken
 * up from its snapshot. Needs root and runsc; the guest's root is copied from this machine.
 */
import { cp, mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { agentArgv, buildGuestBundle } from "@helmr/guest";
import {
  type GuestMessage,
  guestMessage,
  guestPaths,
  type LinkSnapshot,
  linkSnapshot,
  ReliableLink,
  type WorkerMessage,
} from "@helmr/guest-protocol";
import {
  type CheckpointRecord,
  createGvisorIsolation,
  type Guest,
  type GuestSpec,
  type Isolation,
} from "@helmr/isolation";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { buildTestRootfs } from "../../isolation/test/rootfs.ts";
import { findRunsc } from "../../isolation/test/runsc.ts";

const waitLimit = { timeout: 60_000, interval: 5 };
const lines = 20_000;
/** Where the flood waits to be let on, so that on a loaded host it is not over before it was saved. */
const gates = [0.3, 0.5, 0.7].map((share) => lines * share);
const letOn = (workspace: string, gate: number) => writeFile(path.join(workspace, `go-${gate}`), "");

const task = `
import { appendFileSync, existsSync } from "node:fs";
import { getRandomValues, randomBytes, randomInt, randomUUID, generateKeySync } from "node:crypto";
import { image, sandbox, task } from "@helmr/sdk";
const box = sandbox("box").image(image("box").from("node:24"));
export const flood = task({ id: "flood", sandbox: box, run: async () => {
  for (let line = 1; line <= ${lines}; line++) {
    process.stdout.write("line " + line + " " + "x".repeat(line % 200) + "\\n");
    if (line % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    while ([${gates}].includes(line) && !existsSync("/workspace/go-" + line)) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  appendFileSync("/workspace/log", "done");
} });
const draw = () => ({
  bytes: randomBytes(16).toString("hex"), uuid: randomUUID(), int: randomInt(2 ** 40), math: Math.random(),
  web: Buffer.from(getRandomValues(new Uint8Array(16))).toString("hex"), key: generateKeySync("aes", { length: 128 }).export().toString("hex"),
});
export const random = task({ id: "random", sandbox: box, run: async () => {
  draw();
  console.log("drawn");
  while (!existsSync("/workspace/go")) await new Promise((resolve) => setTimeout(resolve, 5));
  return [draw(), draw()];
} });
`;

let directory = "";
let staging = "";
let isolation: Isolation;
let made = 0;

beforeAll(async () => {
  directory = await realpath(await mkdtemp(path.join(tmpdir(), "worker-restore-")));
  staging = await mkdtemp("/dev/shm/helmr-restore-");
  await buildTestRootfs(path.join(directory, "root"));
  await buildGuestBundle(path.join(directory, "bundle"));
  await mkdir(path.join(directory, "source"));
  await writeFile(path.join(directory, "source/package.json"), '{ "type": "module" }');
  await writeFile(path.join(directory, "source/task.ts"), task);
  isolation = createGvisorIsolation({
    runscPath: await findRunsc(),
    stateDir: path.join(directory, "isolation"),
    instanceName: "restore-test",
  });
});

afterAll(async () => {
  await isolation.close();
  await rm(staging, { recursive: true, force: true });
  await rm(directory, { recursive: true, force: true });
});

function specOf(workspace: string): GuestSpec {
  const bind = (destination: string, source: string, readOnly: boolean) => ({
    destination,
    source: { kind: "bind", path: source } as const,
    readOnly,
  });
  made += 1;
  return {
    id: `restore-${made}`,
    root: { path: path.join(directory, "root"), digest: "test" },
    argv: agentArgv({ hasShell: true }),
    env: { PATH: "/usr/bin" },
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
    mounts: [
      bind(guestPaths.helmr, path.join(directory, "bundle"), true),
      bind(guestPaths.taskSource, path.join(directory, "source"), true),
      bind("/workspace", workspace, false),
    ],
    resources: { cpu: 2, memoryMib: 512, diskMib: 64 },
    network: { mode: "none" },
    maxProcesses: 256,
  };
}

/** The worker's end of one guest; `messages` is the durable record, kept over restores. */
class Session {
  readonly guest: Guest;
  readonly link: ReliableLink<WorkerMessage, GuestMessage>;
  readonly messages: GuestMessage[];
  problem: Error | undefined;
  stderr = "";

  constructor(guest: Guest, messages: GuestMessage[], from?: LinkSnapshot) {
    this.guest = guest;
    this.messages = messages;
    this.link = new ReliableLink<WorkerMessage, GuestMessage>({
      side: "worker",
      incomingSchema: guestMessage,
      onMessage: (message) => void this.messages.push(message),
      onProtocolError: (error) => {
        this.problem = error;
      },
      ...(from === undefined ? {} : { from }),
    });
    guest.stderr.on("data", (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    this.link.attach(guest.stream);
  }

  output(): string {
    const chunks = this.messages.flatMap((message) =>
      message.type === "log" && message.stream === "stdout" ? [Buffer.from(message.data)] : [],
    );
    return Buffer.concat(chunks).toString();
  }

  async until<T>(found: () => T | undefined): Promise<T> {
    return vi.waitUntil(() => {
      if (this.problem !== undefined) throw this.problem;
      if (this.stderr !== "") throw new Error(this.stderr);
      return found();
    }, waitLimit);
  }

  finished() {
    return this.until(() => {
      const last = this.messages.at(-1);
      return last?.type === "run.finished" ? last.outcome : undefined;
    });
  }

  restored() {
    return this.until(() => this.messages.find((message) => message.type === "run.restored"));
  }

  async close(): Promise<void> {
    await this.link.close();
    await this.guest.destroy();
  }
}

async function newWorkspace(): Promise<string> {
  return mkdtemp(path.join(directory, "workspace-"));
}

async function startTask(id: string, workspace: string): Promise<Session> {
  const session = new Session(await isolation.start(specOf(workspace)), []);
  await session.until(() => session.messages.find((message) => message.type === "ready"));
  await session.link.send({
    type: "run.start",
    run: { id: "run-1", attempt_id: "attempt-1", attempt_number: 1, run_lease_id: "lease-1" },
    session_id: "session-1",
    task: { id, file_path: "task.ts", export_name: id },
    payload_json: "{}",
    metadata_json: "{}",
    env: {},
    secrets: [],
    workspace_path: "/workspace",
    source_root: guestPaths.taskSource,
  });
  return session;
}

interface Saved {
  readonly image: string;
  readonly record: CheckpointRecord;
  readonly snapshot: LinkSnapshot;
}

async function saveAndEnd(session: Session): Promise<Saved> {
  const image = await mkdtemp(path.join(staging, "image-"));
  await session.link.quiesce();
  const record = await session.guest.checkpoint({ directory: image });
  const snapshot = linkSnapshot.parse(JSON.parse(JSON.stringify(session.link.snapshot())));
  await session.close();
  return { image, record, snapshot };
}

async function restore(saved: Saved, workspace: string, messages: GuestMessage[]): Promise<Session> {
  const { image, record, snapshot } = saved;
  const guest = await isolation.restore(specOf(workspace), { directory: image, record });
  const session = new Session(guest, messages, snapshot);
  await session.link.send({ type: "run.restored" });
  return session;
}

it("loses and repeats no message when a guest is saved in the middle of its output, again and again", async () => {
  let workspace = await newWorkspace();
  let session = await startTask("flood", workspace);
  for (const gate of gates) {
    const before = gate - lines * 0.2;
    await session.until(() => (session.output().includes(`line ${before} `) ? true : undefined));
    const saved = await saveAndEnd(session);
    const moved = `${workspace}-moved`;
    await cp(workspace, moved, { recursive: true, preserveTimestamps: true });
    workspace = moved;
    session = await restore(saved, workspace, session.messages);
    await letOn(workspace, gate);
  }
  expect(await session.finished()).toMatchObject({ status: "succeeded" });
  const printed = session.output().split("\n");
  expect(printed).toHaveLength(lines + 1);
  for (const [index, line] of printed.slice(0, lines).entries()) {
    if (line !== `line ${index + 1} ${"x".repeat((index + 1) % 200)}`) expect(line).toBe(`line ${index + 1}`);
  }
  const kinds = session.messages.map(({ type }) => type).filter((type) => type !== "log");
  expect(kinds).toEqual([
    "ready",
    "run.started",
    "run.restored",
    "run.restored",
    "run.restored",
    "run.finished",
  ]);
  await session.close();
});

it("goes on with the same guest and link when a checkpoint is given up", async () => {
  const workspace = await newWorkspace();
  for (const gate of gates) await letOn(workspace, gate);
  const session = await startTask("flood", workspace);
  await session.until(() => (session.output().includes(`line ${lines * 0.2} `) ? true : undefined));
  await session.link.quiesce();
  await session.guest.checkpoint({ directory: await mkdtemp(path.join(staging, "image-")) });
  await session.guest.resume();
  session.link.release();
  expect(await session.finished()).toMatchObject({ status: "succeeded" });
  expect(session.output().split("\n")).toHaveLength(lines + 1);
  await session.close();
});

it("gives every restore of one checkpoint randomness of its own", async () => {
  const session = await startTask("random", await newWorkspace());
  await session.until(() => (session.output().includes("drawn") ? true : undefined));
  const saved = await saveAndEnd(session);

  const drawn = async (reseeded: boolean): Promise<Record<string, unknown>[]> => {
    const workspace = await newWorkspace();
    const { image, record, snapshot } = saved;
    const guest = await isolation.restore(specOf(workspace), { directory: image, record });
    const restored = new Session(guest, [...session.messages], snapshot);
    if (reseeded) {
      await restored.link.send({ type: "run.restored" });
      expect(await restored.restored()).toEqual({ type: "run.restored" });
    }
    await writeFile(path.join(workspace, "go"), "");
    const outcome = await restored.finished();
    await restored.close();
    if (outcome.status !== "succeeded") throw new Error(JSON.stringify(outcome));
    return JSON.parse(outcome.output_json ?? "[]");
  };
  const values = (draws: Record<string, unknown>[]) => draws.flatMap((draw) => Object.values(draw));
  const [first, second] = [values(await drawn(true)), values(await drawn(true))];
  expect(first).toHaveLength(12);
  expect(new Set([...first, ...second]).size).toBe(24);
  // That the guest would repeat without being told is what makes the lines above a proof.
  expect(await drawn(false)).toEqual(await drawn(false));
});
