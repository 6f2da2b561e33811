/** POST register, heartbeat and rotate-credential: a worker comes, and stays. */
import {
  heartbeatRequest,
  heartbeatResponse,
  registerWorkerRequest,
  registerWorkerResponse,
  rotateCredentialRequest,
  rotateCredentialResponse,
} from "@helmr/api";
import {
  type AuthenticatedWorker,
  expireBuildLeases,
  expireLeases,
  expireMaterializations,
  extendLeases,
  extendMaterializations,
  type LeaseState,
  registerWorker,
  rotateCredential,
  touchWorker,
} from "@helmr/store";
import type { FastifyInstance } from "fastify";
import { tellDeployment, tellEnded, tellRun } from "../hints.ts";
import { bearerToken, unknownCredential } from "./authenticate.ts";
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
      labels: body.labels,
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
    const { leases, capacity_free: capacityFree, state } = heartbeatRequest.parse(request.body);
    const { draining } = await touchWorker(context.db, worker.workerInstanceId, {
      draining: state === "draining",
      capacityFree,
    });
    const named = leases.map((lease) => ({ leaseId: lease.lease_id, fencing: lease.fencing }));
    const states = await heldAnswer(context, worker, named, requestSignal(request, reply, context.closing));
    const answer = states.map(({ leaseId, status, cancel }) => ({
      lease_id: leaseId,
      status,
      ...(cancel && { cancel }),
    }));
    return heartbeatResponse.parse({ leases: answer, draining });
  });

  app.post("/rotate-credential", async (request) => {
    const { workerInstanceId } = await context.authentication.worker(request);
    rotateCredentialRequest.parse(request.body);
    const rotated = await rotateCredential(context.db, workerInstanceId, bearerToken(request));
    if (rotated === undefined) throw unknownCredential();
    // What was current before a rotation of an older one is not good any more.
    context.authentication.forget(workerInstanceId);
    return rotateCredentialResponse.parse({
      credential: rotated.credential,
      previous_valid_until: rotated.previousValidUntil.toISOString(),
    });
  });
}

/** A worker that registers has no work: what it had before is lost. */
async function endOldLeases(context: WorkerContext, workerInstanceId: string): Promise<void> {
  for (;;) {
    const runs = await expireLeases(context.db, { limit: sweepPage, workerInstanceId });
    const builds = await expireBuildLeases(context.db, { limit: sweepPage, workerInstanceId });
    for (const run of runs) tellRun(context.bus, run.runId);
    for (const build of builds) tellDeployment(context.bus, build.deploymentId);
    const copies = await expireMaterializations(context.db, {
      limit: sweepPage,
      workerInstanceId,
      lostAfterMs: context.workspaces.lostAfterMs,
    });
    for (const copy of copies) tellEnded(context.bus, copy);
    if (runs.length < sweepPage && builds.length < sweepPage && copies.length < sweepPage) return;
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
    slowPollMs: 2 * heartbeatHoldMs, // each try extends the leases; a lost hint is found by the next heartbeat
    signal,
    attempt: async () => {
      const { workerInstanceId } = worker;
      const states = await extendLeases(context.db, { workerInstanceId, leases, leaseDurationMs });
      last = await withCopies(context, workerInstanceId, leases, states);
      return last.some((state) => state.status === "lost" || state.cancel !== undefined) ? last : undefined;
    },
  });
  return news ?? last;
}

/** Leases that are of no run and no build may be those of live copies. */
async function withCopies(
  { db, workspaces }: WorkerContext,
  workerInstanceId: string,
  leases: readonly { leaseId: string; fencing: number }[],
  states: readonly LeaseState[],
): Promise<LeaseState[]> {
  const others = leases.filter((_lease, at) => states[at]?.status === "lost");
  const lostAfterMs = workspaces.lostAfterMs;
  const kept = new Set(await extendMaterializations(db, { workerInstanceId, leases: others, lostAfterMs }));
  return states.map((state) => (kept.has(state.leaseId) ? { ...state, status: "active" } : state));
}
