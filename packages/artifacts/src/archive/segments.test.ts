import fc from "fast-check";
import { expect, it } from "vitest";
import { ArchiveError } from "./errors.ts";
import { decodeSegments, encodeSegment, type Segment } from "./segments.ts";

const name = fc.stringMatching(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}$/);
const segment: fc.Arbitrary<Segment> = fc.oneof(
  fc.record({ type: fc.constant("part" as const), name, kind: fc.constantFrom("files", "tree", "json") }),
  fc.record({ type: fc.constant("file" as const), name }),
  fc.record({
    type: fc.constant("data" as const),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  }),
  fc.record({ type: fc.constant("part-end" as const) }),
);

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
const encode = (segments: readonly Segment[]) =>
  Buffer.concat(segments.flatMap((one) => [...encodeSegment(one)]));
async function decode(bytes: Buffer, size: number): Promise<Segment[]> {
  const found: Segment[] = [];
  for await (const one of decodeSegments(pieces(bytes, size))) found.push(one);
  return found;
}
/** Neighbouring data is one: where it is cut says nothing. */
function joined(segments: readonly Segment[]): string[] {
  const texts: string[] = [];
  let data = "";
  for (const one of segments) {
    if (one.type === "data") {
      data += one.bytes.toString("hex");
      continue;
    }
    if (data !== "") texts.push(data);
    data = "";
    texts.push(JSON.stringify(one));
  }
  return texts;
}

it("reads what was written, in whatever pieces", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(segment), fc.integer({ min: 1, max: 400 }), async (segments, size) => {
      const all: Segment[] = [...segments, { type: "end" }];
      expect(joined(await decode(encode(all), size))).toEqual(joined(all));
    }),
  );
});

it("refuses what lacks its end, goes on after it, or is of another kind", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(segment), fc.integer({ min: 1, max: 400 }), async (segments, size) => {
      const whole = encode([...segments, { type: "end" }]);
      const cut = whole.subarray(0, fc.sample(fc.integer({ min: 0, max: whole.length - 1 }), 1)[0]);
      for (const bytes of [cut, Buffer.concat([whole, Buffer.from("E\0\0\0\0")])])
        await expect(decode(bytes, size)).rejects.toBeInstanceOf(ArchiveError);
    }),
  );
  const part = (text: string) =>
    Buffer.concat([Buffer.from(["P".charCodeAt(0), 0, 0, 0, text.length]), Buffer.from(text)]);
  const bad = [
    "{",
    "{}",
    '{"name":"../x","kind":"files"}',
    '{"name":".x","kind":"files"}',
    '{"name":"x","kind":"?"}',
  ];
  for (const text of bad) await expect(decode(part(text), 9)).rejects.toBeInstanceOf(ArchiveError);
  await expect(decode(Buffer.from("X\0\0\0\0"), 9)).rejects.toBeInstanceOf(ArchiveError);
  await expect(decode(Buffer.from("D\xff\xff\xff\xff", "latin1"), 9)).rejects.toBeInstanceOf(ArchiveError);
});
