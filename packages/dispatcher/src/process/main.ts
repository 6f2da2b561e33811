/** The process of `helmr-dispatcher`: the loops until SIGINT or SIGTERM. */
import {
  createMemoryBus,
  createMemoryFireIndex,
  createRedisBus,
  createRedisFireIndex,
} from "@helmr/coordination";
import {
  artifactStoreConfig,
  failOnStart,
  listenForStop,
  openArtifactStore,
  readConfig,
  redisOptions,
  startLogger,
} from "@helmr/process";
import { databaseIsUsable, openDatabase, requireUsableSchema, sampleWork } from "@helmr/store";
import {
  createDispatcherMetrics,
  startTelemetry,
  tracingConfig,
  watchDatabase,
  watchWork,
} from "@helmr/telemetry";
import { createDispatcher } from "../index.ts";
import { dispatcherProblems, dispatcherVariables } from "./variables.ts";

async function run(): Promise<void> {
  const config = readConfig(dispatcherVariables, process.env, dispatcherProblems);
  const signals = listenForStop();
  const logger = await startLogger(config.HELMR_LOG_LEVEL);
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => signals.close());
  const telemetry = await startTelemetry({
    service: "helmr-dispatcher",
    listen: config.HELMR_METRICS_LISTEN,
    tracing: tracingConfig(config),
    logger,
  });
  cleanup.defer(() => telemetry.close());
  const db = openDatabase({
    url: config.HELMR_DATABASE_URL,
    applicationName: "helmr-dispatcher",
    // The other loops need theirs while schedules fire.
    maxConnections: config.HELMR_SCHEDULE_TRIGGER_CONCURRENCY + 10,
    onConnectionError: (error) => logger.warn({ reason: error.message }, "a database connection was lost"),
  });
  cleanup.defer(() => db.close());
  const { newer } = await requireUsableSchema(db);
  if (newer.length > 0)
    logger.info({ newer }, "the schema is a later version's, which this version goes on with");
  watchDatabase(telemetry.registry, () => db.poolState());
  watchWork(telemetry.registry, {
    sample: () => sampleWork(db),
    onError: (error) => logger.warn({ err: error }, "what waits could not be measured"),
  });
  const redis = redisOptions(config.HELMR_REDIS_URL, logger);
  // Without Redis its hints reach nobody in another process: those poll once a second.
  const bus = redis === undefined ? createMemoryBus() : createRedisBus(redis);
  cleanup.defer(() => bus.close());
  const fireIndex = redis === undefined ? createMemoryFireIndex() : createRedisFireIndex({ url: redis.url });
  cleanup.defer(() => fireIndex.close());
  const dispatcher = createDispatcher({
    db,
    bus,
    artifacts: await openArtifactStore(artifactStoreConfig(config)),
    fireIndex,
    schedules: {
      repairEveryMs: config.HELMR_SCHEDULE_REPAIR_EVERY,
      repairLimit: config.HELMR_SCHEDULE_REPAIR_LIMIT,
      repairLookaheadMs: config.HELMR_SCHEDULE_REPAIR_LOOKAHEAD,
      triggerConcurrency: config.HELMR_SCHEDULE_TRIGGER_CONCURRENCY,
      leaseMs: config.HELMR_SCHEDULE_LEASE,
      maxAttempts: config.HELMR_SCHEDULE_MAX_ATTEMPTS,
      jitterMs: config.HELMR_SCHEDULE_JITTER,
    },
    logger,
    metrics: createDispatcherMetrics(telemetry.registry),
    tracing: telemetry.tracing,
    intervals: {
      streamKeepMs: config.HELMR_WORKSPACE_OUTPUT_RETENTION,
      artifactGraceMs: config.HELMR_ARTIFACT_GRACE,
      reservationKeepMs: config.HELMR_ARTIFACT_RESERVATION,
      eventKeepMs: config.HELMR_EVENT_RETENTION,
      scheduledIdleMs: config.HELMR_SCHEDULED_SESSION_IDLE,
      sessionKeepMs: config.HELMR_SESSION_RETENTION,
    },
    liveCopies: {
      idleStopMs: config.HELMR_WORKSPACE_IDLE_STOP,
      lostAfterMs: config.HELMR_WORKSPACE_LOST_AFTER,
    },
  });
  dispatcher.start();
  cleanup.defer(() => dispatcher.stop());
  telemetry.setReady(() => databaseIsUsable(db));
  logger.info("helmr-dispatcher is ready");
  await signals.stopping;
  telemetry.setReady(() => false);
  logger.info("stopping");
}

await failOnStart("helmr-dispatcher", run);
