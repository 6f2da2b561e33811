/** The frame parser: same frames for every cut of the text, limits, broken streams. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SseProtocolError, TransportError } from "../errors.ts";
import { maxFrameChars, readFrames, type SseFrame, SseParser } from "./sse.ts";

/** All frames of `chunks`, and the name of the error that ended them. */
function parse(chunks: readonly string[]): { frames: SseFrame[]; error?: string } {
  const parser = new SseParser();
  const frames: SseFrame[] = [];
  try {
    for (const chunk of chunks) for (const frame of parser.feed(chunk)) frames.push(frame);
  } catch (error) {
    return { frames, error: (error as Error).name };
  }
  return { frames };
}

/** Cuts `text` at the given places. */
function cutAt(text: string, places: readonly number[]): string[] {
  const sorted = [...new Set(places.map((place) => place % (text.length + 1)))].sort((a, b) => a - b);
  return [0, ...sorted].map((start, index) => text.slice(start, sorted[index] ?? text.length));
}

function bodyOf(
  chunks: readonly Uint8Array[],
  end: "close" | "error" | "open" = "close",
): ReadableStream<Uint8Array> {
  let next = 0;
  return new ReadableStream({
    pull(controller) {
      const chunk = chunks[next];
      next += 1;
      if (chunk !== undefined) controller.enqueue(chunk);
      else if (end === "close") controller.close();
      else if (end === "error") controller.error(new Error("connection reset"));
      else return new Promise(() => undefined);
      return undefined;
    },
  });
}

async function collect(
  body: ReadableStream<Uint8Array>,
  signal = new AbortController().signal,
  idleMs = 60_000,
) {
  const frames: SseFrame[] = [];
  for await (const frame of readFrames(body, idleMs, signal)) frames.push(frame);
  return frames;
}

describe("SseParser", () => {
  it.each([
    ["id: 5\nevent: run_event\ndata: {}\n\n", [{ event: "run_event", id: "5", data: "{}" }]],
    [
      "data:x\r\n\r\ndata: y\n\n",
      [
        { event: "message", id: undefined, data: "x" },
        { event: "message", id: undefined, data: "y" },
      ],
    ],
    ["data: a\ndata:  b\ndata\n\n", [{ event: "message", id: undefined, data: "a\n b\n" }]],
    ["data: a\rdata: b\n\n", [{ event: "message", id: undefined, data: "a\nb" }]],
    [": keep-alive\n\nevent: x\nid: 1\n\n\n\n", []],
    ["data: unfinished\n", []],
    ["retry: 5\nunknown\ndata: a:b\n\n", [{ event: "message", id: undefined, data: "a:b" }]],
  ])("reads %j", (text, frames) => {
    expect(parse([text])).toEqual({ frames });
  });

  it("gives the same frames however the text is cut", () => {
    const piece = fc.oneof(
      fc.constantFrom("\n", "\r", "\r\n", "\n\n", "\r\n\r\n", "data:", "data: x", "id: 7", "event: e", ": c"),
      fc.string({ maxLength: 5 }),
    );
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 60 }),
        fc.array(fc.nat(400), { maxLength: 30 }),
        (pieces, places) => {
          const text = pieces.join("");
          expect(parse(cutAt(text, places))).toEqual(parse([text]));
          expect(parse([...text])).toEqual(parse([text]));
        },
      ),
      { numRuns: 500 },
    );
  });

  it.each(["\n\n", "\r\n\r\n"])(
    "takes frames up to the limit and refuses longer ones, in one chunk and in many (%j)",
    (end) => {
      const fits = `data:${"x".repeat(maxFrameChars - 5)}${end}`;
      const tooLong = `data:${"x".repeat(maxFrameChars - 4)}${end}`;
      for (const size of [100_000, maxFrameChars, maxFrameChars + 1, maxFrameChars * 2]) {
        const chunks = (text: string) => text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
        expect(parse(chunks(fits)).frames).toHaveLength(1);
        expect(parse(chunks(`data: a\n\n${tooLong}`))).toMatchObject({
          frames: [{ data: "a" }],
          error: "SseProtocolError",
        });
      }
    },
  );

  it("refuses to buffer without end", () => {
    expect(parse(["x".repeat(maxFrameChars), "x".repeat(4)])).toEqual({
      frames: [],
      error: "SseProtocolError",
    });
  });
});

describe("readFrames", () => {
  const bytes = new TextEncoder().encode('data: "ä€😀"\n\ndata: cut of');

  it("joins characters that are cut between chunks, and drops an unfinished frame at the end", async () => {
    const single = Array.from(bytes, (byte) => Uint8Array.of(byte));
    expect(await collect(bodyOf(single))).toEqual([{ event: "message", id: undefined, data: '"ä€😀"' }]);
  });

  it("names a cut stream", async () => {
    await expect(collect(bodyOf([bytes], "error"))).rejects.toBeInstanceOf(TransportError);
  });

  it("names a silent stream", async () => {
    await expect(collect(bodyOf([bytes], "open"), undefined, 20)).rejects.toThrow(
      "the event stream was silent",
    );
  });

  it("ends with the signal's reason", async () => {
    const controller = new AbortController();
    const reading = collect(bodyOf([bytes], "open"), controller.signal);
    controller.abort(new Error("enough"));
    await expect(reading).rejects.toThrow("enough");
  });

  it("cancels the stream when its reader leaves, and when the format breaks", async () => {
    for (const text of ["data: a\n\n", "x".repeat(maxFrameChars + 10)]) {
      let isCancelled = false;
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => controller.enqueue(new TextEncoder().encode(text)),
        cancel: () => {
          isCancelled = true;
        },
      });
      try {
        for await (const _ of readFrames(body, 60_000, new AbortController().signal)) break;
      } catch (error) {
        expect(error).toBeInstanceOf(SseProtocolError);
      }
      expect(isCancelled).toBe(true);
    }
  });
});
