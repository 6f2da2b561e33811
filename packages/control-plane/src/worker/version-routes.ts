/** POST uploads/reserve and leases/:id/versions: what workers save of workspaces. */
import { recordVersionRequest, type recordVersionResponse, reserveArtifactsRequest } from "@helmr/api";
import { ArtifactsNotReservedError, isLeaseHeld, recordVersion, reserveArtifacts } from "@helmr/store";
import type { FastifyInstance } from "fastify";
import type { z } from "zod";
import { tellRun } from "../hints.ts";
import type { WorkerContext } from "./context.ts";
import { leaseLost, WorkerApiError } from "./errors.ts";
import { leaseOf } from "./lease-routes.ts";

/** 20,000 digests, and what goes with them. */
const versionBodyLimit = 4 * 2 ** 20;

export function versionRoutes(app: FastifyInstance, context: WorkerContext): void {
  const { db, bus, workspaces } = context;

  app.post("/uploads/reserve", async (request) => {
    const { workerInstanceId } = await context.authentication.worker(request);
    const { lease_id: leaseId, fencing, digests } = reserveArtifactsRequest.parse(request.body);
    if (!(await isLeaseHeld(db, { workerInstanceId, leaseId, fencing }))) throw leaseLost();
    await reserveArtifacts(db, leaseId, digests);
    return {};
  });

  app.post(
    "/leases/:lease_id/versions",
    { bodyLimit: versionBodyLimit },
    async (request): Promise<z.infer<typeof recordVersionResponse>> => {
      const lease = await leaseOf(context, request);
      const body = recordVersionRequest.parse(request.body);
      const recorded = await recordVersion(db, {
        ...lease,
        fencing: body.fencing,
        reason: body.reason,
        tree: {
          manifestDigest: body.manifest_digest,
          contentDigest: body.content_digest,
          artifactEncoding: body.artifact_encoding,
          entryCount: body.entry_count,
          sizeBytes: body.size_bytes,
          artifacts: body.artifacts,
        },
        parentVersionId: body.parent_version_id,
        requestId: body.request_id,
        skipped: body.skipped,
        timings: body.timings_ms,
        keepSystemVersions: workspaces.keptSystemVersions,
      }).catch(asAnswer);
      if (recorded.status === "lost") throw leaseLost();
      if (recorded.runId !== undefined) tellRun(bus, recorded.runId);
      if (body.request_id !== undefined) bus.publish(`workspace-request:${body.request_id}`);
      return { version: { version_id: recorded.versionId, manifest_digest: recorded.manifestDigest } };
    },
  );
}

/** The worker reserves them all, makes sure that they are stored, and records the version again. */
function asAnswer(error: unknown): never {
  if (error instanceof ArtifactsNotReservedError) {
    throw new WorkerApiError(409, error.message, "artifacts_not_reserved");
  }
  throw error;
}
