/**
 * `helmr-worker serve`: leases and executes until it is told to end. Needs root, as guests do.
 *
 *   SIGINT, SIGTERM        drain, HELMR_WORKER_DRAIN_TIMEOUT long at most, and end with 0
 *   `helmr-worker drain`   the same, as long as it says
 *   a second signal        end at once
 *   its place is refused   end with 1 (membership.ts)
 */
import { hostname } from "node:os";
import { join } from "node:path";
import { parseArchiveKeys } from "@helmr/artifacts/archive";
import { createGvisorIsolation, probeHost } from "@helmr/isolation";
import {
  artifactKeys,
  artifactStoreConfig,
  listenForStop,
  openArtifactStore,
  readConfig,
  startLogger,
} from "@helmr/process";
import { createWorkerMetrics, startTelemetry, tracingConfig } from "@helmr/telemetry";
import { createWorker, type Worker } from "../worker.ts";
import { capacityOf, workerVariables } from "./variables.ts";
import { openWorkerSocket } from "./worker-socket.ts";

async function requireHost(runscPath: string): Promise<void> {
  const probe = await probeHost({ runscPath });
  if (probe.ok) return;
  const problems = probe.problems.map(({ what, mend }) => `  ${what}; mend it with: ${mend}`);
  throw new Error(`this machine cannot run guests yet:\n${problems.join("\n")}`);
}

export async function serve(env: Readonly<Record<string, string | undefined>>): Promise<void> {
  const config = readConfig(workerVariables, env);
  const signals = listenForStop();
  const logger = await startLogger(config.HELMR_LOG_LEVEL);
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => signals.close());
  const telemetry = await startTelemetry({
    service: "helmr-worker",
    listen: config.HELMR_METRICS_LISTEN,
    tracing: tracingConfig(config),
    logger,
  });
  cleanup.defer(() => telemetry.close());
  let begun: Worker | undefined;
  const startedWorker = (): Worker => {
    if (begun === undefined) throw new Error("the worker is starting; ask again in a moment");
    return begun;
  };
  // Before anything of the folder is touched: another worker may live there.
  const asked = Promise.withResolvers<unknown>();
  const socket = await openWorkerSocket({
    dataDir: config.HELMR_WORKER_DATA_DIR,
    status: async () => await startedWorker().status(),
    drain: (timeoutMs) => {
      telemetry.setReady(() => false);
      const drained = startedWorker().drain({ timeoutMs });
      asked.resolve(drained);
      return drained;
    },
    logger,
  });
  cleanup.defer(() => socket.close());
  await requireHost(config.HELMR_RUNSC_PATH);
  const isolation = createGvisorIsolation({
    runscPath: config.HELMR_RUNSC_PATH,
    stateDir: join(config.HELMR_WORKER_DATA_DIR, "isolation"),
    instanceName: "worker",
    logger,
    ...(config.HELMR_GUEST_EXTRA_CA_CERTS !== undefined && {
      extraCaCertificates: config.HELMR_GUEST_EXTRA_CA_CERTS,
    }),
  });
  cleanup.defer(() => isolation.close());
  const worker = createWorker({
    controlPlaneUrl: config.HELMR_CONTROL_PLANE_URL,
    bootstrapToken: config.HELMR_WORKER_BOOTSTRAP_TOKEN,
    name: config.HELMR_WORKER_NAME ?? hostname(),
    dataDir: config.HELMR_WORKER_DATA_DIR,
    isolation,
    artifacts: await openArtifactStore(artifactStoreConfig(config), {
      keys: artifactKeys(config),
      stagingDir: join(config.HELMR_WORKER_DATA_DIR, "artifact-staging"),
    }),
    images: { imagesDir: config.HELMR_IMAGES_DIR, baseImage: config.HELMR_BASE_IMAGE },
    bunPath: config.HELMR_BUN_PATH,
    checkpointKeys: parseArchiveKeys({
      current: config.HELMR_CHECKPOINT_ENCRYPTION_KEY,
      old: config.HELMR_CHECKPOINT_ENCRYPTION_KEY_OLD,
    }),
    parkAfterMs: config.HELMR_PARK_AFTER_SECONDS * 1000,
    capacity: capacityOf(config),
    diskReserveMib: config.HELMR_WORKER_DISK_RESERVE,
    labels: config.HELMR_WORKER_LABELS,
    credentialRotationMs: config.HELMR_WORKER_CREDENTIAL_ROTATION,
    metrics: createWorkerMetrics(telemetry.registry),
    tracing: telemetry.tracing,
    logger,
  });
  cleanup.defer(() => worker.stop());
  await worker.start();
  begun = worker;
  telemetry.setReady(() => true);
  logger.info("helmr-worker is ready");
  await untilDrained(worker, {
    asked: asked.promise,
    stopping: signals.stopping.then(() => {
      telemetry.setReady(() => false);
      return config.HELMR_WORKER_DRAIN_TIMEOUT;
    }),
  });
  logger.info("stopping");
}

/**
 * Resolves when the worker is drained, at whoever's word; rejects when it can do nothing more. `asked`: a drain that was asked
 * for over the socket is done; `stopping`: a signal came, and the worker has so many milliseconds.
 */
async function untilDrained(
  worker: Worker,
  { asked, stopping }: { readonly asked: Promise<unknown>; readonly stopping: Promise<number> },
): Promise<void> {
  const stopped = stopping.then((timeoutMs) => worker.drain({ timeoutMs }));
  const first = await Promise.race([asked, stopped, worker.failed]);
  if (first instanceof Error) throw first;
}
