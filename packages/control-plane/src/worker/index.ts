/** The worker API: a Fastify plugin with all of /api/worker/v1 (wire: @helmr/api worker-api.ts). */
import type { LiveBus } from "@helmr/coordination";
import {
  continueSessions,
  type Database,
  type FinishInput,
  type FinishResult,
  finishRuns,
  hasDueWork,
  type SecretCipher,
  startRuns,
  workTopic,
} from "@helmr/store";
import type { ControlMetrics, Tracing } from "@helmr/telemetry";
import type { FastifyPluginAsync } from "fastify";
import { tellWork } from "../hints.ts";
import type { TokenSecrets } from "../tokens.ts";
import { type WorkspaceSettings, workspaceSettings } from "../workspace-settings.ts";
import { Assignments } from "./assignments.ts";
import { WorkerAuthentication } from "./authenticate.ts";
import { Batcher } from "./batcher.ts";
import { buildRoutes } from "./build-routes.ts";
import { defaultTimings, type WorkerContext, type WorkerTimings } from "./context.ts";
import { sendWorkerError, WorkerApiError } from "./errors.ts";
import { leaseRoutes } from "./lease-routes.ts";
import { registrationRoutes } from "./registration-routes.ts";
import { streamRoutes } from "./stream-routes.ts";
import { versionRoutes } from "./version-routes.ts";
import { waitRoutes } from "./wait-routes.ts";
import { WorkGate, WorkGates } from "./work-gate.ts";
import { workspaceRoutes } from "./workspace-routes.ts";

export type { WorkerTimings } from "./context.ts";

export interface WorkerRoutesOptions {
  readonly db: Database;
  readonly bus: LiveBus;
  readonly secretCipher: SecretCipher;
  readonly tokenSecrets: TokenSecrets;
  readonly metrics: ControlMetrics;
  readonly tracing: Tracing;
  /** Default: leases of 30 s. */
  readonly timings?: Partial<WorkerTimings>;
  readonly workspaces?: Partial<WorkspaceSettings> | undefined;
  /** Aborts when the server begins to close: long polls answer at once. */
  readonly closing: AbortSignal;
}

/** Register with `{ prefix: "/api/worker/v1" }`. Has its own JSON parser and error answers. */
export const workerRoutes: FastifyPluginAsync<WorkerRoutesOptions> = async (app, options) => {
  const { db, bus, secretCipher: cipher, closing, metrics, tracing } = options;
  const context: WorkerContext = {
    db,
    bus,
    cipher,
    closing,
    metrics,
    tracing,
    authentication: new WorkerAuthentication(db),
    assignments: new Assignments(db, cipher, bus, metrics),
    tokenSecrets: options.tokenSecrets,
    // One of each at a time: what comes meanwhile is the next batch. Measured in docs/decisions/0004-run-queue.md.
    starts: new Batcher({ run: (inputs) => startRuns(db, inputs), maxBatch: 100, concurrency: 1 }),
    finishes: new Batcher({
      run: (inputs) => finishAndContinue(db, bus, inputs),
      maxBatch: 100,
      concurrency: 1,
    }),
    timings: { ...defaultTimings, ...options.timings },
    workspaces: workspaceSettings(options.workspaces),
    gates: new WorkGates(
      (workerGroupId) =>
        new WorkGate({
          bus,
          topic: workTopic(workerGroupId),
          hasDueWork: () => hasDueWork(db, workerGroupId),
        }),
    ),
  };
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "string" }, (_request, text, done) => {
    try {
      done(null, JSON.parse(text as string));
    } catch {
      done(new WorkerApiError(400, "the body is not JSON"));
    }
  });
  app.setErrorHandler(sendWorkerError);
  registrationRoutes(app, context);
  leaseRoutes(app, context);
  waitRoutes(app, context);
  versionRoutes(app, context);
  streamRoutes(app, context);
  buildRoutes(app, context);
  workspaceRoutes(app, context);
};

/** Input that came while these runs were busy and that they did not take goes to their sessions' next runs. */
async function finishAndContinue(
  db: Database,
  bus: LiveBus,
  inputs: readonly FinishInput[],
): Promise<FinishResult[]> {
  const results = await finishRuns(db, inputs);
  const sessionIds = results.flatMap((result) => (result.status === "accepted" ? [result.sessionId] : []));
  if (sessionIds.length > 0) {
    const groups = await continueSessions(db, { limit: sessionIds.length, sessionIds });
    for (const workerGroupId of new Set(groups)) tellWork(bus, workerGroupId);
  }
  return results;
}
