/** Commands and terminals beside, before, after and without a run, and across a restore, in one real guest. */
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type GuestMessage, guestPaths, type RunOutcome, type WorkerMessage } from "@helmr/guest-protocol";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import type { CommandEnd } from "../src/guest-command-types.ts";
import { restoredGuestSession, startGuestSession } from "../src/guest-session.ts";
import { CommandGuest, GuestHost } from "./support/command-guest.ts";

const limit = { timeout: 30_000, interval: 20 };
const secret = `planted-${randomUUID()}`;

/** Leaves a process of its session, a daemon and one that hides from both; ends when the file `go` is there. */
const task = `import { image, sandbox, task } from "@helmr/sdk";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
const box = sandbox("box").image(image("box").from("node:24"));
export const main = task({ id: "main", sandbox: box, run: async () => {
  spawn("sleep", ["701"], { stdio: "ignore" });
  spawn("sleep", ["702"], { stdio: "ignore", detached: true }).unref();
  spawn("sh", ["-c", "setsid sleep 703 & exit"], { stdio: "ignore", detached: true, env: { PATH: process.env.PATH } });
  console.log("task up");
  while (!existsSync("go")) await new Promise((resolve) => setTimeout(resolve, 20));
  return [process.env.TOKEN, readFileSync("/run/token", "utf8")];
} });
`;

/** Leaves children that go on making children, each in a session of its own. */
const forkingTask = `import { image, sandbox, task } from "@helmr/sdk";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
const box = sandbox("box").image(image("box").from("node:24"));
export const main = task({ id: "main", sandbox: box, run: async () => {
  const script = "while :; do setsid sh -c 'sleep 704 & exit' & sleep 0.05; done";
  for (let n = 0; n < 3; n += 1) spawn("setsid", ["sh", "-c", script], { stdio: "ignore", detached: true });
  console.log("task up");
  while (!existsSync("go")) await new Promise((resolve) => setTimeout(resolve, 20));
} });
`;

let host: GuestHost;
let source: string;
beforeAll(async () => {
  host = await GuestHost.start();
  source = join(host.dir, "source");
  await mkdir(source);
  await writeFile(join(source, "package.json"), '{ "type": "module" }');
  await writeFile(join(source, "task.ts"), task);
  await writeFile(join(source, "forking.ts"), forkingTask);
});
afterAll(() => host.stop());

async function start(options: Parameters<GuestHost["guest"]>[0] = {}): Promise<CommandGuest> {
  const guest = await host.guest(options);
  onTestFinished(async () => {
    await guest.stop();
    expect(guest.violations).toEqual([]);
  });
  return guest;
}

const runStart: Extract<WorkerMessage, { type: "run.start" }> = {
  type: "run.start",
  run: { id: "run-1", attempt_id: "attempt-1", attempt_number: 1, run_lease_id: "lease-1" },
  session_id: "session-1",
  task: { id: "main", file_path: "task.ts", export_name: "main" },
  payload_json: "{}",
  metadata_json: "{}",
  env: { OF_THE_RUN: "yes" },
  secrets: [
    { kind: "env", name: "token", env: "TOKEN", value: secret },
    { kind: "file", name: "token", path: "/run/token", mode: 0o400, value: secret },
  ],
  workspace_path: "/workspace",
  source_root: guestPaths.taskSource,
};

async function startRun(guest: CommandGuest, file = "task.ts"): Promise<void> {
  await guest.session.send({ ...runStart, task: { ...runStart.task, file_path: file } });
  await vi.waitUntil(() => guest.messages.some((message) => message.type === "log"), limit);
}

async function outcome(guest: CommandGuest): Promise<RunOutcome> {
  await guest.shell("touch go");
  const finished = () =>
    guest.messages.find(
      (message): message is Extract<GuestMessage, { type: "run.finished" }> =>
        message.type === "run.finished",
    );
  await vi.waitUntil(() => finished() !== undefined, limit);
  return finished()?.outcome as RunOutcome;
}

const succeeded = { status: "succeeded", output_json: JSON.stringify([secret, secret]) };
const sleepers = (guest: CommandGuest) =>
  guest.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'slee[p] 7[0-9]*' | sort");

/** A command that echoes its input line by line. */
function echo(guest: CommandGuest) {
  const ended = Promise.withResolvers<CommandEnd>();
  let text = "";
  const handle = guest.commands.startExec(
    { id: randomUUID(), argv: ["cat"], cwd: "/", stdin: "pipe" },
    {
      onOutput: (_, data) => {
        text += data;
      },
      onExited: ended.resolve,
    },
  );
  return {
    answers: async (line: string) => {
      await handle.write(Buffer.from(line));
      await vi.waitUntil(() => text.endsWith(line), limit);
    },
    end: async () => {
      await handle.closeInput();
      return ended.promise;
    },
  };
}

describe("operators and a run share a guest", () => {
  it("what was started before and during the run goes on after it; what the task left is gone", async () => {
    const guest = await start({ source });
    const before = echo(guest);
    await before.answers("before\n");
    // In the background of a command that has ended. The second has neither mark, nor session, nor parent: it counts as the task's.
    await guest.exec(["sh", "-c", "sleep 710 & setsid env -i /bin/sh -c 'sleep 711; true' & exit"]);
    const terminal = guest.terminal();
    await terminal.opened;
    await terminal.type("env -i /bin/sleep 712 & echo started\r");
    await terminal.until(/started\r\n/);
    await startRun(guest);
    const during = echo(guest);
    await during.answers("during\n");
    await vi.waitUntil(async () => (await sleepers(guest)).includes("sleep 703"), limit);
    expect(await outcome(guest)).toEqual(succeeded);
    expect(await sleepers(guest)).toBe("sleep 710\nsleep 712\n");
    await before.answers("still there\n");
    await during.answers("this, too\n");
    await terminal.type("echo $((6*7))\r");
    await terminal.until(/42\r\n/);
    const after = echo(guest);
    await after.answers("after\n");
    for (const command of [before, during, after])
      expect(await command.end()).toEqual({ kind: "exited", code: 0 });
  });

  it("a task whose children go on forking leaves nothing either", async () => {
    const guest = await start({ source });
    await startRun(guest, "forking.ts");
    await vi.waitUntil(async () => (await sleepers(guest)).includes("sleep 704"), limit);
    expect(await outcome(guest)).toEqual({ status: "succeeded" });
    expect(await guest.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '70[4]' || true")).toBe(
      "0\n",
    );
  });

  it("without operators nothing of the task is left either", async () => {
    const guest = await start({ source });
    await startRun(guest);
    await guest.session.send({ type: "run.cancel", reason: "enough", grace_ms: 0 });
    await outcome(guest);
    expect(await guest.shell("cat /proc/[0-9]*/comm | grep -c sleep || true")).toBe("0\n");
  });

  it("the run's secrets and variables are in the environment of no command or terminal", async () => {
    const guest = await start({ source });
    await startRun(guest);
    const environment = await guest.shell("env");
    expect(environment).toContain("IMAGE_VARIABLE=from the image");
    expect(environment).toMatch(/^HELMR_EXEC_ID=/m);
    expect(environment).not.toMatch(/planted|TOKEN|OF_THE_RUN|HELMR_TASK/);
    const terminal = guest.terminal({ argv: ["env"] });
    await terminal.closed;
    expect(terminal.text).toContain("IMAGE_VARIABLE");
    expect(terminal.text).not.toMatch(/planted|TOKEN|OF_THE_RUN|HELMR_TASK/);
    expect(await outcome(guest)).toEqual(succeeded);
  });

  it("a run finds a task host also when an operator ended the idle one", async () => {
    const guest = await start({ source });
    await guest.shell(
      "cd /proc; for pid in [0-9]*; do grep -q 'task-hos[t]' $pid/cmdline && kill -9 $pid; done; true",
    );
    expect(await guest.shell("echo still here")).toBe("still here\n");
    await startRun(guest);
    expect(await outcome(guest)).toEqual(succeeded);
  });

  it("a guest without task source or task host serves operators as the image's user", async () => {
    const guest = await start({ user: "nobody" });
    expect(await guest.shell("id -u; ls /opt/helmr-task 2>&1 | wc -l; pwd")).toMatch(
      /^65534\n\d+\n\/workspace\n$/,
    );
    const terminal = guest.terminal({ argv: ["id", "-u"] });
    expect(await terminal.closed).toEqual({ kind: "exited", code: 0 });
    expect(terminal.text).toBe("65534\r\n");
  });
});

it("what runs goes on after the guest was saved and restored", async () => {
  const spec = await host.spec();

  const guest = new CommandGuest(await startGuestSession(host.isolation, spec));
  guest.session.listen((message) => guest.receive(message));
  const directory = await mkdtemp("/dev/shm/helmr-commands-");
  onTestFinished(async () => {
    await guest.stop();
    await rm(directory, { recursive: true, force: true });
  });
  const command = echo(guest);
  await command.answers("one\n");
  const terminal = guest.terminal();
  await terminal.opened;
  await terminal.type("kept=$((6*7)); echo said\r");
  await terminal.until(/said\r\n/);

  const saved = guest.session;
  await saved.hold();
  const record = await saved.guest.checkpoint({ directory });
  const link = saved.snapshot();
  await saved.destroy();
  const restored = await host.isolation.restore({ ...spec, id: `${spec.id}-2` }, { directory, record });
  guest.session = restoredGuestSession(restored, link, (message) => guest.receive(message));
  await guest.session.send({ type: "run.restored" });

  await command.answers("two\n");
  expect(await command.end()).toEqual({ kind: "exited", code: 0 });
  await terminal.type("echo $kept; exit 3\r");
  expect(await terminal.closed).toEqual({ kind: "exited", code: 3 });
  expect(terminal.text).toMatch(/42\r\n/);
  expect(guest.violations).toEqual([]);
});
