import { Duplex } from "node:stream";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { encodeFrame } from "./codec.ts";
import type { ProtocolError } from "./frames.ts";
import { LinkClosedError, ReliableLink } from "./link.ts";

const schema = z.object({ n: z.number(), text: z.string().optional() });
type Message = z.infer<typeof schema>;

/** One end of a stream whose bytes arrive in pieces of `pieceBytes`, later; a cut loses what is on the way. */
class End extends Duplex {
  peer: End | undefined;
  readonly #pieceBytes: number;
  constructor(pieceBytes: number) {
    super();
    this.#pieceBytes = pieceBytes;
  }
  override _read(): void {
    // Data is pushed by the peer.
  }
  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    setImmediate(() => {
      for (let at = 0; at < chunk.length; at += this.#pieceBytes) {
        if (this.peer?.destroyed === false) this.peer.push(chunk.subarray(at, at + this.#pieceBytes));
      }
      done();
    });
  }
}
function streamPair(pieceBytes: number): [End, End] {
  const [left, right] = [new End(pieceBytes), new End(pieceBytes)];
  left.peer = right;
  right.peer = left;
  return [left, right];
}

function newLink(
  side: "worker" | "guest",
  received: number[],
  options: { windowBytes?: number; slow?: boolean } = {},
) {
  const errors: ProtocolError[] = [];
  const link = new ReliableLink<Message, Message>({
    side,
    incomingSchema: schema,
    onMessage: (message) => {
      received.push(message.n);
      return options.slow === true ? new Promise((resolve) => setImmediate(resolve)) : undefined;
    },
    onProtocolError: (error) => errors.push(error),
    ...(options.windowBytes === undefined ? {} : { windowBytes: options.windowBytes }),
  });
  return { link, errors };
}

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("worker" as const), count: fc.integer({ min: 1, max: 5 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("guest" as const), count: fc.integer({ min: 1, max: 5 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("wait" as const), count: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("cut" as const), count: fc.constant(1) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("attach" as const, "attach-guest-first" as const, "attach-late" as const),
      count: fc.integer({ min: 1, max: 40 }),
    }),
  },
);

describe("ReliableLink", () => {
  it("loses and repeats nothing over cuts, chunkings and orders of attach", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, slow) => {
        const got = { worker: [] as number[], guest: [] as number[] };
        const worker = newLink("worker", got.worker, { windowBytes: 300, slow });
        const guest = newLink("guest", got.guest, { windowBytes: 300, slow });
        const counts = { worker: 0, guest: 0 };
        const sends: Promise<void>[] = [];
        let ends: End[] = [];
        const attach = async (order: string, pieceBytes: number): Promise<void> => {
          const [left, right] = streamPair(pieceBytes);
          ends = [left, right];
          if (order !== "attach-guest-first") worker.link.attach(left);
          if (order === "attach-late") await tick();
          guest.link.attach(right);
          if (order === "attach-guest-first") worker.link.attach(left);
        };
        for (const { do: action, count } of steps) {
          if (action === "worker" || action === "guest") {
            for (let i = 0; i < count; i++) {
              const link = action === "worker" ? worker.link : guest.link;
              sends.push(link.send({ n: ++counts[action], text: "x".repeat(counts[action] % 90) }));
            }
          } else if (action === "wait") for (let i = 0; i < count; i++) await tick();
          else if (action === "cut") for (const end of ends) end.destroy();
          else await attach(action, count);
        }
        await attach("attach", 7);
        await Promise.all(sends);
        await Promise.all([worker.link.acknowledged(), guest.link.acknowledged()]);
        expect([...worker.errors, ...guest.errors]).toEqual([]);
        expect(got.guest).toEqual(Array.from({ length: counts.worker }, (_, i) => i + 1));
        expect(got.worker).toEqual(Array.from({ length: counts.guest }, (_, i) => i + 1));
        await Promise.all([worker.link.close(), guest.link.close()]);
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  it("holds the producer when the window is full", async () => {
    const { link } = newLink("guest", [], { windowBytes: 1000 });
    await link.send({ n: 1, text: "x".repeat(2000) });
    expect(link.writable).toBe(false);
    let accepted = false;
    const waiting = link.send({ n: 2 }).then(() => {
      accepted = true;
    });
    await tick();
    expect(accepted).toBe(false);
    const received: number[] = [];
    const worker = newLink("worker", received);
    const [left, right] = streamPair(100);
    worker.link.attach(left);
    link.attach(right);
    await waiting;
    await link.acknowledged();
    expect(received).toEqual([1, 2]);
    await Promise.all([link.close(), worker.link.close()]);
  });

  it("rejects what waits when it closes, and every later send", async () => {
    const { link } = newLink("guest", [], { windowBytes: 10 });
    await link.send({ n: 1 });
    const waiting = link.send({ n: 2 });
    const closing = link.close({ flushMs: 1 });
    await expect(waiting).rejects.toBeInstanceOf(LinkClosedError);
    await closing;
    await expect(link.send({ n: 3 })).rejects.toBeInstanceOf(LinkClosedError);
  });

  const hello = { frame: "hello", last_received: 0 };
  it.each<[string, unknown[]]>([
    ["data before hello", [{ frame: "data", seq: 1, message: { n: 1 } }]],
    ["two hellos", [hello, hello]],
    ["an acknowledgement of what was not sent", [hello, { frame: "ack", seq: 9 }]],
    ["a hello ahead of what was sent", [{ frame: "hello", last_received: 1 }]],
    ["a gap", [hello, { frame: "data", seq: 2, message: { n: 1 } }]],
    ["a repetition", [hello, ...[1, 1].map((seq) => ({ frame: "data", seq, message: { n: 1 } }))]],
    ["an invalid message", [hello, { frame: "data", seq: 1, message: { n: "one" } }]],
    ["an unknown frame", [{ frame: "bye" }]],
    ["something else", ["hello"]],
  ])("ends with a ProtocolError on %s", async (_, frames) => {
    const { link, errors } = newLink("worker", []);
    const [left, right] = streamPair(1000);
    link.attach(left);
    right.resume();
    for (const frame of frames) right.write(encodeFrame(frame));
    while (!left.destroyed) await tick();
    expect(errors).toHaveLength(1);
    await expect(link.send({ n: 1 })).rejects.toBeInstanceOf(LinkClosedError);
    right.destroy();
  });
});
