import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AppendQueue } from "./append-queue.ts";
import type { AppendItem } from "./control-plane-client.ts";

const text = (items: readonly AppendItem[], stream: string) =>
  Buffer.concat(
    items.flatMap((item) =>
      item.kind === "log" && item.stream === stream ? [Buffer.from(item.content_base64, "base64")] : [],
    ),
  );

const fail = (error: unknown): never => {
  throw error;
};

describe("the append queue", () => {
  it("sends everything once, in order, numbered without gaps, in bodies that fit", async () => {
    const chunk = fc.record({
      stream: fc.constantFrom("stdout" as const, "stderr" as const),
      data: fc.uint8Array({ minLength: 1, maxLength: 48 * 1024 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(chunk, { maxLength: 20 }), async (chunks) => {
        const sent: AppendItem[] = [];
        const queue = new AppendQueue({
          send: async (items) => {
            expect(JSON.stringify({ fencing: 1, items }).length).toBeLessThanOrEqual(256 * 1024);
            sent.push(...items);
          },
          onFailure: fail,
          coalesceMs: 0,
        });
        queue.open();
        for (const { stream, data } of chunks) await queue.log(stream, data, 0);
        await queue.flush();
        for (const stream of ["stdout", "stderr"]) {
          expect(text(sent, stream)).toEqual(
            Buffer.concat(chunks.filter((each) => each.stream === stream).map((each) => each.data)),
          );
        }
        expect(sent.map((item) => item.number)).toEqual(sent.map((_, index) => index + 1));
      }),
      { numRuns: 50 },
    );
  });

  it("holds everything back until it is opened, and makes the producer wait when nothing moves", async () => {
    const release = Promise.withResolvers<void>();
    const sent: AppendItem[] = [];
    const queue = new AppendQueue({
      send: async (items) => {
        await release.promise;
        sent.push(...items);
      },
      onFailure: fail,
    });
    let accepted = 0;
    const producer = (async () => {
      for (let index = 0; index < 200; index += 1) {
        await queue.log("stdout", Buffer.alloc(32 * 1024), 0);
        accepted += 1;
      }
    })();
    await new Promise((resolve) => setImmediate(resolve));
    expect(accepted).toBeLessThanOrEqual(33);
    queue.open();
    release.resolve();
    await producer;
    await queue.flush();
    expect(text(sent, "stdout").length).toBe(200 * 32 * 1024);
  });

  it("cuts logs at the limit with a notice as the last line and an event, and keeps metadata coming", async () => {
    const sent: AppendItem[] = [];
    const queue = new AppendQueue({
      send: async (items) => void sent.push(...items),
      onFailure: fail,
      logLimitBytes: 1000,
    });
    queue.open();
    for (let index = 0; index < 10; index += 1) await queue.log("stdout", Buffer.alloc(300, "x"), 0);
    await queue.metadata({ op: "increment", key: "k", amount: 1 }, 0);
    await queue.flush();
    expect(text(sent, "stdout").length).toBe(1000);
    expect(text(sent, "stderr").toString()).toContain("log output cut");
    expect(sent.filter((item) => item.kind === "event")).toHaveLength(1);
    expect(sent.at(-1)?.kind).toBe("metadata");
  });

  it("tells a failure once and lets go of producers", async () => {
    const failures: unknown[] = [];
    const queue = new AppendQueue({
      send: () => Promise.reject(new Error("gone")),
      onFailure: (error) => failures.push(error),
      coalesceMs: 0,
    });
    queue.open();
    for (let index = 0; index < 100; index += 1) await queue.log("stdout", Buffer.alloc(32 * 1024), 0);
    await queue.flush();
    expect(failures).toHaveLength(1);
  });
});
