/**
 * The embedded stack behind `helmr dev`: PostgreSQL, control plane, dispatcher and one worker in one process.
 *
 * Start order (each step is undone in reverse when a later one fails, and at stop):
 *
 *   1 lock the data folder         one stack per folder
 *   2 runtime files                runsc, base image: installed into the cache when missing
 *   3 host check                   what is missing is said in one message
 *   4 PostgreSQL                   also takes over from one that a killed stack left running
 *   5 migrations, tenant, its credentials
 *   6 control plane, dispatcher
 *   7 worker                       removes what a killed worker left, then registers and ends its old leases
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createFolderStore, parseArtifactKeys } from "@helmr/artifacts";
import { parseArchiveKeys } from "@helmr/artifacts/archive";
import { createControlPlane } from "@helmr/control-plane";
import { createMemoryBus } from "@helmr/coordination";
import { createDispatcher } from "@helmr/dispatcher";
import { createGvisorIsolation, unmountBelow } from "@helmr/isolation";
import { disableCoreDumps } from "@helmr/process";
import {
  createSecretCipher,
  ensureBootstrapToken,
  migrate,
  openDatabase,
  startEmbeddedPostgres,
  stopStalePostgres,
} from "@helmr/store";
import { createWorker } from "@helmr/worker";
import type { Logger } from "pino";
import { defaultDataDir, lockDataFolder, openDataFolder } from "./data-folder.ts";
import { findFreePort } from "./free-port.ts";
import { checkHost } from "./host-check.ts";
import { ensureRuntime } from "./runtime/index.ts";
import { StartError } from "./start-error.ts";
import { ensureTenant } from "./tenant.ts";

export interface DevStackOptions {
  /** Default: the user's data directory. */
  readonly dataDir?: string;
  /** Default: the port of the last start when it is free, else any free one. */
  readonly port?: number;
  /** Remove everything in the data folder first. */
  readonly reset?: boolean;
  readonly logger: Logger;
  /** One line per step, for a person who waits. */
  readonly onProgress?: (line: string) => void;
  /** Idle guests kept ready per sandbox; 0 makes every start a cold one. */
  readonly pool?: { readonly perSandbox: number };
  /** How long a waiting run keeps its guest before it is saved and gone; default 5,000. */
  readonly parkAfterMs?: number;
}

export interface DevStack {
  readonly url: string;
  readonly apiKey: string;
  /** A session of the local owner, who may do everything. */
  readonly sessionToken: string;
  readonly project: string;
  readonly environment: string;
  /** Finish or end what runs, leave nothing behind; safe to call twice. */
  stop(): Promise<void>;
}

/** First choice when no port is asked for and none is remembered. */
const usualPort = 4747;

/** Start the stack; rejects with one message that says what is missing and the command that mends it. */
export async function startDevStack(options: DevStackOptions): Promise<DevStack> {
  const say = options.onProgress ?? (() => {});
  const { logger } = options;
  if (!(await disableCoreDumps())) logger.warn("core files are not turned off: start with `ulimit -c 0`");
  await using cleanup = new AsyncDisposableStack();
  const dataDir = options.dataDir ?? defaultDataDir();

  cleanup.use(await lockDataFolder(dataDir));
  const runtime = await ensureRuntime({ log: say });
  await checkHost(runtime.runscPath);
  const isolation = createGvisorIsolation({
    runscPath: runtime.runscPath,
    stateDir: join(dataDir, "worker", "isolation"),
    instanceName: "dev",
    logger,
    ...guestCertificates(),
  });
  cleanup.defer(() => stopPart(logger, "isolation", () => isolation.close()));

  if (options.reset) await removeData(dataDir, () => isolation.recover());
  const folder = await openDataFolder(dataDir);
  const state = await folder.readState();

  say("starting PostgreSQL");
  const postgres = await startEmbeddedPostgres({ dataDir: folder.postgres, durable: true, logger });
  cleanup.defer(() => stopPart(logger, "PostgreSQL", () => postgres.stop()));
  const db = openDatabase({ url: postgres.url });
  cleanup.defer(() => stopPart(logger, "database connections", () => db.close()));
  await migrate(db);
  await ensureBootstrapToken(db, state.bootstrapToken);
  const { localOwnerId, ...tenant } = await ensureTenant(db, folder);

  const bus = createMemoryBus();
  cleanup.defer(() => stopPart(logger, "bus", () => bus.close()));
  const artifacts = createFolderStore(folder.artifacts, {
    keys: parseArtifactKeys({ current: state.artifactEncryptionKey }),
  });
  const port = options.port ?? (await findFreePort([state.port ?? usualPort, usualPort]));
  const controlPlane = createControlPlane({
    db,
    bus,
    artifacts,
    secretCipher: createSecretCipher({
      current: state.secretEncryptionKey,
      old: state.secretEncryptionKeyOld,
    }),
    authSecret: Buffer.from(state.authSecret, "base64"),
    config: { publicUrl: `http://127.0.0.1:${port}`, localOwnerId },
    logger,
  });
  cleanup.defer(() => stopPart(logger, "control plane", () => controlPlane.close()));
  const url = await controlPlane.listen({ host: "127.0.0.1", port }).catch((cause: unknown) => {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== "EADDRINUSE" && code !== "EACCES") throw cause;
    const why = code === "EADDRINUSE" ? "is in use" : "may not be listened on";
    throw new StartError(`the port ${port} ${why}; choose another with --port, or leave it out`, { cause });
  });
  await folder.writeState({ ...(await folder.readState()), port });

  const dispatcher = createDispatcher({
    db,
    bus,
    artifacts,
    logger,
    // All parts share one pool of connections here.
    schedules: { triggerConcurrency: 3 },
  });
  dispatcher.start();
  cleanup.defer(() => stopPart(logger, "dispatcher", () => dispatcher.stop()));

  say("starting the worker");
  const worker = createWorker({
    controlPlaneUrl: url,
    bootstrapToken: state.bootstrapToken,
    name: "dev",
    dataDir: folder.worker,
    isolation,
    artifacts,
    images: { imagesDir: runtime.imagesDir, baseImage: runtime.baseImage.name },
    bunPath: runtime.bunPath,
    pool: options.pool,
    checkpointKeys: parseArchiveKeys({ current: state.checkpointEncryptionKey }),
    parkAfterMs: options.parkAfterMs,
    logger,
  });
  cleanup.defer(() => stopPart(logger, "worker", () => worker.stop()));
  await worker.start();

  const running = cleanup.move();
  let stopped: Promise<void> | undefined;
  return {
    url,
    ...tenant,
    stop: () => {
      stopped ??= running.disposeAsync();
      return stopped;
    },
  };
}

/** Stop one part, and leave in the log how long it took: a slow stop is looked for there first. */
async function stopPart(logger: Logger, part: string, stop: () => Promise<unknown>): Promise<void> {
  const from = performance.now();
  await stop();
  logger.debug({ part, ms: Math.round(performance.now() - from) }, "stopped");
}

/**
 * Certificates that guests trust in addition to their image's: where TLS is inspected, a developer has told Node already
 * (`NODE_EXTRA_CA_CERTS`), and guests need the same.
 */
function guestCertificates(): { extraCaCertificates?: string } {
  const path = process.env.HELMR_GUEST_EXTRA_CA_CERTS ?? process.env.NODE_EXTRA_CA_CERTS;
  return path === undefined || path === "" ? {} : { extraCaCertificates: path };
}

/** Everything in the folder goes; first what a killed stack may have left running on it. */
async function removeData(dataDir: string, recoverGuests: () => Promise<unknown>): Promise<void> {
  await recoverGuests();
  // Disks, roots and the staging area of a killed worker: a mounted folder cannot be removed.
  await unmountBelow(join(dataDir, "worker"));
  await stopStalePostgres(join(dataDir, "postgres"));
  for (const part of ["state.json", "postgres", "postgres.log", "artifacts", "worker"]) {
    await rm(join(dataDir, part), { recursive: true, force: true });
  }
}
