import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeBody, encodeFrame } from "./codec.ts";
import { FrameDecoder, ProtocolError } from "./frames.ts";

const value = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.string({ unit: "grapheme" }),
    fc.integer(),
    fc.double({ noNaN: true }).map((n) => (Object.is(n, -0) ? 0 : n)),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(
      fc.string().filter((key) => key !== "__proto__"),
      tie("value"),
      { maxKeys: 20, noNullPrototype: true },
    ),
  ),
})).value;

/** Cut a buffer at the given points. */
function chunks(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const points = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort(
    (a, b) => a - b,
  );
  return points.slice(1).map((end, index) => bytes.subarray(points[index], end));
}

describe("codec", () => {
  it("decodes what it encoded, whatever the chunks", () => {
    fc.assert(
      fc.property(
        fc.array(value, { maxLength: 5 }),
        fc.array(fc.nat(5000), { maxLength: 60 }),
        (values, cuts) => {
          const decoder = new FrameDecoder();
          const bytes = Buffer.concat(values.map((one) => encodeFrame(one)));
          const decoded = chunks(bytes, cuts).flatMap((chunk) => [...decoder.push(chunk)].map(decodeBody));
          expect(decoded).toEqual(values);
        },
      ),
      { numRuns: 200 },
    );
  });

  it("keeps bytes as they are and drops undefined", () => {
    const data = Buffer.from([0, 255, 128, 10]);
    const [body] = [...new FrameDecoder().push(encodeFrame({ data, absent: undefined }))];
    expect(decodeBody(body ?? Buffer.alloc(0))).toEqual({ data });
  });

  it("answers any bytes with a value or a ProtocolError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        try {
          decodeBody(Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ["a record definition", [0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61]],
    ["an extension", [0xc7, 1, 0x65, 0xc0]],
    ["a bigint", [0xcf, 0, 0, 0, 0, 0, 0, 0, 1]],
    ["a never-used token", [0xc1]],
    ["a __proto__ key", [0x81, 0xa9, ...Buffer.from("__proto__"), 0x80]],
    ["a long __proto__ key", [0x81, 0xd9, 9, ...Buffer.from("__proto__"), 0x80]],
    ["a number as key", [0x81, 0x01, 0x01]],
    ["a huge array", [0xdd, 0xff, 0xff, 0xff, 0xff]],
    ["a string past the end", [0xdb, 0x7f, 0xff, 0xff, 0xff]],
    ["two values", [0x01, 0x01]],
    ["deep nesting", [...Array<number>(40).fill(0x91), 0x01]],
    ["too many values", [0xdd, 0, 1, 0x86, 0xa1, ...Array<number>(100_001).fill(0x01)]],
  ])("refuses %s", (_, bytes) => {
    expect(() => decodeBody(Buffer.from(bytes))).toThrow(ProtocolError);
  });

  it("refuses a frame by its length prefix", () => {
    const prefix = Buffer.from([0xff, 0xff, 0xff, 0xff]);
    expect(() => [...new FrameDecoder().push(prefix)]).toThrow(ProtocolError);
    expect(() => [...new FrameDecoder().push(Buffer.alloc(4))]).toThrow(ProtocolError);
    expect(() => encodeFrame("x".repeat(20), 10)).toThrow(RangeError);
  });
});
