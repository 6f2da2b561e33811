/** Installs what guests and tests need on this machine (runsc, base image, bun, system packages) and says where it is. */
import { ensureRuntime, ensureTestPackages, RuntimeError } from "../packages/dev/src/runtime/index.ts";

try {
  const log = (line: string) => console.error(`helmr: ${line}`);
  const runtime = await ensureRuntime({ log });
  console.log(`runsc       ${runtime.runscVersion}  ${runtime.runscPath}`);
  console.log(`base image  ${runtime.baseImage.digest.slice(0, 19)}  ${runtime.baseImage.rootfs}`);
  console.log(`bun         ${runtime.bunPath}`);
  await ensureTestPackages({ log });
} catch (error) {
  if (!(error instanceof RuntimeError)) throw error;
  console.error(`helmr: ${error.message}`);
  process.exitCode = 1;
}
