import { expect, it } from "vitest";
import { OutputLines, printable } from "./output-tail.ts";

it("splits lines over chunks, bounds them, and keeps the tail", () => {
  const lines: string[] = [];
  const output = new OutputLines((line) => lines.push(line), { lineLength: 10, maxLines: 3, tailBytes: 21 });
  output.push("stdout", Buffer.from("one\ntw"));
  output.push("stdout", Buffer.from("o\n\u001b[31mred\u001b[0m\nfour\nfive\nunfinished line"));
  expect(lines).toEqual(["one", "two", "red", "[output goes on: more than 3 lines]"]);
  expect(output.tail()).toBe("four\nfive\nunfinished");
});

it("drops what acts on a terminal", () => {
  expect(printable("a\u001b]0;title\u0007b\u0000\tc\r")).toBe("ab\tc");
});
