/** POST register and heartbeat: a worker comes, and stays. */
import {
  heartbeatRequest,
  heartbeatResponse,
  registerWorkerRequest,
  registerWorkerResponse,
} from "@helmr/api";
import {
  type AuthenticatedWorker,
  expireBuildLeases,
  expireLeases,
  extendLeases,
  type LeaseState,
  registerWorker,
  touchWorker,
} from "@helmr/store";
import type { FastifyInstance } from "fastify";
import { tellDeployment, tellRun } from "../hints.ts";
import { bearerToken } from "./authenticate.ts";
import type { WorkerContext } from "./context.ts";
import { WorkerApiError } from "./errors.ts";
import { requestSignal } from "./request-signal.ts";
import { longPoll } from "./wait.ts";

const sweepPage = 100;

export function registrationRoutes(app: FastifyInstance, context: WorkerContext): void {
  app.post("/register", async (request) => {
    const body = registerWorkerRequest.parse(request.body);
    const registered = await registerWorker(context.db, bearerToken(request), {
      workerInstanceId: body.worker_instance_id,
      name: body.name,
      version: body.version,
      capacity: body.capacity,
      capabilities: body.capabilities,
    });
    if (registered === undefined)
      throw new WorkerApiError(401, "the bootstrap token is not valid for this worker");
    context.authentication.forget(body.worker_instance_id);
    await endOldLeases(context, body.worker_instance_id);
    return registerWorkerResponse.parse({
      credential: registered.credential,
      heartbeat_interval_ms: context.timings.heartbeatIntervalMs,
      lease_duration_ms: context.timings.leaseDurationMs,
    });
  });

  app.post("/heartbeat", async (request, reply) => {
    const worker = await context.authentication.worker(request);
    const { leases } = heartbeatRequest.parse(request.body);
    const { draining } = await touchWorker(context.db, worker.workerInstanceId);
    const named = leases.map((lease) => ({ leaseId: lease.lease_id, fencing: lease.fencing }));
    const states = await heldAnswer(context, worker, named, requestSignal(request, reply, context.closing));
    const answer = states.map(({ leaseId, status, cancel }) => ({
      lease_id: leaseId,
      status,
      ...(cancel && { cancel }),
    }));
    return heartbeatResponse.parse({ leases: answer, draining });
  });
}

/** A worker that registers has no work: what it had before is lost. */
async function endOldLeases(context: WorkerContext, workerInstanceId: string): Promise<void> {
  for (;;) {
    const runs = await expireLeases(context.db, { limit: sweepPage, workerInstanceId });
    const builds = await expireBuildLeases(context.db, { limit: sweepPage, workerInstanceId });
    for (const run of runs) tellRun(context.bus, run.runId);
    for (const build of builds) tellDeployment(context.bus, build.deploymentId);
    if (runs.length < sweepPage && builds.length < sweepPage) return;
  }
}

/** Answer at once when there is something to tell, else when there is, at the latest after the hold. */
async function heldAnswer(
  context: WorkerContext,
  worker: AuthenticatedWorker,
  leases: readonly { leaseId: string; fencing: number }[],
  signal: AbortSignal,
): Promise<LeaseState[]> {
  const { leaseDurationMs, heartbeatHoldMs } = context.timings;
  let last: LeaseState[] = [];
  const news = await longPoll({
    bus: context.bus,
    topic: `worker:${worker.workerInstanceId}`,
    waitMs: leases.length === 0 ? 0 : heartbeatHoldMs,
    signal,
    attempt: async () => {
      last = await extendLeases(context.db, {
        workerInstanceId: worker.workerInstanceId,
        leases,
        leaseDurationMs,
      });
      return last.some((state) => state.status === "lost" || state.cancel !== undefined) ? last : undefined;
    },
  });
  return news ?? last;
}
