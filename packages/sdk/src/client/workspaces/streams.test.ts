/** Byte streams of commands and terminals: what a follower gets, wherever connections are cut; writes at their offsets. */
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  chunkFrame,
  endFrame,
  wireChunk,
  wireExec,
  workspaceFrame,
} from "../../../test-support/wire-workspaces.ts";
import {
  HelmrApiError,
  HelmrClient,
  SseProtocolError,
  type WorkspaceStreamChunk,
  WorkspaceStreamError,
  type WorkspaceStreamFollowOptions,
  WorkspaceStreamTerminalError,
} from "../../index.ts";

// A second between connections, over thousands of cuts: the delay is no part of what is tested here.
vi.mock("../retry.ts", async (original) => ({
  ...(await original<typeof import("../retry.ts")>()),
  reconnectDelayMs: 0,
}));

type Answer = (url: URL, init: RequestInit) => Response | Promise<Response>;
const asked: string[] = [];
function serve(answer: Answer): void {
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    const parsed = new URL(url);
    asked.push(`${init.method} ${parsed.pathname}${parsed.search}`);
    return await answer(parsed, init);
  });
}
beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  asked.length = 0;
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const client = () => new HelmrClient({ url: "http://127.0.0.1:1", apiKey: "k" });
const json = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status });

/** An event stream of these bytes that ends in order, or breaks. */
function events(bytes: Uint8Array | string, end: "end" | "cut" = "end"): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const all = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
      if (all.length > 0) controller.enqueue(all);
      if (end === "end") controller.close();
    },
    pull(controller) {
      if (end === "cut") controller.error(new Error("ECONNRESET"));
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

async function stdout() {
  const handle = client().workspaces.open("w1").execs;
  return (await handle.retrieve("e1")).stdout;
}
async function collect(options: WorkspaceStreamFollowOptions = {}) {
  const chunks: WorkspaceStreamChunk[] = [];
  for await (const chunk of (await stdout()).stream(options)) chunks.push(chunk);
  return chunks;
}
const bytesOf = (chunks: readonly WorkspaceStreamChunk[]) => Buffer.concat(chunks.map(({ data }) => data));
const isExec = (url: URL) => url.pathname.endsWith("/e1");

/** Serves these chunks as the server does: whole ones that end after the cursor, then the end. */
function recorded(pieces: readonly Uint8Array[]): (cursor: number) => string {
  let offset = 0;
  const placed = pieces.map((data) => {
    const start = offset;
    offset += data.length;
    return { start, end: offset, data };
  });
  return (cursor) =>
    placed
      .filter(({ end }) => end > cursor)
      .map(({ start, data }) => `: keep-alive\n\n${chunkFrame(start, data)}`)
      .join("") + endFrame("exited");
}

describe("stream", () => {
  it.each(["end", "cut"] as const)("gives each byte once wherever a connection's bytes %s", async (how) => {
    const pieces = [Buffer.from([0, 255, 10]), Buffer.from("ä€😀"), Buffer.from("x")];
    const frames = recorded(pieces);
    const whole = new TextEncoder().encode(frames(0));
    for (let cut = 0; cut < whole.length; cut += 1) {
      let connections = 0;
      serve((url) => {
        if (isExec(url)) return json({ exec: wireExec });
        connections += 1;
        const cursor = Number(url.searchParams.get("cursor") ?? 0);
        return connections === 1 ? events(whole.slice(0, cut), how) : events(frames(cursor));
      });
      const chunks = await collect();
      expect(bytesOf(chunks), `cut at ${cut}`).toEqual(Buffer.concat(pieces));
      expect(connections).toBe(2);
    }
  });

  it("gives each byte once from any cursor, through any number of cuts at any places", async () => {
    const piece = fc.uint8Array({ minLength: 1, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 8 }),
        fc.nat(),
        fc.array(fc.tuple(fc.nat(), fc.boolean()), { maxLength: 12 }),
        async (pieces, from, cuts) => {
          const all = Buffer.concat(pieces);
          const fromCursor = from % (all.length + 1);
          const frames = recorded(pieces);
          const left = [...cuts];
          serve((url) => {
            if (isExec(url)) return json({ exec: wireExec });
            const bytes = new TextEncoder().encode(frames(Number(url.searchParams.get("cursor"))));
            const cut = left.shift();
            if (cut === undefined) return events(bytes);
            return events(bytes.slice(0, cut[0] % bytes.length), cut[1] ? "cut" : "end");
          });
          const chunks = await collect({ fromCursor });
          expect(bytesOf(chunks)).toEqual(all.subarray(fromCursor));
          let at = fromCursor;
          for (const chunk of chunks) {
            expect(chunk.offsetStart).toBe(at);
            at += chunk.data.length;
            expect(chunk.offsetEnd).toBe(at);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it("asks with follow, cursor and limit, and goes on through what a server and a network do", async () => {
    const answers: (() => Response)[] = [
      () => events(chunkFrame(3, "abc")),
      () => new Response("busy", { status: 503 }),
      () => {
        throw new TypeError("fetch failed");
      },
      () => events(chunkFrame(3, "abcd") + endFrame("terminated")),
    ];
    serve((url) => (isExec(url) ? json({ exec: wireExec }) : (answers.shift() as () => Response)()));
    const chunks = await collect({ fromCursor: 4, limit: 7 });
    expect(chunks.map(({ offsetStart, data }) => [offsetStart, Buffer.from(data).toString()])).toEqual([
      [4, "bc"],
      [6, "d"],
    ]);
    expect(asked.slice(1)).toEqual(
      [4, 6, 6, 6].map(
        (cursor) => `GET /api/workspaces/w1/execs/e1/stdout?follow=1&cursor=${cursor}&limit=7`,
      ),
    );
  });

  const bad = (data: object, event = "workspace_stream_chunk") => workspaceFrame(event, data);
  it.each([
    ["an unknown event", bad({}, "workspace_stream_news")],
    ["an event without a name", "data: {}\n\n"],
    ["data that is no JSON", "event: workspace_stream_chunk\ndata: {\n\n"],
    ["data that is no object", "event: workspace_stream_terminal\ndata: []\n\n"],
    ["a chunk whose data does not fit its offsets", bad({ ...wireChunk(0, "abc"), offset_end: 4 })],
    ["a chunk whose offset is no number", bad({ ...wireChunk(0, "abc"), offset_end: "3" })],
    ["a chunk that is no base64", bad({ ...wireChunk(0, "abc"), data: "YWJj!" })],
    ["a hole", chunkFrame(0, "abc") + chunkFrame(4, "e")],
  ])("does not go on after %s", async (_, text) => {
    serve((url) => (isExec(url) ? json({ exec: wireExec }) : events(text)));
    await expect(collect({ fromCursor: 0 })).rejects.toBeInstanceOf(SseProtocolError);
    expect(asked).toHaveLength(2);
  });

  it.each([
    ["failed", endFrame("failed", { error: { message: "no such program" } }), "no such program"],
    ["lost", endFrame("lost"), "its worker is gone"],
    ["lost", workspaceFrame("workspace_stream_lost", { resource_id: "e1", cursor: 7 }), "its worker is gone"],
  ])("says that the command is %s, after what had arrived", async (state, end, says) => {
    serve((url) => (isExec(url) ? json({ exec: wireExec }) : events(chunkFrame(0, "abc") + end)));
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { data } of (await stdout()).stream()) seen.push(Buffer.from(data).toString());
    })();
    const error = await reading.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(WorkspaceStreamTerminalError);
    expect(error).toMatchObject({ name: "WorkspaceStreamTerminalError", state, resourceId: "e1", cursor: 7 });
    expect((error as Error).message).toContain(says);
    expect(seen).toEqual(["abc"]);
  });

  it("reports what the server cannot go on with, and what it refuses, at once", async () => {
    const code = "workspace_stream_cursor_expired";
    serve((url) =>
      isExec(url)
        ? json({ exec: wireExec })
        : events(workspaceFrame("workspace_stream_error", { code, message: "gone", cursor: 9 })),
    );
    const error = await collect().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(WorkspaceStreamError);
    expect(error).toMatchObject({ code, cursor: 9, message: `gone (${code})` });
    serve((url) => (isExec(url) ? json({ exec: wireExec }) : json({ error: "gone", code }, 410)));
    await expect(collect()).rejects.toBeInstanceOf(HelmrApiError);
    serve((url) => (isExec(url) ? json({ exec: wireExec }) : new Response("<html>")));
    await expect(collect()).rejects.toBeInstanceOf(SseProtocolError);
  });

  it("ends with the signal's reason, and frees the connection when its reader leaves", async () => {
    let signal: AbortSignal | null | undefined;
    serve((url, init) => {
      if (isExec(url)) return json({ exec: wireExec });
      signal = init.signal;
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => controller.enqueue(new TextEncoder().encode(chunkFrame(0, "abc"))),
      });
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    });
    const controller = new AbortController();
    const reading = (async () => {
      for await (const _ of (await stdout()).stream({ signal: controller.signal }))
        controller.abort(new Error("enough"));
    })();
    await expect(reading).rejects.toThrow("enough");
    expect(signal?.aborted).toBe(true);
    for await (const chunk of (await stdout()).stream()) {
      expect(chunk.offsetEnd).toBe(3);
      break;
    }
  });
});

describe("list", () => {
  it("gives whole chunks", async () => {
    serve((url) => json(isExec(url) ? { exec: wireExec } : { chunks: [wireChunk(0, "abc")] }));
    expect(await (await stdout()).list({ cursor: 2, limit: 5 })).toEqual([
      {
        id: "c0",
        stream: "stdout",
        offsetStart: 0,
        offsetEnd: 3,
        data: new Uint8Array([97, 98, 99]),
        observedAt: wireExec.created_at,
        createdAt: wireExec.created_at,
      },
    ]);
    expect(asked[1]).toBe("GET /api/workspaces/w1/execs/e1/stdout?cursor=2&limit=5");
  });
});

describe("writes", () => {
  const stdin = async () => (await client().workspaces.open("w1").execs.retrieve("e1")).stdin;
  const sent: { offset: number; data: string }[] = [];
  const accept: Answer = (url, init) => {
    if (isExec(url)) return json({ exec: wireExec });
    if (url.pathname.endsWith("/close")) return json({ exec: { ...wireExec, stdin_closed_at: "t" } });
    const body = JSON.parse(String(init.body)) as { offset: number; data: string };
    sent.push(body);
    return json(wireChunk(body.offset, Buffer.from(body.data, "base64"), "stdin"));
  };
  beforeEach(() => {
    sent.length = 0;
  });

  it("carry their offset and any bytes", async () => {
    serve(accept);
    const chunk = await (await stdin()).write(new Uint8Array([0, 255]), { offset: 3 });
    expect(sent).toEqual([{ offset: 3, data: "AP8=" }]);
    expect(chunk).toMatchObject({ stream: "stdin", offsetStart: 3, offsetEnd: 5 });
    await (await stdin()).write("ä", { offset: 5 });
    expect(sent[1]).toEqual({ offset: 5, data: "w6Q=" });
    await expect((await stdin()).write("x", undefined as never)).rejects.toThrow("{ offset }");
    await expect((await stdin()).write(5 as never, { offset: 0 })).rejects.toThrow("Uint8Array");
  });

  it("pipe: everything in pieces of at most 1 MiB, repeated where no answer came, then closed", async () => {
    let failures = 2;
    serve((url, init) => {
      if (url.pathname.endsWith("/stdin") && sent.length === 1 && failures > 0) {
        failures -= 1;
        if (failures === 0) throw new TypeError("fetch failed");
        return new Response("busy", { status: 503 });
      }
      return accept(url, init);
    });
    const big = Buffer.alloc(2.5 * 1024 * 1024, 7);
    const end = await (await stdin()).pipe([big, "", "end"], { offset: 10 });
    expect(end).toBe(10 + big.length + 3);
    expect(sent.map(({ offset }) => offset - 10)).toEqual([0, 1024 * 1024, 2 * 1024 * 1024, big.length]);
    expect(Buffer.concat(sent.map(({ data }) => Buffer.from(data, "base64")))).toEqual(
      Buffer.concat([big, Buffer.from("end")]),
    );
    expect(asked.at(-1)).toBe("POST /api/workspaces/w1/execs/e1/stdin/close");
  });

  it("pipe: leaves stdin open when told so, and stops at a refusal", async () => {
    serve(accept);
    await (await stdin()).pipe(["a"], { close: false });
    expect(asked.at(-1)).toBe("POST /api/workspaces/w1/execs/e1/stdin");
    const code = "workspace_exec_terminal";
    serve((url) => (isExec(url) ? json({ exec: wireExec }) : json({ error: "over", code }, 409)));
    await expect((await stdin()).pipe(["a", "b"])).rejects.toMatchObject({ status: 409 });
    expect(asked.filter((line) => line.endsWith("/stdin"))).toHaveLength(2);
  });
});
