/** What a program switches on in a terminal, and what of its record is not shown again. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { beforeKey, detachKey } from "./detach-key.ts";
import { fromWhole, TerminalModes, withoutQuestions } from "./terminal-modes.ts";

const reset = (...pieces: (string | Uint8Array)[]): string => {
  const modes = new TerminalModes();
  for (const piece of pieces) modes.feed(Buffer.from(piece as Uint8Array));
  return modes.reset;
};

describe("TerminalModes", () => {
  it.each([
    ["plain text\r\n", ""],
    ["\x1b[?1049h", "\x1b[?1049l"],
    ["\x1b[?1049h\x1b[?1049l", ""],
    ["\x1b[?25l", "\x1b[?25h"],
    ["\x1b[?25l\x1b[?25h", ""],
    ["\x1b[?1000;1006h", "\x1b[?1000l\x1b[?1006l"],
    ["\x1b=", "\x1b>"],
    ["\x1b=\x1b>", ""],
    ["\x1b[?1049h\x1bc", ""],
    ["\x1b[?9999h\x1b[4h", ""],
  ])("after %j", (text, undo) => {
    expect(reset(text)).toBe(`${undo}\x1b[0m`);
  });

  it("says the same however the bytes are cut", () => {
    const piece = fc.constantFrom(
      "\x1b[?1049h",
      "\x1b[?1049l",
      "\x1b[?25l",
      "\x1b[?1;2004h",
      "\x1b=",
      "x\x1b[",
      "é",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
        const bytes = Buffer.from(pieces.join(""));
        expect(reset(...Array.from(bytes, (byte) => Uint8Array.of(byte)))).toBe(reset(bytes));
      }),
    );
  });
});

describe("what is shown again", () => {
  it.each([
    ["\x1b[c", ""],
    ["a\x1b[>0cb", "ab"],
    ["\x1b[6n\x1b[?6n\x1b[5n", ""],
    ["\x1b[?2026$p\x1b[4$p", ""],
    ["\x1b[>q\x1b[?u\x1b[18t", ""],
    ["\x1b]11;?\x07\x1b]10;?\x1b\\\x1b]4;3;?\x07\x1b]52;c;?\x07", ""],
    ["\x1bP+q544e\x1b\\\x1bP$qm\x1b\\", ""],
    [
      "\x1b[31mred\x1b[0m \x1b[2J\x1b[10;20H\x1b]0;title\x07",
      "\x1b[31mred\x1b[0m \x1b[2J\x1b[10;20H\x1b]0;title\x07",
    ],
    [
      "\x1b[22;0t\x1b[>4;2m\x1b[?25h\x1b[3q\x1b[u\x1b[4l",
      "\x1b[22;0t\x1b[>4;2m\x1b[?25h\x1b[3q\x1b[u\x1b[4l",
    ],
  ])("of %j", (text, left) => {
    expect(withoutQuestions(Buffer.from(text)).toString()).toBe(left);
  });

  it("is every byte that is no question", () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    expect(withoutQuestions(bytes)).toEqual(bytes);
  });

  it.each([
    ["tail of a line\nnext", "next"],
    ["tail\x1b[2Jdrawn\nmore", "\x1b[2Jdrawn\nmore"],
    ["no end at all", "no end at all"],
    ["", ""],
  ])("from the middle: %j", (text, left) => {
    expect(fromWhole(Buffer.from(text)).toString()).toBe(left);
  });
});

describe("the detach key", () => {
  it.each([
    ["ctrl-]", "Ctrl-]", 0x1d],
    ["^\\", "Ctrl-\\", 0x1c],
    ["Ctrl-A", "Ctrl-A", 1],
    ["ctrl-@", "Ctrl-@", 0],
  ])("%s", (text, name, byte) => {
    const key = detachKey(text);
    expect(key.name).toBe(name);
    expect(beforeKey(Buffer.from([97, byte, 98]), key)?.toString()).toBe("a");
    expect(beforeKey(Buffer.from("abc"), key)).toBeUndefined();
  });

  it("is known in the longer forms that a program may ask for", () => {
    expect(beforeKey(Buffer.from("a\x1b[93;5ub"), detachKey("ctrl-]"))?.toString()).toBe("a");
    expect(beforeKey(Buffer.from("\x1b[27;5;97~"), detachKey("ctrl-a"))?.toString()).toBe("");
  });

  it("may be none, and nothing else", () => {
    expect(beforeKey(Buffer.from([0x1d]), detachKey("none"))).toBeUndefined();
    for (const bad of ["]", "ctrl-", "ctrl-ab", "alt-x", "ctrl-1"])
      expect(() => detachKey(bad)).toThrow("ctrl-]");
  });
});
