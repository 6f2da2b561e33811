/** Workers, as operators see them. What workers themselves ask is in ../worker. */
import {
  drainWorker,
  getWorker,
  listWorkers,
  type Operator,
  removeWorker,
  revokeCredential,
  undrainWorker,
} from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentWorker } from "../present/worker.ts";
import { found } from "./found.ts";

type WorkerHandlers = Pick<
  Handlers,
  "listWorkers" | "getWorker" | "drainWorker" | "undrainWorker" | "revokeWorkerCredential" | "removeWorker"
>;

const defaultListLimit = 100;

export function workerHandlers({ db, bus }: Context): WorkerHandlers {
  const changed = async (
    operator: Operator,
    id: string,
    change: (db: Context["db"], operator: Operator, id: string) => Promise<boolean>,
  ) => {
    found((await change(db, operator, id)) || undefined, "worker");
    // Its heartbeat that is held open is answered now.
    bus.publish(`worker:${id}`);
    return { status: 200, body: presentWorker(found(await getWorker(db, id), "worker")) } as const;
  };
  return {
    listWorkers: async ({ query }) => {
      const limit = query.limit ?? defaultListLimit;
      const rows = await listWorkers(db, {
        group: query.worker_group,
        state: query.state,
        after: query.cursor,
        limit: limit + 1,
      });
      const page = rows.slice(0, limit);
      const last = rows.length > limit ? page.at(-1) : undefined;
      return {
        status: 200,
        body: { workers: page.map(presentWorker), ...(last && { next_cursor: last.id }) },
      };
    },
    getWorker: async ({ params }) => {
      const row = found(await getWorker(db, params.workerID), "worker");
      return { status: 200, body: presentWorker(row) };
    },
    drainWorker: (call) => changed(call, call.params.workerID, drainWorker),
    undrainWorker: (call) => changed(call, call.params.workerID, undrainWorker),
    revokeWorkerCredential: (call) => changed(call, call.params.workerID, revokeCredential),
    removeWorker: async (call) => {
      found((await removeWorker(db, call, call.params.workerID)) || undefined, "worker");
      return { status: 204, body: undefined };
    },
  };
}
