/**
 * How the server ends without a request that fails:
 *
 *   serving   →  retired: `retire`. Not ready; each answer ends its connection, so that the next request goes to another
 *                server. Everything else works as before
 *             →  closing: `close`. No new connections; streams and long polls end where they are, their clients go on elsewhere
 *             →  ending: what waits for somebody else (a worker that saves) is told to come again
 *             →  closed: connections that are left are cut
 *
 *  S1  What has arrived is answered, until `closing` is `finishRequestsMs` ago.
 *  S2  An idle connection does not hold the server: its client was told, or is told by its end.
 */
import type { FastifyInstance } from "fastify";

/** S1: an upload on a slow line, a workspace that is saved. */
const finishRequestsMs = 30_000;
/** Answers of what is ended then have this long to leave. */
const lastAnswersMs = 5_000;
const lookEveryMs = 50;

export interface Shutdown {
  readonly retired: AbortSignal;
  readonly closing: AbortSignal;
  readonly ending: AbortSignal;
  retire(): void;
  /** Safe to call twice. `streamsEnded` resolves when the streams have ended that `closing` ended. */
  close(streamsEnded: () => Promise<void>): Promise<void>;
}

/** To be called before routes are registered: the hooks are for all of them. */
export function createShutdown(app: FastifyInstance): Shutdown {
  const [retired, closing, ending] = [new AbortController(), new AbortController(), new AbortController()];
  const requests = countRequests(app);
  // Streams write their own heads, from what the reply has by then; the others are sent later than they arrive.
  app.addHook("onRequest", async (_request, reply) => {
    if (retired.signal.aborted) void reply.header("connection", "close");
  });
  app.addHook("onSend", async (_request, reply) => {
    if (retired.signal.aborted) void reply.header("connection", "close");
  });

  const closeAll = async (streamsEnded: () => Promise<void>): Promise<void> => {
    retired.abort();
    const stopped = new Promise<void>((resolve) => app.server.close(() => resolve()));
    closing.abort();
    const end = setTimeout(() => ending.abort(), finishRequestsMs - lastAnswersMs);
    const deadline = performance.now() + finishRequestsMs;
    const look = setInterval(() => {
      if (requests.running() === 0 || performance.now() > deadline) app.server.closeAllConnections();
      else app.server.closeIdleConnections(); // S2
    }, lookEveryMs);
    try {
      await Promise.all([stopped, streamsEnded()]);
      // What its hooks close is not needed by requests any more.
      await app.close();
    } finally {
      clearTimeout(end);
      clearInterval(look);
    }
  };

  let closed: Promise<void> | undefined;
  return {
    retired: retired.signal,
    closing: closing.signal,
    ending: ending.signal,
    retire: () => retired.abort(),
    close: (streamsEnded) => {
      closed ??= closeAll(streamsEnded);
      return closed;
    },
  };
}

/** How many requests are being answered: until their last byte is sent, or their connection is gone. */
function countRequests(app: FastifyInstance): { running(): number } {
  let running = 0;
  app.server.on("request", (_request, response) => {
    running += 1;
    response.once("close", () => {
      running -= 1;
    });
  });
  return { running: () => running };
}
