/** Worker groups: labels, environments that are routed to them, tokens that workers register with. */
import {
  createBootstrapToken,
  createWorkerGroup,
  deleteWorkerGroup,
  getWorkerGroup,
  listBootstrapTokens,
  listRoutedEnvironments,
  listWorkerGroups,
  revokeBootstrapToken,
  routeEnvironment,
  updateWorkerGroup,
} from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentBootstrapToken, presentWorkerGroup } from "../present/worker.ts";
import { found } from "./found.ts";

type WorkerGroupHandlers = Pick<
  Handlers,
  | "listWorkerGroups"
  | "createWorkerGroup"
  | "getWorkerGroup"
  | "patchWorkerGroup"
  | "deleteWorkerGroup"
  | "listRoutedEnvironments"
  | "routeEnvironment"
  | "listBootstrapTokens"
  | "createBootstrapToken"
  | "revokeBootstrapToken"
>;

const what = "worker group";

export function workerGroupHandlers({ db }: Context): WorkerGroupHandlers {
  return {
    listWorkerGroups: async () => {
      const rows = await listWorkerGroups(db);
      return { status: 200, body: { worker_groups: rows.map(presentWorkerGroup) } };
    },
    createWorkerGroup: async (call) => ({
      status: 201,
      body: presentWorkerGroup(await createWorkerGroup(db, call, call.body)),
    }),
    getWorkerGroup: async ({ params }) => {
      const row = found(await getWorkerGroup(db, params.workerGroup), what);
      return { status: 200, body: presentWorkerGroup(row) };
    },
    patchWorkerGroup: async (call) => {
      const row = found(await updateWorkerGroup(db, call, call.params.workerGroup, call.body), what);
      return { status: 200, body: presentWorkerGroup(row) };
    },
    deleteWorkerGroup: async (call) => {
      found((await deleteWorkerGroup(db, call, call.params.workerGroup)) || undefined, what);
      return { status: 204, body: undefined };
    },
    listRoutedEnvironments: async ({ params }) => {
      const environments = found(await listRoutedEnvironments(db, params.workerGroup), what);
      return { status: 200, body: { environments } };
    },
    routeEnvironment: async (call) => {
      const { environment_id: environmentId } = call.body;
      const routed = await routeEnvironment(db, call, call.params.workerGroup, environmentId);
      return { status: 200, body: found(routed, "worker group or environment") };
    },
    listBootstrapTokens: async ({ params }) => {
      const rows = found(await listBootstrapTokens(db, params.workerGroup), what);
      return { status: 200, body: { tokens: rows.map(presentBootstrapToken) } };
    },
    createBootstrapToken: async (call) => {
      const { name, expires_at: expires } = call.body;
      const expiresAt = expires === undefined ? undefined : new Date(expires);
      const made = await createBootstrapToken(db, call, call.params.workerGroup, { name, expiresAt });
      const { token, secret } = found(made, what);
      return { status: 201, body: { token: presentBootstrapToken(token), secret } };
    },
    revokeBootstrapToken: async (call) => {
      const { workerGroup, bootstrapTokenID } = call.params;
      const token = found(await revokeBootstrapToken(db, call, workerGroup, bootstrapTokenID), "token");
      return { status: 200, body: presentBootstrapToken(token) };
    },
  };
}
