import { PassThrough, Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { withStallLimit } from "./stall-limit.ts";

const limit = { what: "the transfer", stallMs: 50 };

test("bytes pass, and a slow transfer that moves is no stall", async () => {
  async function* slow() {
    for (let at = 0; at < 5; at++) {
      await sleep(20);
      yield Buffer.from(String(at));
    }
  }
  const moved = await withStallLimit({ ...limit, stallMs: 1000 }, (watch) =>
    buffer(watch(Readable.from(slow()))),
  );
  expect(moved.toString()).toBe("01234");
});

test("what moves after the bytes have been taken is no stall either", async () => {
  const sent = await withStallLimit({ ...limit, stallMs: 1000 }, async (watch, moved) => {
    const taken = await buffer(watch(Readable.from([Buffer.from("all")])));
    for (let part = 0; part < 60; part++) {
      await sleep(20);
      moved();
    }
    return taken.toString();
  });
  expect(sent).toBe("all");
  const silent = withStallLimit(limit, async (watch) => {
    await buffer(watch(Readable.from([Buffer.from("all")])));
    return new Promise(() => undefined);
  });
  await expect(silent).rejects.toThrow("stood still for 50 ms");
});

test("a reader that waits for something else is no stall of the source, and a source that waits is", async () => {
  const read = await withStallLimit({ ...limit, ofSource: true }, async (watch) => {
    const watched = watch(Readable.from([Buffer.from("a"), Buffer.from("b")], { highWaterMark: 1 }));
    await sleep(120);
    let text = "";
    for await (const piece of watched) {
      text += piece;
      await sleep(120);
    }
    return text;
  });
  expect(read).toBe("ab");
  const source = new PassThrough();
  source.write("a");
  const stuck = withStallLimit({ ...limit, ofSource: true }, (watch) => buffer(watch(source)));
  await expect(stuck).rejects.toThrow("stood still for 50 ms");
  await expect.poll(() => source.destroyed).toBe(true);
  const silent = withStallLimit({ ...limit, ofSource: true }, () => new Promise(() => undefined));
  await expect(silent).rejects.toThrow("stood still");
});

test("one that stands still fails, even if it never settles, and its source is destroyed", async () => {
  const source = new PassThrough();
  const stuck = withStallLimit(limit, (watch) => buffer(watch(source)));
  await expect(stuck).rejects.toThrow("the transfer stood still for 50 ms");
  await expect.poll(() => source.destroyed).toBe(true);
  await expect(withStallLimit(limit, () => new Promise(() => undefined))).rejects.toThrow("stood still");
});

test("an error of the source before anybody reads is the reader's", async () => {
  const source = new PassThrough();
  const read = withStallLimit({ ...limit, stallMs: 5000 }, async (watch) => {
    const watched = watch(source);
    source.destroy(new Error("digest differs"));
    await sleep(10);
    return await buffer(watched);
  });
  await expect(read).rejects.toThrow("digest differs");
});

test("the signal gives it up with its reason", async () => {
  const abort = new AbortController();
  const given = withStallLimit(
    { ...limit, stallMs: 5000, signal: abort.signal },
    () => new Promise(() => undefined),
  );
  abort.abort(new Error("the wait is over"));
  await expect(given).rejects.toThrow("the wait is over");
});
