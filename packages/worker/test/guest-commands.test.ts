/** Commands in real guests: bytes both ways, ends, backpressure, who they run as. */
import { createHash, randomBytes } from "node:crypto";
import { limits } from "@helmr/guest-protocol";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { ExecHandle } from "../src/guest-command-types.ts";
import { type CommandGuest, GuestHost } from "./support/command-guest.ts";

/** Ends a hang. */
const limit = { timeout: 60_000, interval: 20 };

let host: GuestHost;
let guest: CommandGuest;
beforeAll(async () => {
  host = await GuestHost.start();
  guest = await host.guest();
});
afterAll(async () => {
  expect(guest.violations).toEqual([]);
  await guest.stop();
  await host.stop();
});

const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

describe("a command", () => {
  it("gives both streams, its code and its process id", async () => {
    let pid = 0;
    const ended = Promise.withResolvers<unknown>();
    let text = "";
    guest.commands.startExec(
      {
        id: "with-pid",
        argv: ["sh", "-c", "echo $$; echo bad >&2; exit 7"],
        cwd: "/workspace",
        stdin: "none",
      },
      {
        onStarted: (given) => {
          pid = given;
        },
        onOutput: (stream, data) => {
          text += `${stream}: ${data}`;
        },
        onExited: ended.resolve,
      },
    );
    expect(await ended.promise).toEqual({ kind: "exited", code: 7 });
    expect(text).toContain(`stdout: ${pid}\n`);
    expect(text).toContain("stderr: bad\n");
  });

  it("has the image's environment, its own and its folder", async () => {
    const { stdout } = await guest.exec(["sh", "-c", 'echo "$IMAGE_VARIABLE, $OWN, $PWD"'], {
      cwd: "/tmp",
      env: { OWN: "mine" },
    });
    expect(stdout).toBe("from the image, mine, /tmp\n");
  });

  it("has three descriptors, pipes that /dev/stdout and /dev/stderr can be opened on", async () => {
    const script = "echo /proc/self/fd/*; echo out > /dev/stdout; echo err > /dev/stderr";
    // The fourth is the shell's own, of the folder it lists.
    expect(await guest.exec(["sh", "-c", script])).toMatchObject({
      stdout: "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\nout\n",
      stderr: "err\n",
    });
  });

  it("ends by SIGPIPE, which the agent ignores", async () => {
    const { end } = await guest.exec(["sh", "-c", "kill -PIPE $$; echo ignored"]);
    expect(end).toEqual({ kind: "signalled", signal: "SIGPIPE" });
  });

  it("leaves no descriptor behind in the agent, started or not", async () => {
    // The agent is the parent.
    const count = async () => Number(await guest.shell("ls /proc/$PPID/fd | wc -l"));
    const before = await count();
    for (let n = 0; n < 20; n += 1) {
      await guest.exec(["cat"], { stdin: "pipe" }, (handle) => handle.closeInput());
      await guest.exec(["no-such-command"], { stdin: "pipe" });
      await guest.terminal({ argv: ["true"] }).closed;
      await guest.terminal({ argv: ["no-such-command"] }).closed;
    }
    await vi.waitUntil(async () => (await count()) <= before, limit);
  });

  it("takes 10 MiB of bytes and gives them back", async () => {
    const input = randomBytes(10 * 1024 * 1024);
    const received: Buffer[] = [];
    const ended = Promise.withResolvers<unknown>();
    const cat = guest.commands.startExec(
      { id: "cat", argv: ["cat"], cwd: "/", stdin: "pipe" },
      {
        onOutput: (_, data) => {
          received.push(Buffer.from(data));
        },
        onExited: ended.resolve,
      },
    );
    // Odd sizes: neither chunks nor pages fit.
    for (let at = 0; at < input.length; at += 77_777) await cat.write(input.subarray(at, at + 77_777));
    await cat.closeInput();
    expect(await ended.promise).toEqual({ kind: "exited", code: 0 });
    expect(sha256(Buffer.concat(received))).toBe(sha256(input));
  });

  it("without input reads the end of the file", async () => {
    expect(await guest.exec(["cat"])).toMatchObject({ end: { kind: "exited", code: 0 }, stdout: "" });
  });

  it("refuses input when it has ended or its input was closed", async () => {
    await guest.exec(["cat"], { stdin: "pipe" }, async (handle) => {
      await handle.closeInput();
      await expect(handle.write(Buffer.from("x"))).rejects.toThrow("input of the command is closed");
    });
    let ended: ExecHandle | undefined;
    await guest.exec(["true"], { stdin: "pipe" }, (handle) => {
      ended = handle;
    });
    await expect(ended?.write(Buffer.from("x"))).rejects.toThrow("The command has ended");
  });

  it("may close its input early: what is still written is dropped", async () => {
    const { end, stdout } = await guest.exec(
      ["sh", "-c", "head -c 3; exec <&-; sleep 0.5; echo done"],
      { stdin: "pipe" },
      async (handle) => {
        await handle.write(Buffer.from("abc"));
        await handle.write(Buffer.alloc(4 * 1024 * 1024)).catch(() => undefined);
      },
    );
    expect([end, stdout]).toEqual([{ kind: "exited", code: 0 }, "abcdone\n"]);
  });

  it.each(["SIGINT", "SIGTERM", "SIGKILL", "SIGHUP"] as const)("and its children get %s", async (signal) => {
    const { end } = await guest.exec(
      ["sh", "-c", "echo up; sleep 600; echo not reached"],
      {},
      async (handle, output) => {
        await vi.waitUntil(() => output().includes("up"), limit);
        handle.signal(signal);
      },
    );
    expect(end).toEqual({ kind: "signalled", signal });
    await vi.waitUntil(
      async () => !(await guest.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).includes("sleep 600"),
      limit,
    );
  });

  it("may handle a signal", async () => {
    const script = "trap 'echo caught; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    const { end, stdout } = await guest.exec(["sh", "-c", script], {}, async (handle, output) => {
      await vi.waitUntil(() => output().includes("up"), limit);
      handle.signal("SIGTERM");
    });
    expect([end, stdout]).toEqual([{ kind: "exited", code: 3 }, "up\ncaught\n"]);
  });

  it.each([
    ["no such command", { argv: ["no-such-command"] }, 'no command "no-such-command"'],
    ["no such folder", { argv: ["true"], cwd: "/no/such" }, "no folder /no/such"],
    ["no such user", { argv: ["true"], user: "nobody-here" }, 'no user "nobody-here"'],
    ["not executable", { argv: ["/etc/passwd"] }, "may not execute"],
    ["a NUL character", { argv: ["echo", "a\0b"] }, "NUL"],
  ])("that cannot be started says why: %s", async (_, changes, text) => {
    const { end } = await guest.exec(changes.argv, changes);
    expect(end).toMatchObject({ kind: "failed", error: expect.stringContaining(text) });
  });

  it("runs as the user it is told, with that user's home", async () => {
    const { stdout } = await guest.exec(["sh", "-c", "id -u; id -g; id -G; echo $HOME"], {
      user: "nobody",
      cwd: "/",
    });
    expect(stdout).toMatch(/^65534\n65534\n65534\n\/\S+\n$/);
  });

  it("leaves its background children alone, and does not wait for them", async () => {
    const { end, stdout } = await guest.exec(["sh", "-c", "sleep 8765 & echo $!"]);
    expect(end).toEqual({ kind: "exited", code: 0 });
    expect(await guest.shell(`tr '\\0' ' ' < /proc/${stdout.trim()}/cmdline; kill ${stdout.trim()}`)).toBe(
      "sleep 8765 ",
    );
    // One that never stops writing.
    expect((await guest.exec(["sh", "-c", "yes & echo $! >&2"])).end).toEqual({ kind: "exited", code: 0 });
  });

  it("runs beside 63 others, and one more is refused", async () => {
    const all = Array.from({ length: limits.commands }, (_, n) =>
      guest.exec(["sh", "-c", `read line; echo ${n} $line`], { stdin: "pipe" }, async (handle) => {
        await vi.waitUntil(() => guest.commands.active === limits.commands, limit);
        await handle.write(Buffer.from("go\n"));
      }),
    );
    expect(() =>
      guest.commands.startExec(
        { id: "too-many", argv: ["true"], cwd: "/", stdin: "none" },
        { onOutput: () => undefined, onExited: () => undefined },
      ),
    ).toThrow("wait until one has ended");
    const outputs = (await Promise.all(all)).map(({ stdout }) => stdout);
    expect(outputs).toEqual(outputs.map((_, n) => `${n} go\n`));
    await guest.commands.idle;
    expect(guest.commands.active).toBe(0);
  });
});

describe("backpressure", () => {
  it("holds back a command whose output is not taken, and no other", async () => {
    const gate = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<unknown>();
    let bytes = 0;
    let calls = 0;
    const flood = guest.commands.startExec(
      { id: "flood", argv: ["sh", "-c", "echo $$; exec yes"], cwd: "/", stdin: "none" },
      {
        onOutput: async (_, data) => {
          calls += 1;
          await gate.promise;
          bytes += data.length;
        },
        onExited: ended.resolve,
      },
    );
    await vi.waitUntil(() => calls === 1, limit);
    // The program stands still: its processor time does not grow any more.
    const ticks = () => guest.shell("cat /proc/[0-9]*/stat | grep '(yes)' | cut -d' ' -f14,15");
    let last = "";
    await vi.waitUntil(
      async () => {
        const now = await ticks();
        const still = now !== "" && now === last;
        last = now;
        return still;
      },
      { ...limit, interval: 500 },
    );
    expect(calls).toBe(1);
    expect((await guest.exec(["seq", "100000"])).stdout.length).toBe(588_895);
    gate.resolve();
    await vi.waitUntil(() => bytes > 20 * limits.commandWindowBytes, limit);
    flood.signal("SIGKILL");
    expect(await ended.promise).toEqual({ kind: "signalled", signal: "SIGKILL" });
  });

  it("of many commands that nobody reads costs the agent and the worker no more than their windows", async () => {
    const agentMib = async () =>
      Number(/VmRSS:\s+(\d+) kB/.exec(await guest.shell("cat /proc/$PPID/status"))?.[1]) / 1024;
    const workerMib = () => process.memoryUsage().rss / 1024 / 1024;
    const gate = Promise.withResolvers<void>();
    const before = { agent: await agentMib(), worker: workerMib() };
    const started = Array.from({ length: 30 }, () => Promise.withResolvers<void>());
    const ended = started.map(async ({ resolve }, n) => {
      const end = Promise.withResolvers<unknown>();
      const id = `held-${n}`;
      const handle = guest.commands.startExec(
        { id, argv: ["yes", "y".repeat(1000)], cwd: "/", stdin: "pipe" },
        {
          onOutput: () => {
            resolve();
            return gate.promise;
          },
          onExited: end.resolve,
        },
      );
      handle.write(Buffer.alloc(8 * limits.commandWindowBytes)).catch(() => undefined);
      await gate.promise;
      handle.signal("SIGKILL");
      return end.promise;
    });
    await Promise.all(started.map(({ promise }) => promise));
    // All that could be sent would be gigabytes by now.
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    // Two windows for each command, and what a collector leaves lying about.
    expect((await agentMib()) - before.agent).toBeLessThan(120);
    expect(workerMib() - before.worker).toBeLessThan(200);
    gate.resolve();
    expect(new Set((await Promise.all(ended)).map((end) => JSON.stringify(end)))).toEqual(
      new Set(['{"kind":"signalled","signal":"SIGKILL"}']),
    );
  });

  it("keeps what a command wrote before its end for a reader that comes late", async () => {
    const gate = Promise.withResolvers<void>();
    const received: Buffer[] = [];
    const ended = Promise.withResolvers<unknown>();
    guest.commands.startExec(
      { id: "late", argv: ["sh", "-c", "seq 80000"], cwd: "/", stdin: "none" },
      {
        onOutput: async (_, data) => {
          await gate.promise;
          received.push(Buffer.from(data));
        },
        onExited: ended.resolve,
      },
    );
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    gate.resolve();
    expect(await ended.promise).toEqual({ kind: "exited", code: 0 });
    expect(Buffer.concat(received).toString()).toBe(await guest.shell("seq 80000"));
  });

  it("holds back input that a command does not read, and no other's", async () => {
    let written = 0;
    const { end } = await guest.exec(["sleep", "600"], { stdin: "pipe" }, async (deaf) => {
      const writing = (async () => {
        for (;;) {
          await deaf.write(Buffer.alloc(64 * 1024));
          written += 64 * 1024;
        }
      })().catch(() => undefined);
      expect(
        (
          await guest.exec(["wc", "-c"], { stdin: "pipe" }, async (other) => {
            for (let sent = 0; sent < 64; sent += 1) await other.write(Buffer.alloc(64 * 1024));
            await other.closeInput();
          })
        ).stdout,
      ).toBe(`${64 * 64 * 1024}\n`);
      // The window and what the kernel keeps for the program.
      expect(written).toBeLessThanOrEqual(3 * limits.commandWindowBytes);
      deaf.signal("SIGTERM");
      await writing;
    });
    expect(end).toEqual({ kind: "signalled", signal: "SIGTERM" });
  });

  it("kills a command whose output cannot be taken, and says so", async () => {
    const ended = Promise.withResolvers<unknown>();
    guest.commands.startExec(
      { id: "unwanted", argv: ["yes"], cwd: "/", stdin: "none" },
      { onOutput: () => Promise.reject(new Error("no room")), onExited: ended.resolve },
    );
    expect(await ended.promise).toEqual({
      kind: "failed",
      error: "its output could not be taken: no room",
    });
  });
});
