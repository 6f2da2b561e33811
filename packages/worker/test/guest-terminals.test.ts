/** Terminals in real guests. */
import { limits } from "@helmr/guest-protocol";
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { type CommandGuest, GuestHost, type Terminal } from "./support/command-guest.ts";

/** Ends a hang. */
const limit = { timeout: 60_000, interval: 20 };

let host: GuestHost;
let guest: CommandGuest;
beforeAll(async () => {
  host = await GuestHost.start();
  guest = await host.guest();
  // Without the sequences that bash brackets its lines with.
  await guest.shell("echo set enable-bracketed-paste off > /tmp/inputrc");
});
afterAll(async () => {
  await guest.stop();
  await host.stop();
});
afterEach(() => expect(guest.violations).toEqual([]));

/** A terminal with a shell that has said its prompt; closed when the test is over. */
async function open(changes: Parameters<CommandGuest["terminal"]>[0] = {}): Promise<Terminal> {
  const terminal = guest.terminal(changes);
  onTestFinished(async () => {
    terminal.handle.close();
    await terminal.closed;
  });
  await terminal.opened;
  if (changes.argv === undefined) await terminal.until(/[#$] $/);
  return terminal;
}

describe("a terminal", () => {
  it("is one: its size, its name, its type, its user's shell", async () => {
    const terminal = await open({ cols: 123, rows: 45 });
    await terminal.type("stty size; tty; echo $TERM $0 $SHELL $PWD $IMAGE_VARIABLE; echo end\r");
    const text = await terminal.until(/\nend\r\n/);
    expect(text).toContain("\r\n45 123\r\n/dev/pts/");
    expect(text).toContain("\r\nxterm-256color /bin/bash /bin/bash /workspace from the image\r\n");
  });

  it("gives the shell's exit code", async () => {
    const terminal = await open();
    await terminal.type("exit 7\r");
    expect(await terminal.closed).toEqual({ kind: "exited", code: 7 });
  });

  it("says by which signal its program ended", async () => {
    const terminal = await open({ argv: ["/bin/sh", "-c", "kill -TERM $$"] });
    expect(await terminal.closed).toEqual({ kind: "signalled", signal: "SIGTERM" });
  });

  it("tells its program of a new size", async () => {
    const script = `process.stdout.on("resize", () => console.log("now " + process.stdout.columns + " " + process.stdout.rows));
      setInterval(() => {}, 1000); console.log("up")`;
    const terminal = await open({ argv: ["node", "-e", script] });
    await terminal.until(/up/);
    await terminal.handle.resize(100, 30);
    await terminal.until(/now 100 30/);
    await Promise.all([terminal.handle.resize(90, 20), terminal.handle.resize(91, 21)]);
    await terminal.until(/now 91 21/);
  });

  it("interrupts with Ctrl-C, ends input with Ctrl-D, stops and continues jobs", async () => {
    const terminal = await open();
    await terminal.type("sleep 600; echo code=$?\r");
    await terminal.until(/\r\n/);
    await vi.waitUntil(async () => /sleep/.test(await guest.shell("cat /proc/[0-9]*/comm")), limit);
    await terminal.type("\x03");
    await terminal.until(/[#$] $/);
    await terminal.type("cat\r");
    await terminal.until(/cat\r\n/);
    await terminal.type("typed\r");
    await terminal.until(/typed\r\ntyped\r\n/);
    await terminal.type("\x04");
    await terminal.until(/[#$] $/);
    await terminal.type("sleep 601\r");
    await terminal.until(/601\r\n/);
    await vi.waitUntil(async () => /sleep/.test(await guest.shell("cat /proc/[0-9]*/comm")), limit);
    await terminal.type("\x1a");
    await terminal.until(/Stopped.*sleep 601[\s\S]*[#$] $/);
    await terminal.type("bg; jobs\r");
    await terminal.until(/Running.*sleep 601[\s\S]*[#$] $/);
    await terminal.type("kill %1; wait; echo gone\r");
    await terminal.until(/\ngone\r\n/);
  });

  it("passes colours and characters of any kind", async () => {
    const terminal = await open();
    await terminal.type("tput setaf 1; printf 'r\\xc3\\xa4d \\xff\\n'; tput colors\r");
    const text = await terminal.until(/\n256\r\n/);
    expect(text).toContain("\x1b[31mräd \ufffd\r\n");
  });

  it("runs a program that takes the whole screen and single keys", async () => {
    const script = `process.stdin.setRawMode(true);
      process.stdout.write("\\x1b[?1049h\\x1b[2J\\x1b[H--full--");
      process.stdin.on("data", (keys) => {
        if (keys[0] === 3) process.stdout.write("\\x1b[?1049l", () => process.exit(4));
        else process.stdout.write("[" + keys.toString("hex") + "]");
      });`;
    const terminal = await open({ argv: ["node", "-e", script] });
    expect(await terminal.until(/--full--/)).toContain("\x1b[?1049h");
    await terminal.type("a");
    await terminal.until(/\[61\]/);
    await terminal.type("\x1b[A");
    await terminal.until(/\[1b5b41\]/);
    await terminal.type("\x03");
    expect(await terminal.closed).toEqual({ kind: "exited", code: 4 });
  });

  it("ends with a hangup when it is closed, and kills what ignores it", async () => {
    const polite = await open({
      argv: ["/bin/bash", "-c", "trap 'echo hung up; exit 5' HUP; echo up; while :; do sleep 0.1; done"],
    });
    await polite.until(/up/);
    polite.handle.close();
    expect(await polite.closed).toEqual({ kind: "exited", code: 5 });
    expect(polite.text).toContain("hung up");
    const deaf = await open({ argv: ["/bin/bash", "-c", "trap '' HUP; echo up; sleep 602; echo never"] });
    await deaf.until(/up/);
    deaf.handle.close();
    deaf.handle.close();
    expect(await deaf.closed).toEqual({ kind: "signalled", signal: "SIGKILL" });
    await vi.waitUntil(
      async () => !(await guest.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).includes("sleep 602"),
      limit,
    );
    await expect(deaf.handle.resize(10, 10)).rejects.toThrow("The terminal is closed");
    await expect(deaf.type("x")).rejects.toThrow("The terminal is closed");
  });

  it("closes when the shell ends, whatever still runs in the background", async () => {
    const terminal = await open();
    await terminal.type("setsid sleep 603 & sleep 604 & disown -a; exit\r");
    expect(await terminal.closed).toEqual({ kind: "exited", code: 0 });
    await guest.shell(
      "cd /proc; for pid in [0-9]*; do grep -q 'sleep.60[34]' $pid/cmdline && kill -9 $pid; done; true",
    );
  });

  it.each([
    ["no such command", { argv: ["no-such-command"] }, 'no command "no-such-command"'],
    ["no such folder", { cwd: "/no/such" }, "no folder /no/such"],
    ["no such user", { user: "nobody-here" }, 'no user "nobody-here"'],
    ["a NUL character", { argv: ["echo", "a\0b"] }, "NUL"],
  ])("that cannot be opened says why: %s", async (_, changes, text) => {
    const terminal = guest.terminal(changes);
    expect(await terminal.closed).toMatchObject({ kind: "failed", error: expect.stringContaining(text) });
  });

  it("belongs to the user it is told; whose shell lets nobody in gets another", async () => {
    const terminal = await open({ user: "nobody", cwd: "/" });
    await terminal.type("id -u; echo $SHELL; echo typed > $(tty); echo end\r");
    expect(await terminal.until(/\nend\r\n/)).toMatch(/\n65534\r\n\/bin\/bash\r\ntyped\r\n/);
  });
});

describe("backpressure", () => {
  it("holds back input that nobody reads, and no other terminal's", async () => {
    const deaf = await open({ argv: ["sleep", "600"] });
    let written = 0;
    const writing = (async () => {
      for (;;) {
        await deaf.handle.write(Buffer.alloc(32 * 1024, "x\n"));
        written += 32 * 1024;
      }
    })().catch(() => undefined);
    const other = await open();
    await other.type("echo $((6*7))\r");
    await other.until(/\n42\r\n/);
    expect(written).toBeLessThanOrEqual(3 * limits.commandWindowBytes);
    deaf.handle.close();
    await writing;
  });

  it("holds back output that nobody takes, keeps all of it, and no other's", async () => {
    const gate = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<unknown>();
    const received: Buffer[] = [];
    guest.commands.openPty(
      { id: "late", cwd: "/", cols: 80, rows: 24, argv: ["seq", "200000"] },
      {
        onOutput: async (data) => {
          await gate.promise;
          received.push(Buffer.from(data));
        },
        onClosed: closed.resolve,
      },
    );
    const other = await open();
    await other.type("seq 50000 | tail -1; echo $((6*7))\r");
    await other.until(/\n42\r\n/);
    gate.resolve();
    expect(await closed.promise).toEqual({ kind: "exited", code: 0 });
    expect(Buffer.concat(received).toString()).toBe(
      (await guest.shell("seq 200000")).replaceAll("\n", "\r\n"),
    );
  });
});
