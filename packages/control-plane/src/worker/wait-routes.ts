/** POST leases/:id/waits, /park, /restore-failed and waits/poll: what runs wait for, and the checkpoints of parked ones. */
import {
  createWaitRequest,
  parkRequest,
  type parkResponse,
  pollWaitsRequest,
  type pollWaitsResponse,
  restoreFailedRequest,
  settleUploadsRequest,
  type settleUploadsResponse,
  type WaitState,
} from "@helmr/api";
import {
  createWait,
  discardUnrecorded,
  expireWaits,
  failRestore,
  listResolvedWaits,
  nextWaitDue,
  parkRun,
  type WaitFor,
  type WaitRow,
} from "@helmr/store";
import type { FastifyInstance } from "fastify";
import type { z } from "zod";
import { tellEnded, tellResolved, tellRun, tellWork } from "../hints.ts";
import { WakeUp } from "../http/wake-up.ts";
import type { WorkerContext } from "./context.ts";
import { leaseLost } from "./errors.ts";
import { leaseOf } from "./lease-routes.ts";
import { requestSignal } from "./request-signal.ts";

/** How late a lost hint is noticed. */
const slowPollMs = 1000;

export function waitRoutes(app: FastifyInstance, context: WorkerContext): void {
  const { db, bus } = context;

  app.post("/leases/:lease_id/waits", async (request): Promise<WaitState> => {
    const lease = await leaseOf(context, request);
    const body = createWaitRequest.parse(request.body);
    const result = await createWait(db, {
      ...lease,
      fencing: body.fencing,
      number: body.number,
      waitFor: waitForOf(body.wait_for),
      metadata: body.metadata,
      tags: body.tags,
    });
    if (result.status === "lost") throw leaseLost();
    tellRun(bus, result.runId);
    return stateOf(result.wait);
  });

  app.post("/waits/poll", async (request, reply): Promise<z.infer<typeof pollWaitsResponse>> => {
    const worker = await context.authentication.worker(request);
    const body = pollWaitsRequest.parse(request.body);
    const signal = requestSignal(request, reply, context.closing);
    const resolved = await pollWaits(context, worker.workerInstanceId, body.wait_ids, body.wait_ms, signal);
    return { resolved: resolved.map(stateOf) };
  });

  app.post("/leases/:lease_id/park", async (request): Promise<z.infer<typeof parkResponse>> => {
    const lease = await leaseOf(context, request);
    const body = parkRequest.parse(request.body);
    const result = await parkRun(db, {
      ...lease,
      fencing: body.fencing,
      waitId: body.wait_id,
      manifest: body.manifest,
      artifactDigest: body.artifact_digest,
      sizeBytes: body.size_bytes,
      workspaceVersionId: body.workspace_version_id,
      timings: body.timings_ms,
    });
    if (result.status === "lost") throw leaseLost();
    if (result.status === "parked") {
      tellRun(bus, result.runId);
      tellEnded(bus, result.ended);
      tellWork(bus, lease.workerGroupId); // its place in a lane is free
    }
    return { status: result.status };
  });

  app.post("/uploads/settle", async (request): Promise<z.infer<typeof settleUploadsResponse>> => {
    await context.authentication.worker(request);
    const { uploads } = settleUploadsRequest.parse(request.body);
    const artifacts = uploads.map(({ artifact_digest: digest, lease_id: leaseId }) => ({ digest, leaseId }));
    return { settled: await discardUnrecorded(db, artifacts) };
  });

  app.post("/leases/:lease_id/restore-failed", async (request) => {
    const lease = await leaseOf(context, request);
    const body = restoreFailedRequest.parse(request.body);
    const { message, permanent } = body;
    const result = await failRestore(db, { ...lease, fencing: body.fencing, message, permanent });
    if (result.status === "lost") throw leaseLost();
    tellRun(bus, result.runId);
    tellWork(bus, lease.workerGroupId);
    return {};
  });
}

/** Those of these waits that are over; waits for the first, and ends those whose time comes meanwhile. */
async function pollWaits(
  { db, bus }: WorkerContext,
  workerInstanceId: string,
  waitIds: readonly string[],
  waitMs: number,
  signal: AbortSignal,
): Promise<WaitRow[]> {
  const deadline = performance.now() + waitMs;
  // Subscribed before the first look: what ends after it is not missed.
  using wakeUp = new WakeUp(bus, `waits:${workerInstanceId}`, signal);
  for (;;) {
    const resolved = await listResolvedWaits(db, workerInstanceId, waitIds);
    if (resolved.length > 0) return resolved;
    const leftMs = deadline - performance.now();
    if (leftMs <= 0 || signal.aborted || waitIds.length === 0) return [];
    const due = await nextWaitDue(db, waitIds);
    const dueMs = due === undefined ? Number.POSITIVE_INFINITY : due.getTime() - Date.now();
    if (dueMs <= 0) {
      tellResolved(bus, await expireWaits(db, { limit: waitIds.length, waitIds }));
      // A run that is locked just now is looked at again, but not in a busy loop.
      await wakeUp.wait(5);
      continue;
    }
    await wakeUp.wait(Math.min(leftMs, dueMs, slowPollMs * (0.75 + Math.random() / 2)));
  }
}

function waitForOf(wire: z.infer<typeof createWaitRequest>["wait_for"]): WaitFor {
  if (wire.kind === "timer") return { kind: "timer", dueAt: new Date(wire.due_at) };
  if (wire.kind === "token") return { kind: "token", tokenId: wire.token_id, timeoutMs: wire.timeout_ms };
  return {
    kind: "stream",
    stream: wire.stream,
    correlationId: wire.correlation_id,
    afterSequence: wire.after_sequence,
    timeoutMs: wire.timeout_ms,
  };
}

function stateOf(wait: WaitRow): WaitState {
  const head = { wait_id: wait.id, status: wait.status };
  return wait.result === null ? head : { ...head, result_json: wait.result };
}
