/** Queues: what is in them, and holding them. */
import type { Queue } from "@helmr/api";
import { listQueues, pauseQueue, type QueueRow, resumeQueue } from "@helmr/store";
import type { Context } from "../context.ts";
import { tellWork } from "../hints.ts";
import type { Handlers } from "../http/handlers.ts";
import { found } from "./found.ts";

type QueueHandlers = Pick<Handlers, "listQueues" | "pauseQueue" | "resumeQueue">;

export function queueHandlers({ db, bus }: Context): QueueHandlers {
  return {
    listQueues: async ({ scope }) => ({
      status: 200,
      body: { queues: (await listQueues(db, scope)).map(present) },
    }),
    pauseQueue: async ({ scope, params }) => {
      const queue = found(await pauseQueue(db, scope, params.queueName), "queue");
      return { status: 200, body: present(queue) };
    },
    resumeQueue: async ({ scope, params }) => {
      const { queue, workerGroupIds } = found(await resumeQueue(db, scope, params.queueName), "queue");
      for (const group of workerGroupIds) tellWork(bus, group);
      return { status: 200, body: present(queue) };
    },
  };
}

function present(row: QueueRow): Queue {
  const { paused_at: pausedAt, oldest_queued_at: oldestQueuedAt, ...counts } = row;
  return {
    ...counts,
    paused: pausedAt !== null,
    ...(pausedAt === null ? {} : { paused_at: pausedAt.toISOString() }),
    ...(oldestQueuedAt === null ? {} : { oldest_queued_at: oldestQueuedAt.toISOString() }),
  };
}
