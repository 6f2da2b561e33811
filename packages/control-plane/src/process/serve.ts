/**
 * `helmr-control serve`: the HTTP API as a process.
 *
 * Start order: database and its schema, keys of the secrets that are stored, bootstrap token, then the port. Nothing is
 * changed before the schema is known to be one that this version may use.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createMemoryBus, createRedisBus } from "@helmr/coordination";
import { listenForStop, openArtifactStore, redisOptions, startLogger } from "@helmr/process";
import {
  createSecretCipher,
  type Database,
  databaseIsUsable,
  ensureBootstrapToken,
  openDatabase,
  requireUsableSchema,
  type SecretCipher,
  secretKeyCounts,
} from "@helmr/store";
import { createControlMetrics, startTelemetry, watchDatabase } from "@helmr/telemetry";
import type { Logger } from "pino";
import { createControlPlane } from "../control-plane.ts";
import { createMailer } from "../email/mailer.ts";
import { timingsOfLease } from "../worker/context.ts";
import { type Environment, readControlConfig } from "./control-config.ts";

export async function serve(environment: Environment): Promise<void> {
  const config = readControlConfig(environment);
  const signals = listenForStop();
  const logger = await startLogger(config.logLevel);
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => signals.close());
  const telemetry = await startTelemetry({
    service: "helmr-control",
    listen: config.metricsListen,
    tracing: config.tracing,
    logger,
  });
  cleanup.defer(() => telemetry.close());

  const db = openDatabase({
    url: config.databaseUrl,
    applicationName: "helmr-control",
    onConnectionError: (error) => logger.warn({ reason: error.message }, "a database connection was lost"),
  });
  cleanup.defer(() => db.close());
  watchDatabase(telemetry.registry, () => db.poolState());
  const { newer } = await requireUsableSchema(db);
  if (newer.length > 0)
    logger.info({ newer }, "the schema is a later version's, which this version goes on with");
  const secretCipher = createSecretCipher(config.secretKeys);
  await requireSecretKeys(db, secretCipher, logger);
  if (config.workerBootstrapToken !== undefined) await ensureBootstrapToken(db, config.workerBootstrapToken);

  const artifacts = await openArtifactStore(config.artifactStore, { keys: config.artifactKeys });
  const redis = redisOptions(config.controlPlane.redisUrl, logger);
  const bus = redis === undefined ? createMemoryBus() : createRedisBus(redis);
  cleanup.defer(() => bus.close());
  const mailer = createMailer(config.mailer, logger);
  cleanup.defer(() => mailer.close());
  const controlPlane = createControlPlane({
    db,
    bus,
    artifacts,
    secretCipher,
    authSecret: config.authSecret,
    config: config.controlPlane,
    workerTimings: timingsOfLease(config.workerLeaseMs),
    mailer,
    logger,
    metrics: createControlMetrics(telemetry.registry),
    tracing: telemetry.tracing,
  });
  cleanup.defer(() => controlPlane.close());
  const url = await controlPlane.listen(config.listen);
  logger.info({ url, publicUrl: config.controlPlane.publicUrl }, "helmr-control is ready");

  telemetry.setReady(() => databaseIsUsable(db));
  await signals.stopping;
  telemetry.setReady(() => false);
  controlPlane.retire();
  logger.info({ shutdownDelayMs: config.shutdownDelayMs }, "stopping");
  await sleep(config.shutdownDelayMs);
}

/** A secret that cannot be read would fail each run that declares it: that is said here, once, instead. */
async function requireSecretKeys(db: Database, cipher: SecretCipher, logger: Logger): Promise<void> {
  const counts = await secretKeyCounts(db);
  for (const [keyId, count] of counts) {
    if (cipher.keyIds.includes(keyId)) continue;
    throw new Error(
      `${count} secrets are encrypted under key ${keyId}, which is not configured: set that key as HELMR_SECRET_ENCRYPTION_KEY_OLD`,
    );
  }
  const [, oldKeyId] = cipher.keyIds;
  if (oldKeyId === undefined) return;
  const remaining = counts.get(oldKeyId) ?? 0;
  const next =
    remaining === 0
      ? "HELMR_SECRET_ENCRYPTION_KEY_OLD can be removed when no process writes with it any more"
      : "wrap them anew with `helmr-control secrets reencrypt`";
  logger.info(
    { current: cipher.currentKeyId, old: oldKeyId, remaining },
    `secrets under the old key: ${next}`,
  );
}
