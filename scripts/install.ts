/** Installs what guests need on this machine (runsc, base image, bun, system packages) and says where it is. */
import { ensureRuntime, RuntimeError } from "../packages/dev/src/runtime/index.ts";

try {
  const runtime = await ensureRuntime({ log: (line) => console.error(`helmr: ${line}`) });
  console.log(`runsc       ${runtime.runscVersion}  ${runtime.runscPath}`);
  console.log(`base image  ${runtime.baseImage.digest.slice(0, 19)}  ${runtime.baseImage.rootfs}`);
  console.log(`bun         ${runtime.bunPath}`);
} catch (error) {
  if (!(error instanceof RuntimeError)) throw error;
  console.error(`helmr: ${error.message}`);
  process.exitCode = 1;
}
