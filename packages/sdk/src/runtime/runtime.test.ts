/** `metadata` and `logger` on a bridge, and how log entries look. */
import * as fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { logger, metadata } from "../index.ts";
import { type RuntimeBridge, runtimeKey } from "../runtime-bridge.ts";
import { formatEntry, maxEntryBytes } from "./format.ts";

const holder = globalThis as { [runtimeKey]?: RuntimeBridge };

/** Puts a bridge in place that records its calls. */
function recordingBridge(): unknown[][] {
  const calls: unknown[][] = [];
  holder[runtimeKey] = {
    runId: "r",
    sessionId: "s",
    taskId: "t",
    metadata: {
      set: (...args) => calls.push(["set", ...args]),
      patch: (...args) => calls.push(["patch", ...args]),
      increment: (...args) => calls.push(["increment", ...args]),
    },
    log: (...args) => calls.push(["log", ...args]),
    call: async (...args) => calls.push(["call", ...args]),
    signal: new AbortController().signal,
  };
  return calls;
}

afterEach(() => {
  delete holder[runtimeKey];
});

describe("outside a run", () => {
  it.each([
    ["metadata.set", () => metadata.set("a", 1)],
    ["metadata.patch", () => metadata.patch({})],
    ["metadata.increment", () => metadata.increment("a")],
    ["logger.info", () => logger.info("a")],
    ["logger.warn", () => logger.warn("a")],
    ["logger.error", () => logger.error("a")],
  ])("%s says so", (name, call) => {
    expect(call).toThrow(`${name} works only inside a run`);
  });
});

describe("inside a run", () => {
  it("calls the bridge", () => {
    const calls = recordingBridge();
    metadata.set("a", { b: 1 });
    metadata.patch({ c: 2 });
    metadata.increment("n");
    metadata.increment("n", -2.5);
    logger.info("one", 2);
    logger.warn({ a: 1 });
    logger.error();
    expect(calls).toEqual([
      ["set", "a", { b: 1 }],
      ["patch", { c: 2 }],
      ["increment", "n", 1],
      ["increment", "n", -2.5],
      ["log", "info", "one 2"],
      ["log", "warn", "{ a: 1 }"],
      ["log", "error", ""],
    ]);
  });

  it("refuses bad arguments", () => {
    recordingBridge();
    expect(() => metadata.set("", 1)).toThrow("metadata.set(key): must be a non-empty string");
    expect(() => metadata.patch([] as never)).toThrow("metadata.patch(value): must be an object");
    expect(() => metadata.increment("a", Number.NaN)).toThrow("must be a finite number");
    expect(() => metadata.increment("a", "1" as never)).toThrow("must be a finite number");
  });
});

describe("formatEntry", () => {
  class Point {
    x = 1;
  }
  const circular: Record<string, unknown> = { name: "c" };
  circular.self = circular;
  const withGetter = {
    get secret(): string {
      throw new Error("called");
    },
    set only(_: unknown) {},
  };

  it.each<[unknown[], string]>([
    [[], ""],
    [["plain", "text"], "plain text"],
    [[1, -0, 2n, true, null, undefined, Symbol("s")], "1 -0 2n true null undefined Symbol(s)"],
    [["%s is %d and %i, %f%%", "x", "4.5", 4.9, "1.5px", "rest"], "x is 4.5 and 4, 1.5% rest"],
    [["%j %o %c|%s", { a: 1 }, [1], "color: red", "end"], '{"a":1} [ 1 ] |end'],
    [["100%", "sure %s"], "100% sure %s"],
    [["%s"], "%s"],
    [["%d %d", {}, 5n], "NaN 5n"],
    [
      [{ a: "it's", "b-c": [1, [2]], [Symbol("k")]: null }],
      `{ a: "it's", 'b-c': [ 1, [ 2 ] ], [Symbol(k)]: null }`,
    ],
    [[[], {}, new Map(), new Set([1])], "[] {} Map(0) {} Set(1) { 1 }"],
    [[new Map([["a", { b: 1 }]])], "Map(1) { 'a' => { b: 1 } }"],
    [[new Point()], "Point { x: 1 }"],
    [[Object.create(null)], "[Object: null prototype] {}"],
    [[new Date(0), /x/g, new Date(Number.NaN)], "1970-01-01T00:00:00.000Z /x/g Invalid Date"],
    [[new Uint8Array([1, 2])], "Uint8Array(2) [ 1, 2 ]"],
    [
      [function named() {}, () => 1, Point, Promise.resolve(1)],
      "[Function: named] [Function (anonymous)] [class: Point] Promise {}",
    ],
    [[circular], "{ name: 'c', self: [Circular] }"],
    [[withGetter], "{ secret: [Getter], only: [Setter] }"],
    [[{ a: { b: { c: { d: { e: { f: 1 } } } } } }], "{\n  a: { b: { c: { d: { e: [Object] } } } }\n}"],
  ])("renders %#", (values, text) => {
    expect(formatEntry(values).replaceAll(/\s+/g, " ")).toBe(text.replaceAll(/\s+/g, " "));
  });

  it("shows errors with stack, fields, cause and inner errors", () => {
    const cause = new TypeError("inner");
    const error = Object.assign(new Error("outer", { cause }), { code: "E_X" });
    const text = formatEntry([new AggregateError([error], "all")]);
    for (const part of [
      "AggregateError: all",
      "Error: outer",
      "code: 'E_X'",
      "[cause]: TypeError: inner",
      "runtime.test.ts",
    ]) {
      expect(text).toContain(part);
    }
  });

  it("shows the message of an error whose stack lacks it", () => {
    const error = new Error("first");
    void error.stack;
    error.message = "changed later";
    expect(formatEntry([error])).toContain("changed later");
  });

  it("survives objects that throw when they are looked at", () => {
    const hostile = new Proxy(
      {},
      {
        ownKeys: () => {
          throw new Error("no");
        },
      },
    );
    expect(formatEntry(["a", hostile])).toBe("a [cannot be inspected]");
  });

  it("cuts an entry to 64 KiB of UTF-8 with a marker, between characters", () => {
    const bytes = (text: string) => new TextEncoder().encode(text).length;
    expect(formatEntry(["x".repeat(maxEntryBytes)])).toBe("x".repeat(maxEntryBytes));
    for (const character of ["x", "ä", "€", "😀"]) {
      const text = formatEntry([`a${character.repeat(maxEntryBytes)}`]);
      expect(bytes(text)).toBeLessThanOrEqual(maxEntryBytes);
      expect(bytes(text)).toBeGreaterThan(maxEntryBytes - 8);
      expect(text).toMatch(/^a.+… \[truncated\]$/u);
      expect(text).not.toContain("�");
    }
  });

  it("does not walk a structure that cannot be shown in full", () => {
    let looked = 0;
    const element = {
      get toJSON() {
        looked += 1;
        return undefined;
      },
    };
    const wide = Array.from({ length: 1_000_000 }, () => element);
    const text = formatEntry([wide, "x".repeat(maxEntryBytes * 2), { never: "shown" }]);
    expect(text).toContain("... 999900 more items");
    expect(text).not.toContain("never");
    expect(looked).toBe(0);
  });

  it("renders any value within the limit and never throws", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.anything({
            withBigInt: true,
            withMap: true,
            withSet: true,
            withTypedArray: true,
            withNullPrototype: true,
            withSparseArray: true,
          }),
        ),
        (values) => {
          expect(new TextEncoder().encode(formatEntry(values)).length).toBeLessThanOrEqual(maxEntryBytes);
        },
      ),
    );
  });
});
