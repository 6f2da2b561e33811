/** Queues: what is in them, and holding them. */
import * as wire from "../wire/index.ts";
import { environment, get, post } from "./route.ts";

const one = {
  params: wire.queueParams,
  responses: { 200: wire.queue },
  bodyIgnored: true,
} as const;

export const queueRoutes = {
  listQueues: {
    ...get,
    ...environment("runs.read"),
    path: "/queues",
    summary: "List queues by name: limit, pause, and how many runs are in each",
    responses: { 200: wire.queueList },
  },
  pauseQueue: {
    ...post,
    ...environment("runs.manage"),
    ...one,
    path: "/queues/:queueName/pause",
    summary: "Start no more runs of a queue; what has started goes on",
  },
  resumeQueue: {
    ...post,
    ...environment("runs.manage"),
    ...one,
    path: "/queues/:queueName/resume",
    summary: "Start runs of a paused queue again",
  },
} as const;
