/** Deployments: reading, following, promoting (contract 9). Uploading: upload-deployment.ts. */
import { ApiError, uuid } from "@helmr/api";
import {
  type DeploymentRow,
  getCurrentDeployment,
  getDeployment,
  listDeploymentEvents,
  listDeployments,
  listDeploymentTasks,
  promoteDeployment,
  type Scope,
} from "@helmr/store";
import { type Context, scheduleTiming } from "../context.ts";
import { tellDeployment, tellWork } from "../hints.ts";
import type { Handlers } from "../http/handlers.ts";
import { type StreamPage, streamCursor, wantsStream } from "../http/stream-hub.ts";
import { presentDeployment, presentTask } from "../present/deployment.ts";
import { presentDeploymentEvent, presentPage } from "../present/event.ts";
import { found } from "./found.ts";
import { receiveDeployment } from "./upload-deployment.ts";

const defaultListLimit = 50;
const defaultEventLimit = 200;
const streamPage = 500;
const keepAliveMs = 25_000;
const terminalKinds = new Set(["deployment.deployed", "deployment.failed"]);

type DeploymentHandlers = Pick<
  Handlers,
  | "createDeployment"
  | "listDeployments"
  | "getCurrentDeployment"
  | "getDeployment"
  | "listDeploymentEvents"
  | "promoteDeployment"
>;

export function deploymentHandlers(context: Context): DeploymentHandlers {
  const { db, bus, streams } = context;
  const withTasks = async (scope: Scope, row: DeploymentRow) => {
    const tasks = row.status === "deployed" ? await listDeploymentTasks(db, scope, row.id) : [];
    return presentDeployment(row, tasks.map(presentTask));
  };
  return {
    createDeployment: async ({ scope, request }) => {
      const { deployment, created } = await receiveDeployment(context, scope, request);
      if (created) {
        tellDeployment(bus, deployment.id);
        tellWork(bus, deployment.worker_group_id);
      }
      return { status: 201, body: presentDeployment(deployment, []) };
    },
    listDeployments: async ({ scope, query }) => {
      const rows = await listDeployments(db, scope, query.limit ?? defaultListLimit);
      return { status: 200, body: { deployments: rows.map((row) => presentDeployment(row, [])) } };
    },
    getCurrentDeployment: async ({ scope }) => {
      const row = await getCurrentDeployment(db, scope);
      return { status: 200, body: { deployment: row === undefined ? null : await withTasks(scope, row) } };
    },
    getDeployment: async ({ scope, params }) => {
      const row = found(await getDeployment(db, scope, params.deploymentID), "deployment");
      return { status: 200, body: await withTasks(scope, row) };
    },
    listDeploymentEvents: async (call) => {
      const {
        scope,
        params: { deploymentID },
        query,
        request,
      } = call;
      found(await getDeployment(db, scope, deploymentID), "deployment");
      if (wantsStream(request, query.follow)) {
        return await streams.stream(call, {
          topic: `deployment:${deploymentID}`,
          event: "deployment_event",
          cursor: streamCursor(request, query.cursor),
          keepAliveMs,
          next: (cursor) => nextEvents(context, scope, deploymentID, cursor),
        });
      }
      const [cursor, limit] = [query.cursor ?? 0, query.limit ?? defaultEventLimit];
      const rows = await listDeploymentEvents(db, scope, deploymentID, { cursor, limit: limit + 1 });
      const events = rows.map((row) => presentDeploymentEvent(deploymentID, row));
      return { status: 200, body: presentPage(events, cursor, limit) };
    },
    promoteDeployment: async ({ scope, params, body }) => {
      const row = await promoteDeployment(
        db,
        scope,
        promotionKey(params.deployment),
        body.reason || undefined,
        scheduleTiming(context.config),
      );
      const promoted = found(row, "deployment");
      tellWork(bus, promoted.worker_group_id);
      return { status: 200, body: presentDeployment(promoted, null) };
    },
  };
}

/** A promotion names the deployment by UUID or version. */
function promotionKey(text: string): { readonly id: string } | { readonly version: string } {
  const id = uuid.safeParse(text);
  if (id.success) return { id: id.data };
  if (/^\d{8}\.\d{1,9}$/.test(text)) return { version: text };
  throw new ApiError(400, "deployment: must be a UUID or a version like 20260606.1");
}

/** The end is read before the events: a build writes its terminal event with its last state. */
async function nextEvents({ db }: Context, scope: Scope, id: string, cursor: number): Promise<StreamPage> {
  const deployment = await getDeployment(db, scope, id);
  const rows = await listDeploymentEvents(db, scope, id, { cursor, limit: streamPage });
  const frames = rows.map((row) => ({ id: row.seq, data: presentDeploymentEvent(id, row) }));
  const full = rows.length === streamPage;
  const over = deployment === undefined || deployment.status === "deployed" || deployment.status === "failed";
  return { frames, full, ended: rows.some((row) => terminalKinds.has(row.kind)) || (over && !full) };
}
