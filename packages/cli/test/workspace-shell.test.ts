/** `helmr workspace shell` and `pty` on a real terminal, against a double of the server. */
import { describe, expect, it, vi } from "vitest";
import { helmr } from "./support/helmr.ts";
import { OnTerminal } from "./support/terminal.ts";
import { type Cut, pty, ptyId, WorkspaceDouble, workspaceId } from "./support/workspace-double.ts";

const shell = ["workspace", "shell", workspaceId];
const connect = ["workspace", "pty", "connect", workspaceId, ptyId];
/** Shows what is typed, each byte marked, so that nothing that the local terminal echoes is taken for it. */
const marking = {
  onInput: (bytes: Buffer, double: WorkspaceDouble) => {
    for (const byte of bytes) double.write("output", `<${byte}>`);
  },
};
const marked = (text: string) => Buffer.from(text).reduce((all, byte) => `${all}<${byte}>`, "");

describe("shell", () => {
  it("passes every key but the detach key on, in order, and says how to come back", async () => {
    await using double = await WorkspaceDouble.start(marking);
    await using terminal = await OnTerminal.start(shell, { url: double.url, cols: 100, rows: 30 });
    await terminal.shows("Ctrl-] leaves it");
    expect(double.bodies[0]).toMatchObject({ cols: 100, rows: 30 });
    for (const keys of ["a", "\x03", "\x1a", "\x04", "\x1b[A", "ä", "\r"]) {
      terminal.type(keys);
      await terminal.shows(marked(keys));
    }
    terminal.type("\x1d");
    expect(await terminal.exit()).toBe(0);
    expect(terminal.text).toContain(`helmr workspace pty connect ${workspaceId} ${ptyId}`);
    expect(double.all("input").toString()).toBe("a\x03\x1a\x04\x1b[Aä\r");
    expect(double.lines).not.toContain(`POST /pty/${ptyId}/close`);
  });

  it("shows any bytes as they come, and ends with the terminal", async () => {
    await using double = await WorkspaceDouble.start();
    await using terminal = await OnTerminal.start(shell, { url: double.url });
    await terminal.shows("leaves it");
    const bytes = Buffer.from([0x1b, 0x5b, 0x33, 0x31, 0x6d, 0xff, 0xfe, 0x00, 0xc3, 0xa4]);
    double.write("output", bytes);
    await vi.waitUntil(() => terminal.shown.includes(bytes), { timeout: 20_000 });
    double.end({ state: "closed" });
    expect(await terminal.exit()).toBe(0);
  });

  it.each([
    [{ state: "lost" }, "its worker is gone"],
    [{ state: "failed", error: { message: "out of memory" } }, "out of memory"],
  ])("says that it ended otherwise: %j", async (end, says) => {
    await using double = await WorkspaceDouble.start();
    await using terminal = await OnTerminal.start(shell, { url: double.url });
    await terminal.shows("leaves it");
    double.end(end);
    expect(await terminal.exit()).toBe(125);
    expect(terminal.text).toContain(says);
  });

  it("follows the size of the window, the last one at the end", async () => {
    const sizes: { cols: number; rows: number }[] = [];
    await using double = await WorkspaceDouble.start({ onResize: (size) => sizes.push(size) });
    await using terminal = await OnTerminal.start(shell, { url: double.url });
    await terminal.shows("leaves it");
    await vi.waitUntil(() => sizes.length > 0, { timeout: 20_000 });
    terminal.pty.resize(120, 40);
    terminal.pty.resize(700, 50);
    await vi.waitUntil(() => sizes.at(-1)?.rows === 50, { timeout: 20_000 });
    expect(sizes.at(-1)).toEqual({ cols: 500, rows: 50 });
  });

  it("loses and doubles no byte through connections that break before and after the server has acted", async () => {
    let count = 0;
    const cuts = (line: string): Cut => {
      count += 1;
      if (line.endsWith("/input")) return (["after", "before", undefined] as const)[count % 3];
      if (line.endsWith("/output")) return count % 2 === 0 ? 700 + count * 13 : undefined;
      return undefined;
    };
    await using double = await WorkspaceDouble.start({ ...marking, cuts });
    await using terminal = await OnTerminal.start(shell, { url: double.url });
    await terminal.shows("leaves it");
    const start = terminal.shown.length;
    let typed = "";
    for (let index = 0; index < 40; index += 1) {
      const key = String.fromCharCode(97 + (index % 26));
      typed += key;
      terminal.type(key);
      if (index % 10 === 9) {
        double.breakAll();
        await terminal.shows(marked(typed), start);
      }
    }
    await terminal.shows(marked(typed), start);
    expect(double.all("input").toString()).toBe(typed);
    expect(terminal.shown.subarray(start).toString().split("<").length - 1).toBe(typed.length);
  });

  it("writes where the stream stands when somebody else has typed meanwhile", async () => {
    await using double = await WorkspaceDouble.start(marking);
    await using terminal = await OnTerminal.start(shell, { url: double.url });
    await terminal.shows("leaves it");
    terminal.type("a");
    await terminal.shows(marked("a"));
    double.written.set("input", Buffer.concat([double.all("input"), Buffer.from("other")]));
    terminal.type("b");
    await terminal.shows(marked("b"));
    expect(double.all("input").toString()).toBe("aotherb");
  });

  it("can be left while the server is away", async () => {
    await using double = await WorkspaceDouble.start({
      cuts: (line) => (line.endsWith("/input") ? "before" : undefined),
    });
    await using terminal = await OnTerminal.start(shell, { url: double.url });
    await terminal.shows("leaves it");
    terminal.type("abc");
    await vi.waitUntil(() => double.lines.some((line) => line.endsWith("/input")), { timeout: 20_000 });
    terminal.type("\x1d");
    expect(await terminal.exit()).toBe(0);
  });

  it("types a command that is given", async () => {
    await using double = await WorkspaceDouble.start();
    await using terminal = await OnTerminal.start([...shell, "--", "vim", "my notes", "it's"], {
      url: double.url,
    });
    await terminal.shows("leaves it");
    await vi.waitUntil(() => double.all("input").length > 0, { timeout: 20_000 });
    expect(double.all("input").toString()).toBe(" exec vim 'my notes' 'it'\\''s'\r");
  });

  it("takes another key for leaving", async () => {
    await using double = await WorkspaceDouble.start(marking);
    await using terminal = await OnTerminal.start([...shell, "--detach-key", "ctrl-x"], { url: double.url });
    await terminal.shows("Ctrl-X leaves it");
    terminal.type("\x1d");
    await terminal.shows("<29>");
    terminal.type("b\x18");
    expect(await terminal.exit()).toBe(0);
    expect(double.all("input").toString()).toBe("\x1db");
  });

  it.each([
    ["its end", (double: WorkspaceDouble) => double.end({ state: "closed" })],
    ["the detach key", (_: WorkspaceDouble, terminal: OnTerminal) => terminal.type("\x1d")],
    [
      "SIGTERM",
      (_: WorkspaceDouble, terminal: OnTerminal) =>
        process.kill(Number(/helmr=(\d+)/.exec(terminal.text)?.[1]), "SIGTERM"),
    ],
  ])(
    "gives the terminal back as it was, and switches off what a program there has on: after %s",
    async (_, act) => {
      await using double = await WorkspaceDouble.start();
      const node = `'${process.execPath}' '${import.meta.dirname}/../bin/helmr.mjs'`;
      const script = `stty -a > before; ${node} ${shell.join(" ")} & pid=$!; echo helmr=$pid; fg >/dev/null 2>&1; stty -a > after; cmp before after && echo same; exit`;
      await using terminal = await OnTerminal.start(["--norc", "-i", "-c", script], {
        file: "/bin/bash",
        url: double.url,
      });
      await terminal.shows("leaves it");
      double.write("output", "\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?2004l\x1b[?1;1000h\x1b=in vim");
      await terminal.shows("in vim");
      const start = terminal.shown.length;
      act(double, terminal);
      await terminal.shows("same", start);
      const rest = terminal.shown.subarray(start).toString();
      for (const off of ["\x1b[?1049l", "\x1b[?25h", "\x1b[?1l", "\x1b[?1000l", "\x1b>"])
        expect(rest).toContain(off);
      expect(rest).not.toContain("\x1b[?2004l");
    },
  );

  it("needs a terminal", async () => {
    await using double = await WorkspaceDouble.start();
    for (const words of [shell, connect]) {
      const result = await helmr(words, { url: double.url, input: "ls\n" });
      expect(result.exitCode).toBe(2);
      expect(result.err).toContain("helmr workspace exec");
    }
    expect(double.lines).toEqual([]);
  });
});

describe("pty", () => {
  it("connect shows what was shown, without the questions in it, and goes on", async () => {
    await using double = await WorkspaceDouble.start(marking);
    double.write("output", "one\r\n\x1b[6n\x1b[c\x1b]11;?\x07two");
    double.written.set("input", Buffer.from("old"));
    await using terminal = await OnTerminal.start(connect, { url: double.url });
    await terminal.shows("one\r\ntwo");
    terminal.type("x");
    await terminal.shows(marked("x"));
    expect(double.all("input").toString()).toBe("oldx");
    expect(terminal.text).not.toContain("\x1b[6n");
    double.write("output", "\x1b[6n");
    await terminal.shows("\x1b[6n");
  });

  it("connect with little scrollback begins at a whole line, and lets the program draw again", async () => {
    const sizes: number[] = [];
    await using double = await WorkspaceDouble.start({ onResize: ({ rows }) => sizes.push(rows) });
    double.write("output", `${"x".repeat(100)}\r\nlast line`);
    await using terminal = await OnTerminal.start([...connect, "--scrollback", "30"], { url: double.url });
    await terminal.shows("last line");
    expect(terminal.text).not.toContain("xx");
    await vi.waitUntil(() => sizes.length >= 2, { timeout: 20_000 });
    expect(sizes.slice(0, 2)).toEqual([23, 24]);
  });

  it("connect to one that is over is an error", async () => {
    await using double = await WorkspaceDouble.start();
    double.end({ state: "closed" });
    await using terminal = await OnTerminal.start(connect, { url: double.url });
    expect(await terminal.exit()).toBe(125);
    expect(terminal.text).toContain("the terminal is closed");
  });

  it("get and close", async () => {
    await using double = await WorkspaceDouble.start();
    const of = (name: string, ...more: string[]) =>
      helmr(["workspace", "pty", name, workspaceId, ptyId, ...more], { url: double.url });
    expect((await of("get")).out).toContain("size\t80x24\n");
    expect(JSON.parse((await of("get", "--json")).out)).toEqual({ pty: pty() });
    expect((await of("close")).err).toContain("is closed");
    expect(double.lines.at(-1)).toBe(`POST /pty/${ptyId}/close`);
  });
});
