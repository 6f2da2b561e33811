// The worker in a container: has runsc, bun and the base image on its volume, fetched by the first start, then is the worker.
import { ensureRuntime } from "../../packages/dev/src/runtime/index.ts";

const { env } = process;
if (!env.HELMR_RUNSC_PATH || !env.HELMR_IMAGES_DIR) {
  const log = (line) => console.error(`helmr-worker: ${line}`);
  const runtime = await ensureRuntime({ cacheDir: "/var/lib/helmr/runtime", log });
  env.HELMR_RUNSC_PATH ||= runtime.runscPath;
  env.HELMR_IMAGES_DIR ||= runtime.imagesDir;
  env.HELMR_BUN_PATH ||= runtime.bunPath;
}
await import("../../packages/worker/bin/helmr-worker.mjs");
