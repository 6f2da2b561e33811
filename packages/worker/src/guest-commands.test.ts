/** What a hostile guest may say about commands, and what becomes of those when it goes; real guests are in test/. */
import { setImmediate as turn } from "node:timers/promises";
import {
  type GuestMessage,
  guestMessage,
  LinkClosedError,
  limits,
  type WorkerMessage,
} from "@helmr/guest-protocol";
import { describe, expect, it } from "vitest";
import type { CommandEnd } from "./guest-command-types.ts";
import { GuestCommands } from "./guest-commands.ts";

const id = "e";
const started: GuestMessage = { type: "exec.started", exec_id: id, pid: 7 };
const exited: GuestMessage = { type: "exec.exited", exec_id: id, code: 0 };
const output = (bytes: number, stream: "stdout" | "stderr" = "stdout"): GuestMessage => ({
  type: "exec.output",
  exec_id: id,
  stream,
  data: Buffer.alloc(bytes, "x"),
});
const opened: GuestMessage = { type: "pty.opened", pty_id: id, pid: 7 };

/** Commands of a guest that says only what the test says. */
function setUp(send: (message: WorkerMessage) => Promise<void> = () => Promise.resolve()) {
  const sent: WorkerMessage[] = [];
  const ends: CommandEnd[] = [];
  const outputs: string[] = [];
  let gate: Promise<void> | undefined;
  const commands = new GuestCommands((message) => {
    sent.push(message);
    return send(message);
  });
  const onOutput = (stream: string, data: Buffer) => {
    outputs.push(`${stream} ${data.length}`);
    return gate;
  };
  const ended = (end: CommandEnd) => void ends.push(end);
  return {
    commands,
    sent,
    ends,
    outputs,
    hold: (until: Promise<void>) => {
      gate = until;
    },
    exec: (stdin: "none" | "pipe" = "none") =>
      commands.startExec({ id, argv: ["true"], cwd: "/", stdin }, { onOutput, onExited: ended }),
    pty: () =>
      commands.openPty(
        { id, cwd: "/", cols: 80, rows: 24 },
        { onOutput: (data) => onOutput("output", data), onClosed: ended },
      ),
  };
}

describe("a guest breaks the protocol", () => {
  it.each<[string, GuestMessage[], string]>([
    ["with what is about no command", [{ type: "run.started", at_ms: 0 }], "about no command"],
    ["for a command that was never asked for", [{ ...exited, exec_id: "other" }], "for what does not run"],
    ["for a terminal of that id", [opened], "for what does not run"],
    ["with output before the start", [output(1)], "before it was started"],
    ["with two starts", [started, started], "twice"],
    [
      "with output beyond its credit",
      [started, output(limits.commandWindowBytes), output(1)],
      "beyond its credit",
    ],
    ["with an end before the start", [exited], "out of order"],
    [
      "with an error after the start",
      [started, { type: "exec.exited", exec_id: id, error: "no" }],
      "out of order",
    ],
    ["with two ends", [started, exited, exited], "for what does not run"],
    ["with output after the end", [started, exited, output(1)], "for what does not run"],
    ["with an end for no reason", [started, { type: "exec.exited", exec_id: id }], "without one reason"],
    [
      "with an end for two reasons",
      [started, { ...exited, signal: "SIGTERM" } as GuestMessage],
      "without one reason",
    ],
    [
      "with input nobody sent",
      [started, { type: "exec.stdin_consumed", exec_id: id, bytes: 1 }],
      "for more than was sent",
    ],
  ])("%s", (_, messages, text) => {
    const { commands, exec, hold } = setUp();
    hold(new Promise(() => undefined));
    exec();
    const found = messages.map((message) => commands.receive(message));
    expect(found.slice(0, -1)).toEqual(found.slice(0, -1).map(() => undefined));
    expect(found.at(-1)).toContain(text);
  });

  it("with a size of the terminal that was not asked for, or out of order", async () => {
    const { commands, pty } = setUp();
    const terminal = pty();
    expect(commands.receive(opened)).toBeUndefined();
    const resized = terminal.resize(100, 30);
    expect(commands.receive({ type: "pty.resized", pty_id: id, cols: 100, rows: 30 })).toBeUndefined();
    await resized;
    expect(commands.receive({ type: "pty.resized", pty_id: id, cols: 100, rows: 30 })).toContain(
      "not asked for",
    );
    terminal.resize(90, 30).catch(() => undefined);
    expect(commands.receive({ type: "pty.resized", pty_id: id, cols: 91, rows: 30 })).toContain(
      "not asked for",
    );
  });

  it.each<[string, unknown]>([
    ["an empty chunk", { ...output(1), data: Buffer.alloc(0) }],
    ["a chunk that is too large", output(limits.commandChunkBytes + 1)],
    ["a process id that is none", { ...started, pid: 0 }],
    ["a count of nothing", { type: "exec.stdin_consumed", exec_id: id, bytes: 0 }],
    ["an endless id", { ...started, exec_id: "x".repeat(65) }],
    ["an endless error", { type: "pty.closed", pty_id: id, error: "x".repeat(limits.errorTextBytes * 2) }],
  ])("with %s, which its schema refuses", (_, message) => {
    expect(guestMessage.safeParse(message).success).toBe(false);
  });
});

describe("output", () => {
  it("waits for the one who takes it, in one piece and in order, and gives credit for what was taken", async () => {
    const { commands, exec, hold, outputs, sent, ends } = setUp();
    const gate = Promise.withResolvers<void>();
    hold(gate.promise);
    exec();
    commands.receive(started);
    commands.receive(output(10));
    for (let n = 0; n < 1000; n += 1) commands.receive(output(1));
    commands.receive(output(limits.commandWindowBytes - 1010));
    commands.receive(output(5, "stderr"));
    commands.receive(exited);
    expect(outputs).toEqual(["stdout 10", "stderr 5"]);
    await turn();
    expect([ends, commands.active]).toEqual([[], 1]);
    gate.resolve();
    await commands.idle;
    expect(outputs).toEqual(["stdout 10", "stderr 5", `stdout ${limits.commandWindowBytes - 10}`]);
    expect(ends).toEqual([{ kind: "exited", code: 0 }]);
    // Nothing is told to a command that has ended.
    expect(sent.map(({ type }) => type)).toEqual(["exec.start"]);
  });

  it("is credited by the quarter window", async () => {
    const { commands, exec, sent } = setUp();
    exec();
    commands.receive(started);
    for (let n = 0; n < 40; n += 1) {
      expect(commands.receive(output(limits.commandWindowBytes / 8))).toBeUndefined();
      await turn();
    }
    const credits = sent.filter((message) => message.type === "exec.output_credit");
    expect(credits.length).toBe(20);
    expect(credits[0]).toEqual({
      type: "exec.output_credit",
      exec_id: id,
      stream: "stdout",
      bytes: limits.commandWindowBytes / 4,
    });
  });
});

describe("input", () => {
  it("waits at the window, and goes on as it is consumed", async () => {
    const { commands, exec, sent } = setUp();
    const handle = exec("pipe");
    commands.receive(started);
    let done = false;
    const writing = handle.write(Buffer.alloc(limits.commandWindowBytes + 1)).then(() => {
      done = true;
    });
    const closing = handle.closeInput();
    await turn();
    const bytes = () => sent.reduce((sum, message) => sum + ("data" in message ? message.data.length : 0), 0);
    expect([bytes(), done]).toEqual([limits.commandWindowBytes, false]);
    expect(commands.receive({ type: "exec.stdin_consumed", exec_id: id, bytes: 100 })).toBeUndefined();
    await Promise.all([writing, closing]);
    expect(bytes()).toBe(limits.commandWindowBytes + 1);
    expect(sent.at(-1)).toEqual({ type: "exec.stdin_close", exec_id: id });
  });

  it("of a command that was started without is refused", async () => {
    await expect(setUp().exec().write(Buffer.from("x"))).rejects.toThrow("started without input");
  });
});

describe("when the guest goes", () => {
  it("everything is lost, whoever waits is told, and nothing more starts", async () => {
    const { commands, exec, ends } = setUp();
    const handle = exec("pipe");
    commands.receive(started);
    const writing = handle.write(Buffer.alloc(2 * limits.commandWindowBytes));
    commands.closeAll("the guest ran out of memory");
    await expect(writing).rejects.toThrow("The command has ended");
    await commands.idle;
    expect(ends).toEqual([{ kind: "lost", reason: "the guest ran out of memory" }]);
    expect(exec).toThrow("The guest is gone: the guest ran out of memory");
  });

  it("a start that cannot be sent is told as the end", async () => {
    const closed = setUp(() => Promise.reject(new LinkClosedError()));
    closed.exec();
    await closed.commands.idle;
    expect(closed.ends).toEqual([{ kind: "lost", reason: "The link is closed." }]);
    const large = setUp(() =>
      Promise.reject(new RangeError("The message takes 9 bytes; a frame holds at most 8.")),
    );
    large.exec();
    await large.commands.idle;
    expect(large.ends).toEqual([{ kind: "failed", error: expect.stringContaining("a frame holds at most") }]);
  });

  it("a size that waits for the terminal is refused", async () => {
    const { commands, pty } = setUp();
    const terminal = pty();
    commands.receive(opened);
    const resizing = terminal.resize(100, 30);
    commands.receive({ type: "pty.closed", pty_id: id, code: 0 });
    await expect(resizing).rejects.toThrow("The terminal is closed");
  });
});
