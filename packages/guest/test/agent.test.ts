import { existsSync, writeFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { buildGuestBundle } from "../src/bundle.ts";
import {
  guestNode,
  runStart,
  TestAgent,
  type TestFolder,
  taskModule,
  testFolder,
  writeFiles,
} from "./harness.ts";

let folder: TestFolder;
let agent: TestAgent;
beforeAll(async () => {
  folder = await testFolder();
  agent = new TestAgent(folder, { HELMR_TASK_HOST: "0" });
  await agent.wait("ready");
}, 60_000);
afterAll(async () => {
  await agent.close();
  await folder.remove();
});

let execs = 0;
/** Run a command and give its end and output. */
async function exec(
  argv: string[],
  changes: { cwd?: string; env?: Record<string, string>; user?: string } = {},
  signal?: string,
) {
  const execId = `exec-${execs++}`;
  const from = agent.messages.length;
  await agent.link.send({
    type: "exec.start",
    exec_id: execId,
    argv,
    cwd: folder.workspace,
    env: {},
    ...changes,
  });
  const own = () => agent.messages.slice(from).filter((m) => "exec_id" in m && m.exec_id === execId);
  for (let signalled = false; ; ) {
    const found = own();
    const text = Buffer.concat(
      found.flatMap((m) => (m.type === "exec.output" ? [Buffer.from(m.data)] : [])),
    ).toString();
    const last = found.at(-1);
    if (last?.type === "exec.exited") return { ...last, text };
    if (signal !== undefined && !signalled && text.includes("up")) {
      signalled = true;
      await agent.link.send({ type: "exec.signal", exec_id: execId, signal });
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe("exec", () => {
  it("streams output and gives the code", async () => {
    const done = await exec(["sh", "-c", 'echo "$IMAGE_VARIABLE $OWN $PWD"; echo bad >&2; exit 7'], {
      env: { OWN: "mine" },
    });
    expect(done.code).toBe(7);
    expect(done.text).toContain(`from the image mine ${folder.workspace}\n`);
    expect(done.text).toContain("bad\n");
  });

  it("says what could not be started", async () => {
    expect((await exec(["no-such-command"])).error).toContain('no command "no-such-command"');
    expect((await exec(["true"], { user: "nobody-here" })).error).toContain('no user "nobody-here"');
  });

  it("signals the whole group", async () => {
    expect(await exec(["sh", "-c", "echo up; sleep 600 & wait"], {}, "SIGTERM")).toMatchObject({
      signal: "SIGTERM",
    });
  });

  it.runIf(process.getuid?.() === 0)("runs as the user it is told", async () => {
    expect((await exec(["id", "-u"], { user: "nobody", cwd: "/" })).text).toBe("65534\n");
    expect((await exec(["sh", "-c", "id -u; id -g"], { user: "1234:4321", cwd: "/" })).text).toBe(
      "1234\n4321\n",
    );
  });

  it("does not wait for what a command leaves in the background", async () => {
    const done = await exec(["sh", "-c", "sleep 600 & echo $!"]);
    expect(done.code).toBe(0);
    // It goes on.
    process.kill(Number(done.text), "SIGKILL");
  });
});

describe("pty", () => {
  it("is a terminal of the size it is told, that resizes, takes input and gives the end", async () => {
    const ptyId = "terminal";
    const text = () =>
      Buffer.concat(
        agent.messages.flatMap((m) => (m.type === "pty.output" ? [Buffer.from(m.data)] : [])),
      ).toString();
    const until = async (part: string) => {
      await vi.waitUntil(() => text().includes(part), { timeout: 20_000 });
    };
    const script = 'stty size; test -t 0 && echo "$TERM"; read line; stty size; echo "got $line"; exit 9';
    await agent.link.send({
      type: "pty.start",
      pty_id: ptyId,
      cols: 91,
      rows: 31,
      cwd: folder.workspace,
      env: {},
      argv: ["/bin/sh", "-c", script],
    });
    await agent.wait("pty.opened");
    await until("31 91\r\nxterm-256color\r\n");
    await agent.link.send({ type: "pty.resize", pty_id: ptyId, cols: 92, rows: 32 });
    expect(await agent.wait("pty.resized")).toMatchObject({ cols: 92, rows: 32 });
    await agent.link.send({ type: "pty.input", pty_id: ptyId, data: Buffer.from("typed\r") });
    await until("typed\r\n32 92\r\ngot typed\r\n");
    expect(await agent.wait("pty.closed")).toEqual({ type: "pty.closed", pty_id: ptyId, code: 9 });
  });
});

describe("the agent", () => {
  it("ends with a reason when the image has no such user", async () => {
    const broken = new TestAgent(folder, { HELMR_TASK_USER: "nobody-here" });
    await expect(broken.wait("ready")).rejects.toThrow(/no user "nobody-here" in \/etc\/passwd/);
    expect(broken.child.exitCode).toBe(72);
    await broken.close();
  });

  it("ends when the worker breaks the protocol", async () => {
    const broken = new TestAgent(folder, { HELMR_TASK_HOST: "0" });
    await broken.wait("ready");
    broken.child.stdin?.write("not a frame at all");
    await new Promise((resolve) => broken.child.once("close", resolve));
    expect(broken.child.exitCode).toBe(73);
    expect(broken.stderr).toContain("A frame of");
    await broken.close();
  });

  it.runIf(process.getuid?.() === 0)("runs the task as the image's user, who owns the secrets", async () => {
    // A node and folders that others than root can reach; the tests' own temporary folder may be private.
    const folder = await testFolder("/tmp");
    const node = join(folder.path, "node");
    await copyFile(guestNode, node);
    await exec(["chmod", "-R", "a+rX", folder.path]);
    await exec(["chown", "65534:65534", folder.workspace]);
    await writeFiles(folder.source, {
      "task.ts": taskModule(`const fs = await import("node:fs");
        return [process.getuid?.(), process.getgid?.(), fs.readFileSync("token", "utf8"), process.env.HELMR_TASK_USER ?? "hidden"];`),
    });
    const other = new TestAgent(folder, { HELMR_TASK_USER: "65534:65534" }, node);
    try {
      await other.wait("ready");
      const secrets = [{ kind: "file" as const, name: "s", path: "token", mode: 0o400, value: "x" }];
      await other.link.send(runStart(folder, { secrets }));
      const { outcome } = await other.wait("run.finished");
      expect(outcome).toEqual({ status: "succeeded", output_json: '[65534,65534,"x","hidden"]' });
    } finally {
      await other.close();
      await folder.remove();
    }
  });
});

describe("buildGuestBundle", () => {
  it("gives the same digest for the same input and leaves the folder alone", async () => {
    const marker = join(folder.bundle, "marker");
    const first = await buildGuestBundle(folder.bundle);
    writeFileSync(marker, "");
    const second = await buildGuestBundle(folder.bundle);
    expect(second).toEqual(first);
    expect(existsSync(marker)).toBe(true);
    expect(second.digest).toMatch(/^[0-9a-f]{64}$/);
  });
});
