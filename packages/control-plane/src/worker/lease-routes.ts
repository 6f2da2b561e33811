/** POST lease, and leases/:id/start, append and finish: runs, from their claim to their end. */
import {
  type appendItem,
  appendRequest,
  finishRunRequest,
  finishRunResponse,
  handBackRequest,
  knownFieldsHeader,
  leaseRequest,
  type leaseResponse,
  type RunAssignment,
  startLeaseRequest,
} from "@helmr/api";
import {
  type AppendItem,
  type AuthenticatedWorker,
  appendToRun,
  bindRunCopies,
  claimBuilds,
  claimMaterializations,
  claimRuns,
  handBackMaterialization,
  handBackRun,
  isWorkerEventKind,
  noteUnsaved,
  type RunOutcome,
  releaseLeases,
  releaseMaterializations,
  touchWorker,
} from "@helmr/store";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { tellDeployment, tellRun, tellWork } from "../hints.ts";
import { buildAssignment, materializationAssignment } from "./assignments.ts";
import type { WorkerContext } from "./context.ts";
import { leaseLost, WorkerApiError } from "./errors.ts";
import { observeAppended, observeLeased } from "./observe.ts";
import { requestSignal } from "./request-signal.ts";

/** Contract 1.1: worker log routes. */
export const appendBodyLimit = 256 * 1024;
/** An output, with what JSON in JSON adds. */
const finishBodyLimit = 16 * 2 ** 20;

const params = z.object({ lease_id: z.uuid() });
type Work = z.infer<typeof leaseResponse>;

export function leaseRoutes(app: FastifyInstance, context: WorkerContext): void {
  app.post("/lease", async (request, reply): Promise<Work> => {
    const worker = await context.authentication.worker(request);
    const wanted = leaseRequest.parse(request.body);
    const { draining } = await touchWorker(context.db, worker.workerInstanceId);
    const signal = requestSignal(request, reply, context.closing);
    const work = await context.gates.of(worker.workerGroupId).take({
      waitMs: wanted.wait_ms,
      signal,
      attempt: () => (draining ? Promise.resolve(undefined) : takeWork(context, worker, wanted, signal)),
    });
    if (work === undefined) return { runs: [], builds: [], materializations: [] };
    return { ...work, runs: work.runs.map((run) => knownTo(request, run)) };
  });

  app.post("/leases/:lease_id/start", async (request) => {
    const lease = await leaseOf(context, request);
    const body = startLeaseRequest.parse(request.body);
    const guest = { pooled: body.guest.pooled, startMs: body.guest.start_ms };
    const run = await context.starts.call({ ...lease, fencing: body.fencing, notes: body.notes, guest });
    if (run.status === "lost") throw leaseLost();
    tellRun(context.bus, run.runId);
    return {};
  });

  app.post("/leases/:lease_id/append", { bodyLimit: appendBodyLimit }, async (request) => {
    const lease = await leaseOf(context, request);
    const body = appendRequest.parse(request.body);
    const items = body.items.map(storeItem).sort((a, b) => a.number - b.number);
    const appended = await appendToRun(context.db, { ...lease, fencing: body.fencing, items });
    if (appended === undefined) throw leaseLost();
    tellRun(context.bus, appended.runId);
    observeAppended(context, items);
    return { acknowledged: appended.acknowledged };
  });

  app.post("/leases/:lease_id/finish", { bodyLimit: finishBodyLimit }, async (request) => {
    const lease = await leaseOf(context, request);
    const body = finishRunRequest.parse(request.body);
    if (body.workspace_unsaved === true) await noteUnsaved(context.db, { ...lease, fencing: body.fencing });
    const result = await context.finishes.call({
      ...lease,
      fencing: body.fencing,
      outcome: storeOutcome(body.outcome),
    });
    if (result.status === "lost") throw leaseLost();
    tellRun(context.bus, result.runId);
    // A place in a lane, or a workspace, is free now.
    tellWork(context.bus, lease.workerGroupId);
    return finishRunResponse.parse({ status: result.status });
  });

  app.post("/leases/:lease_id/hand-back", async (request) => {
    const lease = await leaseOf(context, request);
    await handBack(context, { ...lease, ...handBackRequest.parse(request.body) });
    return {};
  });
}

/** It has the work no more when it is not of this worker, and the worker drops it then. */
async function handBack(
  context: WorkerContext,
  input: Parameters<typeof handBackRun>[1] & { readonly workerGroupId: string },
): Promise<void> {
  const result = await handBackRun(context.db, input);
  if (result.status === "accepted") tellRun(context.bus, result.runId);
  else if (!(await handBackMaterialization(context.db, input))) throw leaseLost();
  tellWork(context.bus, input.workerGroupId);
}

/** What a worker of the version before does not know is left out. */
function knownTo(request: FastifyRequest, { traceparent, ...run }: RunAssignment): RunAssignment {
  const known = String(request.headers[knownFieldsHeader]).split(",");
  return traceparent !== undefined && known.includes("traceparent") ? { ...run, traceparent } : run;
}

/** Claim what is there; give it back when the worker hung up meanwhile. */
async function takeWork(
  context: WorkerContext,
  worker: AuthenticatedWorker,
  wanted: z.infer<typeof leaseRequest>,
  signal: AbortSignal,
): Promise<Work | undefined> {
  if (signal.aborted) return undefined;
  const { workerInstanceId } = worker;
  const { leaseDurationMs } = context.timings;
  // Beside each other: a lease waits for one round trip, not for three.
  const [claimed, builds, copies] = await Promise.all([
    claimRuns(context.db, { workerInstanceId, limit: wanted.max_runs, leaseDurationMs }),
    claimBuilds(context.db, { workerInstanceId, limit: wanted.max_builds, leaseDurationMs }),
    claimMaterializations(context.db, {
      workerInstanceId,
      limit: wanted.max_materializations ?? 0,
      lostAfterMs: context.workspaces.lostAfterMs,
    }),
  ]);
  for (const build of builds) tellDeployment(context.bus, build.id);
  if (signal.aborted && claimed.length + copies.length > 0) {
    await releaseLeases(
      context.db,
      claimed.map((run) => run.lease_id),
    );
    await releaseMaterializations(
      context.db,
      copies.map((copy) => copy.lease_id),
    );
    tellWork(context.bus, worker.workerGroupId);
    return undefined;
  }
  if (claimed.some((run) => run.checkpoint_id !== null)) {
    // Somebody may have asked for the guest's workspace: the run came back for that.
    await bindRunCopies(context.db, workerInstanceId);
    context.bus.publish(`workspaces:${workerInstanceId}`);
  }
  observeLeased(context, claimed);
  const runs = await context.assignments.forRuns(workerInstanceId, claimed);
  if (runs.length === 0 && builds.length === 0 && copies.length === 0) return undefined;
  return {
    runs,
    builds: builds.map(buildAssignment),
    materializations: copies.map((copy) => materializationAssignment(copy, context.workspaces.lostAfterMs)),
  };
}

/** Worker and lease of a request; whether they belong together is decided by the store's statement. */
export async function leaseOf(
  context: WorkerContext,
  request: FastifyRequest,
): Promise<AuthenticatedWorker & { leaseId: string }> {
  const worker = await context.authentication.worker(request);
  return { ...worker, leaseId: params.parse(request.params).lease_id };
}

function storeItem(item: z.infer<typeof appendItem>): AppendItem {
  const { number, occurred_at: occurredAt } = item;
  if (item.kind === "log") {
    return {
      kind: "log",
      number,
      occurredAt,
      stream: item.stream,
      content: Buffer.from(item.content_base64, "base64"),
    };
  }
  if (item.kind === "metadata")
    return { kind: "metadata", number, occurredAt, operation: storeOperation(item.operation) };
  if (!isWorkerEventKind(item.event_kind)) {
    throw new WorkerApiError(400, `${item.event_kind} is not an event kind that a worker may append`);
  }
  const { event_kind: eventKind, severity, attributes } = item;
  return { kind: "event", number, occurredAt, eventKind, severity, attributes };
}

function storeOperation(operation: (z.infer<typeof appendItem> & { kind: "metadata" })["operation"]) {
  if (operation.op === "increment") return operation;
  if (operation.op === "patch") return { op: "patch", valueJson: operation.value_json } as const;
  return { op: "set", key: operation.key, valueJson: operation.value_json } as const;
}

function storeOutcome(outcome: z.infer<typeof finishRunRequest>["outcome"]): RunOutcome {
  if (outcome.status === "cancelled") return outcome;
  if (outcome.status === "failed") {
    const { failure_kind: failureKind, message, detail, exit_code: exitCode, retryable } = outcome;
    return { status: "failed", failureKind, message, detail, exitCode, retryable };
  }
  if (outcome.output_json !== undefined && !isJson(outcome.output_json)) {
    const message = "the task's output is not JSON";
    return {
      status: "failed",
      failureKind: "output_not_serializable",
      message,
      detail: {},
      retryable: false,
    };
  }
  return { status: "succeeded", outputJson: outcome.output_json };
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
