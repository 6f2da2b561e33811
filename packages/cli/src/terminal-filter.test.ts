/** Colours pass, everything else a terminal acts on does not, however the bytes are cut. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TerminalFilter } from "./terminal-filter.ts";

const filtered = (text: string): string => new TerminalFilter().push(Buffer.from(text)).toString();

describe("TerminalFilter", () => {
  it.each([
    ["plain text, umlauts and tabs", "a\tä€😀\r\n", "a\tä€😀\r\n"],
    ["colours", "\x1b[1;31mred\x1b[0m \x1b[38:5:1mx", "\x1b[1;31mred\x1b[0m \x1b[38:5:1mx"],
    ["moving the cursor and clearing", "a\x1b[2Jb\x1b[1;1Hc", "abc"],
    ["a window title", "a\x1b]0;title\x07b", "ab"],
    ["a clipboard write", "a\x1b]52;c;cm0gLXJm\x1b\\b", "ab"],
    ["device queries", "a\x1b[cb\x1bP+q\x1b\\c", "abc"],
    ["C1 controls", "a\u009b2Jb\u009dc", "a2Jbc"],
    ["a string that never ends", "a\x1bPhidden\nb", "a\nb"],
    ["bells, backspaces and NUL", "a\x07\b\0\x7fb", "ab"],
    ["a private mode that ends in m", "a\x1b[>4;2mb", "ab"],
  ])("handles %s", (_name, given, wanted) => {
    expect(filtered(given)).toBe(wanted);
  });

  it("gives the same wherever the bytes are cut, and only colours of the escapes", () => {
    const piece = fc.constantFrom(
      "a",
      "ä",
      "\x1b",
      "[",
      "]",
      "m",
      "0;1",
      "\x07",
      "\\",
      "\n",
      "\u009b",
      "H",
      "P",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), fc.nat(80), (pieces, at) => {
        const bytes = Buffer.from(pieces.join(""));
        const filter = new TerminalFilter();
        const cut = Buffer.concat([filter.push(bytes.subarray(0, at)), filter.push(bytes.subarray(at))]);
        expect(cut).toEqual(new TerminalFilter().push(bytes));
        const withoutColours = cut
          .toString()
          .split(new RegExp(`${"\\x1b"}\\[[0-9;:]*m`))
          .join("");
        expect(withoutColours).not.toMatch(/[^\P{Cc}\t\n\r]/u);
      }),
    );
  });
});
