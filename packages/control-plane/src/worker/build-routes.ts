/** POST builds/:id/events, secrets and finish: builds, from their claim to their end. */
import {
  buildEventsRequest,
  buildSecretsRequest,
  type buildSecretsResponse,
  finishBuildRequest,
  finishRunResponse,
} from "@helmr/api";
import {
  appendBuildEvents,
  type BuildOutcome,
  buildOfLease,
  finishBuild,
  isBuildEventKind,
  readSecretValues,
} from "@helmr/store";
import type { FastifyInstance } from "fastify";
import type { z } from "zod";
import { tellDeployment, tellWork } from "../hints.ts";
import type { WorkerContext } from "./context.ts";
import { leaseLost, WorkerApiError } from "./errors.ts";
import { appendBodyLimit, leaseOf } from "./lease-routes.ts";

/** 2000 tasks with their definitions, 200 sandboxes with all their steps. */
const finishBodyLimit = 64 * 2 ** 20;

export function buildRoutes(app: FastifyInstance, context: WorkerContext): void {
  app.post("/builds/:lease_id/events", { bodyLimit: appendBodyLimit }, async (request) => {
    const lease = await leaseOf(context, request);
    const { fencing, items } = buildEventsRequest.parse(request.body);
    const bad = items.find((item) => !isBuildEventKind(item.kind));
    if (bad !== undefined)
      throw new WorkerApiError(400, `${bad.kind} is not an event kind that a worker may append`);
    const events = items
      .map(({ occurred_at: occurredAt, ...item }) => ({ ...item, occurredAt }))
      .sort((a, b) => a.number - b.number);
    const build = await appendBuildEvents(context.db, { ...lease, fencing }, events);
    if (build === undefined) throw leaseLost();
    tellDeployment(context.bus, build.deploymentId);
    return {};
  });

  app.post("/builds/:lease_id/secrets", async (request): Promise<z.infer<typeof buildSecretsResponse>> => {
    const lease = await leaseOf(context, request);
    const { fencing, names } = buildSecretsRequest.parse(request.body);
    const build = await buildOfLease(context.db, { ...lease, fencing });
    if (build === undefined) throw leaseLost();
    const values = await readSecretValues(context.db, context.cipher, build.environmentId, names);
    return { values: Object.fromEntries(values), missing: names.filter((name) => !values.has(name)) };
  });

  app.post("/builds/:lease_id/finish", { bodyLimit: finishBodyLimit }, async (request) => {
    const lease = await leaseOf(context, request);
    const { fencing, outcome } = finishBuildRequest.parse(request.body);
    const finished = await finishBuild(context.db, { ...lease, fencing }, storeOutcome(outcome));
    if (finished === undefined) throw leaseLost();
    tellDeployment(context.bus, finished.deploymentId);
    if (finished.requeued) tellWork(context.bus, lease.workerGroupId);
    return finishRunResponse.parse({ status: finished.requeued ? "retry_scheduled" : "accepted" });
  });
}

function storeOutcome(outcome: z.infer<typeof finishBuildRequest>["outcome"]): BuildOutcome {
  if (outcome.status === "built") {
    const sandboxes = outcome.sandboxes.map(({ sandbox_id: sandboxId, ...rest }) => ({ ...rest, sandboxId }));
    return { status: "built", catalog: outcome.catalog, sandboxes };
  }
  const { failure_kind: failureKind, output_tail: outputTail, message, step, retryable } = outcome;
  return { status: "failed", failureKind, message, step, outputTail, retryable };
}
