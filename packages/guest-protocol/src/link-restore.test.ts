/** The link over checkpoints: the guest's side lives on unaware while its stream is replaced under it. */
import { Duplex } from "node:stream";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { encodeFrame } from "./codec.ts";
import type { ProtocolError } from "./frames.ts";
import { ReliableLink } from "./link.ts";
import { type LinkSnapshot, linkSnapshot } from "./link-snapshot.ts";
import { ResyncScanner } from "./resync.ts";

const schema = z.object({ n: z.number(), text: z.string().optional() });
type Message = z.infer<typeof schema>;
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What is written waits in a pipe of which a restore loses the beginning and the new stream gets the rest. */
class End extends Duplex {
  peer: End | undefined;
  #inPipe: Buffer = Buffer.alloc(0);
  #scheduled = false;
  readonly #pieceBytes: number;
  frozen = false;
  constructor(pieceBytes: number) {
    super();
    this.#pieceBytes = pieceBytes;
  }
  override _read(): void {
    // Data is pushed by the peer.
  }
  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.#inPipe = Buffer.concat([this.#inPipe, chunk]);
    this.#schedule();
    done();
  }
  lose(share: number): void {
    this.#inPipe = this.#inPipe.subarray(Math.floor(this.#inPipe.length * share));
  }
  thaw(): void {
    this.frozen = false;
    this.#schedule();
  }
  #schedule(): void {
    if (this.#scheduled || this.frozen || this.#inPipe.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.frozen) return;
      const piece = this.#inPipe.subarray(0, this.#pieceBytes);
      this.#inPipe = this.#inPipe.subarray(piece.length);
      if (this.peer?.destroyed === false) this.peer.push(piece);
      this.#schedule();
    });
  }
}

interface Side {
  readonly link: ReliableLink<Message, Message>;
  readonly errors: ProtocolError[];
}
function newSide(
  side: "worker" | "guest",
  received: number[],
  options: { slow?: boolean; from?: LinkSnapshot } = {},
): Side {
  const errors: ProtocolError[] = [];
  const link = new ReliableLink<Message, Message>({
    side,
    incomingSchema: schema,
    windowBytes: 400,
    onMessage: (message) => {
      if (options.slow !== true) return void received.push(message.n);
      return tick().then(() => void received.push(message.n));
    },
    onProtocolError: (error) => errors.push(error),
    ...(options.from === undefined ? {} : { from: options.from }),
  });
  return { link, errors };
}

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("worker" as const), n: fc.integer({ min: 1, max: 5 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("guest" as const), n: fc.integer({ min: 1, max: 5 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("wait" as const), n: fc.integer({ min: 1, max: 30 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("rollback" as const), n: fc.integer({ min: 0, max: 9 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("restore" as const), n: fc.integer({ min: 0, max: 10 }) }),
  },
);

describe("ReliableLink over checkpoints", () => {
  it("loses and repeats nothing, however much of the stream a restore loses", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 25 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 90 }),
        async (steps, slow, pieceBytes) => {
          const got = { worker: [] as number[], guest: [] as number[] };
          const counts = { worker: 0, guest: 0 };
          const guest = newSide("guest", got.guest, { slow });
          let worker = newSide("worker", got.worker, { slow });
          const guestEnd = new End(pieceBytes);
          const connect = (): void => {
            const end = new End(pieceBytes);
            end.peer = guestEnd;
            guestEnd.peer = end;
            worker.link.attach(end);
          };
          connect();
          guest.link.attach(guestEnd);
          const guestSends: Promise<void>[] = [];
          const workerSends: Promise<void>[] = [];
          const send = (who: "worker" | "guest", count: number): void => {
            for (let i = 0; i < count; i++) {
              const text = "x".repeat(++counts[who] % 90);
              if (who === "worker") workerSends.push(worker.link.send({ n: counts[who], text }));
              else guestSends.push(guest.link.send({ n: counts[who], text }));
            }
          };
          const openAndQuiesce = async (): Promise<void> => {
            for (;;) {
              const held = await worker.link.quiesce().then(
                () => true,
                (error: Error) => {
                  if (!/open link/.test(error.message)) throw error; // The greeting is under way.
                  return false;
                },
              );
              if (held) return;
              await tick();
            }
          };
          for (const { do: action, n } of steps) {
            if (action === "worker" || action === "guest") send(action, n);
            else if (action === "wait") for (let i = 0; i < n; i++) await tick();
            else {
              await Promise.all(workerSends);
              await openAndQuiesce();
              send("guest", n % 3);
              for (let i = 0; i < n; i++) await tick();
              if (action === "rollback") {
                worker.link.release();
                continue;
              }
              guestEnd.frozen = true;
              const from = linkSnapshot.parse(JSON.parse(JSON.stringify(worker.link.snapshot())));
              await worker.link.close();
              worker = newSide("worker", got.worker, { slow, from });
              guestEnd.lose(n / 10);
              connect();
              guestEnd.thaw();
            }
          }
          await Promise.all([...workerSends, ...guestSends]);
          await Promise.all([worker.link.acknowledged(), guest.link.acknowledged()]);
          expect([...worker.errors, ...guest.errors]).toEqual([]);
          expect(got.guest).toEqual(Array.from({ length: counts.worker }, (_, i) => i + 1));
          expect(got.worker).toEqual(Array.from({ length: counts.guest }, (_, i) => i + 1));
          await Promise.all([worker.link.close(), guest.link.close()]);
        },
      ),
      { numRuns: 100 },
    );
  }, 60_000);

  function pair(): {
    worker: Side;
    guest: Side;
    ends: [End, End];
    got: { worker: number[]; guest: number[] };
  } {
    const got = { worker: [] as number[], guest: [] as number[] };
    const [worker, guest] = [newSide("worker", got.worker), newSide("guest", got.guest)];
    const ends: [End, End] = [new End(1000), new End(1000)];
    ends[0].peer = ends[1];
    ends[1].peer = ends[0];
    worker.link.attach(ends[0]);
    guest.link.attach(ends[1]);
    return { worker, guest, ends, got };
  }
  const open = async ({ worker, guest }: ReturnType<typeof pair>): Promise<void> => {
    await worker.link.send({ n: 1 });
    await guest.link.send({ n: 1 });
    await Promise.all([worker.link.acknowledged(), guest.link.acknowledged()]);
  };

  it("delivers nothing while it is held, takes messages, and sends them when it is released", async () => {
    const both = pair();
    await open(both);
    await both.worker.link.quiesce();
    await both.guest.link.send({ n: 2 });
    await both.worker.link.send({ n: 2 });
    for (let i = 0; i < 20; i++) await tick();
    expect(both.got).toEqual({ worker: [1], guest: [1] });
    expect(both.worker.link.snapshot()).toMatchObject({ sent_seq: 2, received_seq: 1 });
    expect(() => both.worker.link.attach(new End(10))).toThrow(/held/);
    both.worker.link.release();
    both.worker.link.release();
    await Promise.all([both.worker.link.acknowledged(), both.guest.link.acknowledged()]);
    expect(both.got).toEqual({ worker: [1, 2], guest: [1, 2] });
    expect(() => both.worker.link.snapshot()).toThrow(/held link/);
    await Promise.all([both.worker.link.close(), both.guest.link.close()]);
  });

  it("rejects quiesce and goes on when the guest does not answer, is cut, or the link closes", async () => {
    const silent = pair();
    await open(silent);
    silent.ends[1].frozen = true;
    await expect(silent.worker.link.quiesce({ limitMs: 5 })).rejects.toThrow(/did not answer within 5 ms/);
    silent.ends[1].thaw();
    await silent.worker.link.send({ n: 2 });
    await silent.worker.link.acknowledged();
    expect(silent.got.guest).toEqual([1, 2]);
    const cut = silent.worker.link.quiesce();
    silent.ends[0].destroy();
    await expect(cut).rejects.toThrow(/cut/);
    await Promise.all([silent.worker.link.close(), silent.guest.link.close()]);
    await expect(silent.worker.link.quiesce()).rejects.toThrow(/closed/);

    const closing = pair();
    await expect(closing.guest.link.quiesce()).rejects.toThrow(/worker's side/);
    await open(closing);
    const held = closing.worker.link.quiesce();
    void closing.worker.link.close();
    await expect(held).rejects.toThrow(/closed/);
    await closing.guest.link.close();
  });

  it("refuses a snapshot that would lose what waits for the window", async () => {
    const both = pair();
    await open(both);
    await both.worker.link.quiesce();
    await both.worker.link.send({ n: 2, text: "x".repeat(500) });
    const waiting = both.worker.link.send({ n: 3 });
    expect(() => both.worker.link.snapshot()).toThrow(/await send/);
    both.worker.link.release();
    await waiting;
    await Promise.all([both.worker.link.close(), both.guest.link.close()]);
  });

  const hello = { frame: "hello", last_received: 0 };
  it.each<[string, "worker" | "guest", unknown[]]>([
    ["a guest that asks for a new start", "worker", [{ ...hello, resync: "ab".repeat(32) }]],
    ["a guest that asks for a sync", "worker", [hello, { frame: "sync", number: 1 }]],
    ["an answer nobody asked for", "worker", [hello, { frame: "synced", number: 1 }]],
    ["a worker that answers", "guest", [hello, { frame: "synced", number: 1 }]],
  ])("ends with a ProtocolError on %s", async (_, side, frames) => {
    const { link, errors } = newSide(side, []);
    const [left, right] = [new End(1000), new End(1000)];
    [left.peer, right.peer] = [right, left];
    link.attach(left);
    right.resume();
    for (const frame of frames) right.write(encodeFrame(frame));
    while (!left.destroyed) await tick();
    expect(errors).toHaveLength(1);
    right.destroy();
  });

  it("refuses a snapshot that is none", () => {
    const from = { format: 1 as const, sent_seq: 0, received_seq: 0, unacknowledged: ["AAAA"] };
    expect(() => newSide("worker", [], { from })).toThrow(RangeError);
    expect(() => newSide("guest", [], { from })).toThrow(/worker's side/);
    expect(linkSnapshot.safeParse({ ...from, unacknowledged: ["?"] }).success).toBe(false);
  });
});

describe("ResyncScanner", () => {
  it("finds its marker over every chunking, and gives exactly what follows", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.uint8Array({ maxLength: 50 }),
        fc.integer({ min: 1, max: 70 }),
        (before, after, chunk) => {
          const scanner = new ResyncScanner();
          const stream = Buffer.concat([before, Buffer.from(scanner.marker, "hex"), after]);
          let found: Buffer[] | undefined;
          for (let at = 0; at < stream.length; at += chunk) {
            const piece = stream.subarray(at, at + chunk);
            if (found !== undefined) found.push(piece);
            else {
              const rest = scanner.push(piece);
              if (rest !== undefined) found = [rest];
            }
          }
          expect(Buffer.concat(found ?? []).equals(Buffer.from(after))).toBe(true);
        },
      ),
    );
  });

  it("gives up on a stream without end", () => {
    const scanner = new ResyncScanner();
    const chunk = Buffer.alloc(8 << 20, 1);
    expect(() => {
      for (let i = 0; i < 20; i++) scanner.push(chunk);
    }).toThrow(/does not answer/);
  });
});
