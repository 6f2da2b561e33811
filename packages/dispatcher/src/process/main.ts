/** The process of `helmr-dispatcher`: the loops until SIGINT or SIGTERM. */
import { createFolderStore } from "@helmr/artifacts";
import { createMemoryBus } from "@helmr/coordination";
import { failOnStart, listenForStop, readConfig, startLogger } from "@helmr/process";
import { openDatabase, requireCurrentSchema } from "@helmr/store";
import { createDispatcher } from "../index.ts";
import { dispatcherVariables } from "./variables.ts";

async function run(): Promise<void> {
  const config = readConfig(dispatcherVariables, process.env);
  const signals = listenForStop();
  const logger = await startLogger(config.HELMR_LOG_LEVEL);
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => signals.close());
  const db = openDatabase({
    url: config.HELMR_DATABASE_URL,
    applicationName: "helmr-dispatcher",
    onConnectionError: (error) => logger.warn({ reason: error.message }, "a database connection was lost"),
  });
  cleanup.defer(() => db.close());
  await requireCurrentSchema(db);
  // Its hints reach nobody in another process: those poll once a second.
  const bus = createMemoryBus();
  cleanup.defer(() => bus.close());
  const dispatcher = createDispatcher({
    db,
    bus,
    artifacts: createFolderStore(config.HELMR_CAS_URI),
    logger,
  });
  dispatcher.start();
  cleanup.defer(() => dispatcher.stop());
  logger.info("helmr-dispatcher is ready");
  await signals.stopping;
  logger.info("stopping");
}

await failOnStart("helmr-dispatcher", run);
