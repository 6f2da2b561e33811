/** Following a stream over a line that breaks anywhere: nothing doubles, nothing is lost, order is kept. */
import type { ServerResponse } from "node:http";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createApiClient } from "../src/client/api-client.ts";
import { follow } from "../src/client/follow.ts";
import { type Frame, frameText, scriptedServer } from "./support/scripted-server.ts";
import { event, logFrame } from "./support/wire.ts";

/** What one connection does: sends from `rewind` frames before the cursor, `bytes` bytes, then breaks or ends. */
interface Connection {
  readonly rewind: number;
  readonly bytes: number;
  readonly end: "break" | "clean" | "status";
}
const connection = fc.record<Connection>({
  rewind: fc.nat(3),
  bytes: fc.nat(900),
  end: fc.constantFrom("break", "clean", "status"),
});

describe("follow", () => {
  it("gives every byte once, whatever the connections do", async () => {
    const content = fc.uint8Array({ maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(content, { maxLength: 12 }),
        fc.array(connection, { maxLength: 6 }),
        async (pieces, script) => {
          const frames = pieces.map((piece, index) => ({
            id: index + 1,
            data: logFrame(index + 1, "stdout", piece),
          }));
          let turn = 0;
          await using server = await scriptedServer({
            "GET /stream": (asked, response) => {
              const plan = script[turn];
              turn += 1;
              play(response, frames, Number(asked.headers["last-event-id"] ?? 0), plan);
            },
          });
          const api = createApiClient({
            url: server.url,
            token: "key",
            signal: AbortSignal.timeout(30_000),
          });
          // Over once the scripted connections are used up: the next one is complete.
          const isOver = async () => turn >= script.length;
          const got: string[] = [];
          for await (const frame of follow({
            api,
            path: "/stream",
            schema: "runLogFrame",
            isOver,
            reconnectDelayMs: 1,
          })) {
            got.push(frame.content_base64);
          }
          expect(got).toEqual(pieces.map((piece) => Buffer.from(piece).toString("base64")));
          expect(server.asked.every((asked) => asked.headers.accept === "text/event-stream")).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("ends at the last frame without waiting for the server to end", async () => {
    await using server = await scriptedServer({
      "GET /events": (_asked, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write(frameText("run_event", { id: 1, data: event(1, "run.completed") }));
      },
    });
    const api = createApiClient({ url: server.url, token: "key", signal: AbortSignal.timeout(30_000) });
    const isLast = (item: { kind: string }) => item.kind === "run.completed";
    const kinds: string[] = [];
    for await (const item of follow({
      api,
      path: "/events",
      schema: "event",
      isOver: async () => false,
      isLast,
    }))
      kinds.push(item.kind);
    expect(kinds).toEqual(["run.completed"]);
  });

  it.each([
    ["a 404", { status: 404, json: { error: "run not found" } }, { exitCode: 3, message: "run not found" }],
    ["a 401", { status: 401, json: { error: "no" } }, { exitCode: 4 }],
    ["a frame without an id", text("data: {}\n\n"), { exitCode: 7, message: /frame id/ }],
    ["data that is not JSON", text("id: 1\ndata: x\n\n"), { exitCode: 7, message: /not JSON/ }],
    [
      "data of another shape",
      text('id: 1\ndata: {"a":1}\n\n'),
      { exitCode: 7, message: /unexpected answer/ },
    ],
  ])("gives up at %s", async (_what, answer, expected) => {
    await using server = await scriptedServer({ "GET /x": answer });
    const api = createApiClient({ url: server.url, token: "key", signal: AbortSignal.timeout(30_000) });
    const all = drain(
      follow({ api, path: "/x", schema: "event", isOver: async () => false, reconnectDelayMs: 1 }),
    );
    await expect(all).rejects.toMatchObject(
      "message" in expected && expected.message instanceof RegExp
        ? { exitCode: expected.exitCode, message: expect.stringMatching(expected.message) }
        : expected,
    );
  });
});

async function drain(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}

function text(body: string) {
  return (_asked: unknown, response: ServerResponse) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(body);
  };
}

function play(
  response: ServerResponse,
  frames: readonly Frame[],
  cursor: number,
  plan: Connection | undefined,
): void {
  if (plan?.end === "status") {
    response.writeHead(503, { "content-type": "application/json" }).end('{"error":"busy"}');
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  // A real server resumes exactly; one that repeats a little must do no harm either.
  const rest = frames.filter((frame) => frame.id > cursor - (plan?.rewind ?? 0));
  const bytes = Buffer.from(rest.map((frame) => frameText("run_log", frame)).join(""));
  if (plan === undefined) response.end(bytes);
  else if (plan.end === "clean") response.end(bytes.subarray(0, plan.bytes));
  else response.write(bytes.subarray(0, plan.bytes), () => response.destroy());
}
