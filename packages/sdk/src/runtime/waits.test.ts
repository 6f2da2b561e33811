/** Streams, tokens and timers on a bridge: what they ask for, when, and what they make of the answers. */
import { afterEach, beforeEach, describe, expect, expectTypeOf, it } from "vitest";
import * as z from "zod";
import { streamDefinitions } from "../authoring/streams-registry.ts";
import {
  ConcurrentWaitError,
  type InputStream,
  streams,
  timers,
  tokens,
  WaitCancelledError,
  WaitTimeoutError,
} from "../index.ts";
import { type BridgeMethod, type RuntimeBridge, runtimeKey } from "../runtime-bridge.ts";
import { durationSeconds } from "./duration.ts";

const holder = globalThis as { [runtimeKey]?: RuntimeBridge };
type Answer = (params: Record<string, unknown>) => unknown;

let asked: { method: BridgeMethod; params: Record<string, unknown> }[];
let answers: Partial<Record<BridgeMethod, Answer>>;
let runSignal: AbortController;

beforeEach(() => {
  asked = [];
  answers = {};
  runSignal = new AbortController();
  holder[runtimeKey] = {
    runId: "r",
    sessionId: "s",
    taskId: "t",
    metadata: { set: () => {}, patch: () => {}, increment: () => {} },
    log: () => {},
    signal: runSignal.signal,
    call: async (method, params) => {
      asked.push({ method, params });
      const answer = answers[method];
      if (answer === undefined) return await new Promise(() => {});
      return await answer(params);
    },
  };
});
afterEach(() => {
  delete holder[runtimeKey];
});

let streamNumber = 0;
/** Positions are kept per stream for the life of the process, so each test has streams of its own. */
const fresh = () => {
  streamNumber += 1;
  return `stream-${streamNumber}`;
};
const record = (sequence: number, data: unknown, correlation_id?: string) => ({
  id: `00000000-0000-7000-8000-00000000000${sequence}`,
  sequence,
  data,
  content_type: "application/json",
  created_at: "2026-06-06T12:00:00.000Z",
  ...(correlation_id === undefined ? {} : { correlation_id }),
});
const completed = (result: unknown) => ({ status: "completed", result });

describe("durations", () => {
  it.each([
    ["90s", 90],
    ["1.5h", 5400],
    ["500ms", 1],
    [0.2, 1],
    [61.1, 62],
    [{ minutes: 2, hours: 9 }, 120],
    [{ seconds: 3, milliseconds: 9 }, 3],
    [{ duration: "2m" }, 120],
  ])("%j are %i seconds", (given, seconds) => {
    expect(durationSeconds(given, "x")).toBe(seconds);
  });

  it.each(["1d", "-1s", "1h30m", "", 0, -1, Number.NaN, Number.POSITIVE_INFINITY, null, {}, []])(
    "%j is refused by name",
    (given) => {
      expect(() => durationSeconds(given, "timers.waitFor(duration)")).toThrow(
        /timers\.waitFor\(duration\): must be/,
      );
    },
  );
});

describe("a handle", () => {
  it("begins when it is awaited, once", async () => {
    answers.wait = () => completed(null);
    const handle = timers.waitFor("10s");
    await Promise.resolve();
    expect(asked).toEqual([]);
    expect(await handle).toEqual({ ok: true, data: undefined });
    await handle;
    await handle.unwrap();
    expect(asked).toHaveLength(1);
  });

  it("refuses a second one while one is pending, and lets the next one begin when it is over", async () => {
    const first = Promise.withResolvers<unknown>();
    answers.wait = () => first.promise;
    const pending = timers.waitFor(5).unwrap();
    await expect(timers.waitFor(5).unwrap()).rejects.toBeInstanceOf(ConcurrentWaitError);
    first.resolve(completed(null));
    await pending;
    answers.wait = () => completed(null);
    expect((await timers.waitUntil(new Date(0))).ok).toBe(true);
  });

  it("gives a timeout and a cancel as errors of their own", async () => {
    const input = streams.input(fresh());
    answers.wait = () => ({ status: "timed_out" });
    const result = await input.wait({ timeout: "1s" });
    expect(!result.ok && result.error).toBeInstanceOf(WaitTimeoutError);
    answers.wait = () => ({ status: "cancelled" });
    await expect(input.wait().unwrap()).rejects.toBeInstanceOf(WaitCancelledError);
  });

  it("rejects outside a run", async () => {
    delete holder[runtimeKey];
    await expect(timers.waitFor(1).unwrap()).rejects.toThrow(/works only inside a run/);
    // Over HTTP then, with a client made from the environment.
    await expect(tokens.create()).rejects.toThrow(/HELMR_API_URL/);
    await expect(streams.output(fresh()).append(1)).rejects.toThrow(/works only inside a run/);
  });
});

describe("timers", () => {
  it("wait from when they are awaited, or until a date", async () => {
    answers.wait = () => completed(null);
    const before = Date.now();
    await timers.waitFor({ minutes: 1 });
    const { due_at } = (asked[0]?.params.wait_for ?? {}) as { due_at?: string };
    const due = Date.parse(due_at ?? "");
    expect(due - before).toBeGreaterThanOrEqual(60_000);
    await timers.waitUntil({ date: "2030-01-01T00:00:00Z" });
    expect(asked[1]?.params.wait_for).toEqual({ kind: "timer", due_at: "2030-01-01T00:00:00.000Z" });
    expect(() => timers.waitUntil("tomorrow")).toThrow(/must be a Date/);
  });

  it("take labels within their limits", () => {
    expect(() => timers.waitFor(1, { tags: Array.from({ length: 33 }, () => "x") })).toThrow(/at most 32/);
    expect(() => timers.waitFor(1, { tags: ["é".repeat(65)] })).toThrow(/at most 128 bytes/);
    expect(() => timers.waitFor(1, { metadata: { a: "x".repeat(65 * 1024) } })).toThrow(
      /at most 65536 bytes/,
    );
  });
});

describe("input", () => {
  it("is read on, per correlation id; a reader of one goes on after readers of all", async () => {
    const id = fresh();
    const input = streams.input<string>(id);
    answers.wait = () => completed(record(3, "a"));
    expect(await input.wait().unwrap()).toBe("a");
    expect(asked[0]?.params).toMatchObject({
      wait_for: { kind: "stream", stream: id },
      metadata: {},
      tags: [],
    });
    expect(asked[0]?.params.wait_for).not.toHaveProperty("after_sequence");
    answers.wait = () => completed(record(5, "b", "x"));
    await input.wait({ correlationId: "x" });
    expect(asked[1]?.params.wait_for).toMatchObject({ after_sequence: 3, correlation_id: "x" });
    answers.wait = () => completed(record(4, "c"));
    await input.wait();
    expect(asked[2]?.params.wait_for).toMatchObject({ after_sequence: 3 });
    await input.wait({ afterSequence: 0 });
    expect(asked[3]?.params.wait_for).toMatchObject({ after_sequence: 0 });
  });

  it("that does not fit the schema is the wait's error, and taken", async () => {
    const input = streams.input(fresh(), { schema: z.object({ n: z.coerce.number() }) });
    expectTypeOf(input).toEqualTypeOf<InputStream<{ n: number }>>();
    answers.wait = () => completed(record(1, { n: "7" }));
    expect(await input.wait().unwrap()).toEqual({ n: 7 });
    answers.wait = () => completed(record(2, { n: {} }));
    const result = await input.wait();
    expect(!result.ok && result.error.name).toBe("PayloadSchemaValidationError");
    answers.wait = () => completed(record(3, { n: 1 }));
    await input.wait();
    expect(asked[2]?.params.wait_for).toMatchObject({ after_sequence: 2 });
  });

  it("once polls until something comes or its time is over", async () => {
    const input = streams.input<number>(fresh());
    const pages = [[], [], [record(1, 42)]];
    answers["stream.read"] = () => ({ records: pages.shift() ?? [], after_sequence: 0 });
    expect(await input.once().unwrap()).toBe(42);
    expect(asked).toHaveLength(3);
    expect(asked[0]?.params).toMatchObject({ direction: "input", take: true, limit: 1 });
    answers["stream.read"] = () => ({ records: [], after_sequence: 1 });
    const late = Date.now;
    let now = late();
    Date.now = () => (now += 600);
    try {
      const result = await input.once({ timeout: "1s" });
      expect(!result.ok && result.error).toBeInstanceOf(WaitTimeoutError);
    } finally {
      Date.now = late;
    }
  });

  it("on hands each record over in order, stops when told or when the run ends, and passes a handler's failure on", async () => {
    const input = streams.input<number>(fresh());
    let next = 0;
    answers["stream.read"] = () => {
      next += 1;
      return { records: [record(next, next)], after_sequence: next - 1 };
    };
    const seen: number[] = [];
    const subscription = input.on((data) => {
      seen.push(data);
      if (data === 3) subscription.stop();
    });
    await subscription.done;
    expect(seen).toEqual([1, 2, 3]);
    const ended = input.on(() => runSignal.abort());
    await ended.done;
    runSignal = new AbortController();
    Object.assign(holder[runtimeKey] ?? {}, { signal: runSignal.signal });
    await expect(
      input.on(() => {
        throw new Error("no");
      }).done,
    ).rejects.toThrow("no");
  });

  it("peek leaves the record", async () => {
    const input = streams.input<string>(fresh());
    answers["stream.read"] = () => ({ records: [record(1, "a")], after_sequence: 0 });
    expect([await input.peek(), await input.peek()]).toEqual(["a", "a"]);
    expect(asked.every(({ params }) => params.take === false && !("after_sequence" in params))).toBe(true);
    answers["stream.read"] = () => ({ records: [], after_sequence: 0 });
    expect(await input.peek()).toBeUndefined();
  });
});

describe("output", () => {
  it("is checked, then appended as it was given", async () => {
    const output = streams.output(fresh(), {
      schema: z.object({ n: z.number() }).transform(({ n }) => `${n}`),
    });
    answers["stream.append"] = ({ data_json }) => ({ record: record(1, JSON.parse(String(data_json))) });
    expect(await output.append({ n: 1 }, { contentType: "a/b", correlationId: "c" })).toMatchObject({
      sequence: 1,
      data: { n: 1 },
    });
    expect(asked[0]?.params).toMatchObject({
      data_json: '{"n":1}',
      content_type: "a/b",
      correlation_id: "c",
    });
    await expect(output.append({ n: "x" } as never)).rejects.toThrow(/stream ".*" is invalid/);
    await expect(streams.output(fresh()).append("x".repeat(256 * 1024))).rejects.toThrow(/limit is 262144/);
    await expect(streams.output(fresh()).append(undefined)).rejects.toThrow(/must be JSON/);
  });

  it("pipes and writes in order", async () => {
    const output = streams.output<number>(fresh());
    const stored: number[] = [];
    answers["stream.append"] = async ({ data_json }) => {
      await new Promise((resolve) => setTimeout(resolve, Number(data_json) === 1 ? 10 : 0));
      stored.push(Number(data_json));
      return { record: record(stored.length, Number(data_json)) };
    };
    expect(
      await output.pipe(
        (async function* () {
          yield 1;
          yield 2;
        })(),
      ),
    ).toBe(2);
    const writer = output.writer();
    void writer.write(1);
    void writer.write(3);
    await writer.close();
    expect(stored).toEqual([1, 2, 1, 3]);
    await expect(writer.write(4)).rejects.toThrow(/closed/);
  });

  it("is read and listed", async () => {
    const output = streams.output<number>(fresh());
    answers["stream.read"] = ({ limit }) => ({
      records: [record(1, 1), record(2, 2)].slice(0, Number(limit)),
      after_sequence: 0,
    });
    expect((await output.read())?.data).toBe(1);
    expect((await output.list({ cursor: 0, limit: 5 })).map(({ data }) => data)).toEqual([1, 2]);
    expect(() => output.list({ limit: 501 })).toThrow(/from 1 to 500/);
    answers["stream.read"] = () => ({ records: [], after_sequence: 0 });
    expect(await output.read({ cursor: 9 })).toBeNull();
  });
});

describe("tokens", () => {
  it("are made with their secrets, and waited for", async () => {
    answers["token.create"] = () => ({
      token: {
        id: "019a0000-0000-7000-8000-000000000000",
        status: "pending",
        callback_url: "https://x/callback",
        public_access_token: "hlmr_public_access_x",
        timeout_at: "2030-01-01T00:00:00Z",
      },
    });
    const token = await tokens.create<{ yes: boolean }>({ timeout: "2h", tags: ["a"], metadata: { b: 1 } });
    expect(asked[0]?.params).toEqual({ timeout_ms: 7_200_000, tags: ["a"], metadata: { b: 1 } });
    expect(token).toMatchObject({
      callbackUrl: "https://x/callback",
      publicAccessToken: "hlmr_public_access_x",
    });
    answers.wait = () => completed({ yes: true });
    expect((await token.wait({ timeout: "1m" }).unwrap()).yes).toBe(true);
    expect(asked[1]?.params.wait_for).toEqual({ kind: "token", token_id: token.id, timeout_ms: 60_000 });
    await tokens.wait(token.id);
    expect(asked[2]?.params.wait_for).toEqual({ kind: "token", token_id: token.id });
    expect(() => tokens.wait("x")).toThrow(/must match/);
    for (const key of ["projectId", "environmentId", "signal"]) {
      await expect(tokens.create({ [key]: "x" })).rejects.toThrow(/inside a run/);
    }
  });
});

describe("declarations", () => {
  it("are recorded for the deployment; another schema's vendor and a bad name are refused", () => {
    const id = fresh();
    streams.input(id, { schema: z.string() });
    streams.output(id);
    streams.output(id);
    expect(streamDefinitions().filter(({ name }) => name === id)).toEqual([
      { name: id, direction: "input", schema_vendor: "zod" },
      { name: id, direction: "output" },
    ]);
    expect(() => streams.input(id)).toThrow(/declared both with a schema of zod and with no schema/);
    for (const name of ["", "-x", "a b", "x".repeat(257)])
      expect(() => streams.input(name)).toThrow(/streams\.input/);
    expect(() => streams.input(fresh(), { schema: {} as never })).toThrow(/must be a Standard Schema/);
  });
});
