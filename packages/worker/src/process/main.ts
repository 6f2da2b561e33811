/** The process of `helmr-worker`: leases and executes until SIGINT or SIGTERM. Needs root, as guests do. */
import { hostname } from "node:os";
import { join } from "node:path";
import { parseArchiveKeys } from "@helmr/artifacts/archive";
import { createGvisorIsolation, probeHost } from "@helmr/isolation";
import {
  artifactKeys,
  artifactStoreConfig,
  failOnStart,
  listenForStop,
  openArtifactStore,
  readConfig,
  startLogger,
} from "@helmr/process";
import { createWorkerMetrics, startTelemetry } from "@helmr/telemetry";
import { createWorker } from "../worker.ts";
import { workerVariables } from "./variables.ts";

async function requireHost(runscPath: string): Promise<void> {
  const probe = await probeHost({ runscPath });
  if (probe.ok) return;
  const problems = probe.problems.map(({ what, mend }) => `  ${what}; mend it with: ${mend}`);
  throw new Error(`this machine cannot run guests yet:\n${problems.join("\n")}`);
}

async function run(): Promise<void> {
  const config = readConfig(workerVariables, process.env);
  const signals = listenForStop();
  const logger = await startLogger(config.HELMR_LOG_LEVEL);
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => signals.close());
  const telemetry = await startTelemetry({
    service: "helmr-worker",
    listen: config.HELMR_METRICS_LISTEN,
    tracing: config,
    logger,
  });
  cleanup.defer(() => telemetry.close());
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
    ...(config.HELMR_WORKER_MATERIALIZATIONS !== undefined && {
      capacity: { materializations: config.HELMR_WORKER_MATERIALIZATIONS },
    }),
    metrics: createWorkerMetrics(telemetry.registry),
    tracing: telemetry.tracing,
    logger,
  });
  cleanup.defer(() => worker.stop());
  await worker.start();
  telemetry.setReady(() => true);
  logger.info("helmr-worker is ready");
  await signals.stopping;
  telemetry.setReady(() => false);
  logger.info("stopping");
}

await failOnStart("helmr-worker", run);
