/** Runs (contract 6). */
import * as wire from "../wire/index.ts";
import { environment, get, post } from "./route.ts";

const readRuns = environment("runs.read");
const manageRuns = environment("runs.manage");

export const runRoutes = {
  listRuns: {
    ...get,
    ...readRuns,
    path: "/runs",
    summary: "List runs, newest first",
    query: wire.runListQuery,
    responses: { 200: wire.runList },
  },
  countRuns: {
    ...get,
    ...readRuns,
    path: "/runs/counts",
    summary: "Count runs by status",
    responses: { 200: wire.runCounts },
  },
  getRun: {
    ...get,
    ...readRuns,
    path: "/runs/:runID",
    summary: "Read a run",
    params: wire.runParams,
    responses: { 200: wire.run },
  },
  cancelRun: {
    ...post,
    ...manageRuns,
    path: "/runs/:runID/cancel",
    summary: "Cancel a run",
    params: wire.runParams,
    body: wire.runCancelRequest,
    responses: { 200: wire.runCancelResponse },
    errors: [409],
  },
  listRunEvents: {
    ...get,
    ...readRuns,
    path: "/runs/:runID/events",
    summary: "Page through or follow a run's events",
    params: wire.runParams,
    query: wire.eventQuery,
    stream: "run_event",
    responses: { 200: wire.eventPage },
  },
  readRunLogs: {
    ...get,
    ...readRuns,
    path: "/runs/:runID/logs",
    summary: "Read or follow a run's output",
    params: wire.runParams,
    query: wire.logQuery,
    stream: "run_log",
    responses: { 200: wire.runLogs },
  },
} as const;
