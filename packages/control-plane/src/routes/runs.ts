/** Runs: reading, cancelling, following (contract 6). */
import {
  cancelRun,
  countRuns,
  getRun,
  isTerminal,
  listRunEvents,
  listRunLogChunks,
  listRuns,
  readRunLogs,
  type Scope,
} from "@helmr/store";
import type { Context } from "../context.ts";
import { tellCancelled, tellWork } from "../hints.ts";
import type { Handlers } from "../http/handlers.ts";
import { type StreamPage, streamCursor, wantsStream } from "../http/stream-hub.ts";
import { presentPage, presentRunEvent } from "../present/event.ts";
import { presentLogChunk, presentLogs, presentOperation } from "../present/run.ts";
import { found } from "./found.ts";
import { presentRunNow, presentRuns } from "./pending-waits.ts";

const defaultListLimit = 100;
const defaultEventLimit = 200;
/** Frames of one read: bounds what a subscriber holds in memory. */
const streamPage = 500;
/** A chunk has up to 48 KiB: at most 2 MiB are read for one subscriber at a time, however slow it is. */
const logStreamPage = 32;
const eventKeepAliveMs = 25_000;
const logKeepAliveMs = 1000;
const terminalKinds = new Set(["run.completed", "run.failed", "run.cancelled", "run.expired"]);

type RunHandlers = Pick<
  Handlers,
  "listRuns" | "countRuns" | "getRun" | "cancelRun" | "listRunEvents" | "readRunLogs"
>;

export function runHandlers(context: Context): RunHandlers {
  const { db, bus, streams } = context;
  return {
    listRuns: async ({ scope, query }) => {
      const runs = await listRuns(db, scope, {
        status: query.status ?? "live",
        limit: query.limit ?? defaultListLimit,
        ...(query.session_id === undefined ? {} : { sessionId: query.session_id }),
        ...(query.schedule_id === undefined ? {} : { scheduleId: query.schedule_id }),
      });
      return { status: 200, body: { runs: await presentRuns(db, runs) } };
    },
    countRuns: async ({ scope }) => ({ status: 200, body: await countRuns(db, scope) }),
    getRun: async ({ scope, params }) => {
      const run = found(await getRun(db, scope, params.runID), "run");
      return { status: 200, body: await presentRunNow(db, run) };
    },
    cancelRun: async ({ scope, params, body }) => {
      const request = {
        reason: body.reason || undefined,
        force: body.force,
        idempotencyKey: body.idempotency_key,
      };
      const result = found(await cancelRun(db, scope, params.runID, request), "run");
      tellCancelled(bus, [{ runId: result.run.id, workerInstanceId: result.workerInstanceId }]);
      if (isTerminal(result.run.status)) tellWork(bus, result.run.worker_group_id);
      return {
        status: 200,
        body: { run: await presentRunNow(db, result.run), operation: presentOperation(result.operation) },
      };
    },
    listRunEvents: async (call) => {
      const {
        scope,
        params: { runID },
        query,
        request,
      } = call;
      found(await getRun(db, scope, runID), "run");
      if (wantsStream(request, query.follow)) {
        return await streams.stream(call, {
          topic: `run:${runID}`,
          event: "run_event",
          cursor: streamCursor(request, query.cursor),
          keepAliveMs: eventKeepAliveMs,
          sharedAs: `run_event ${runID}`,
          next: (cursor) => nextEvents(context, scope, runID, cursor),
        });
      }
      const [cursor, limit] = [query.cursor ?? 0, query.limit ?? defaultEventLimit];
      const rows = await listRunEvents(db, scope, runID, { after: cursor, limit: limit + 1 });
      return { status: 200, body: presentPage(rows.map(presentRunEvent), cursor, limit) };
    },
    readRunLogs: async (call) => {
      const {
        scope,
        params: { runID },
        query,
        request,
      } = call;
      if (wantsStream(request, query.follow)) {
        found(await getRun(db, scope, runID), "run");
        return await streams.stream(call, {
          topic: `run:${runID}`,
          event: "run_log",
          cursor: streamCursor(request, query.cursor),
          keepAliveMs: logKeepAliveMs,
          sharedAs: `run_log ${runID}`,
          next: (cursor) => nextLogs(context, scope, runID, cursor),
        });
      }
      return { status: 200, body: presentLogs(found(await readRunLogs(db, scope, runID), "run")) };
    },
  };
}

/** The terminal event is a run's last; who resumes behind it is told by the run's status. */
async function nextEvents({ db }: Context, scope: Scope, runId: string, cursor: number): Promise<StreamPage> {
  const rows = await listRunEvents(db, scope, runId, { after: cursor, limit: streamPage });
  const frames = rows.map((row) => ({ id: row.seq, data: presentRunEvent(row) }));
  const last = rows.at(-1);
  const ended =
    last === undefined ? await hasEndedBefore({ db }, scope, runId, cursor) : terminalKinds.has(last.kind);
  return { frames, full: rows.length === streamPage, ended };
}

async function hasEndedBefore({ db }: Pick<Context, "db">, scope: Scope, runId: string, cursor: number) {
  const run = await getRun(db, scope, runId);
  return run === undefined || (isTerminal(run.status) && cursor >= run.event_seq);
}

/** The status is read before the chunks: nothing is written to a run's logs after its end. */
async function nextLogs({ db }: Context, scope: Scope, runId: string, cursor: number): Promise<StreamPage> {
  const run = await getRun(db, scope, runId);
  const rows = await listRunLogChunks(db, scope, runId, { after: cursor, limit: logStreamPage });
  const full = rows.length === logStreamPage;
  const ended = !full && (run === undefined || isTerminal(run.status));
  return { frames: rows.map((row) => ({ id: row.seq, data: presentLogChunk(row) })), full, ended };
}
