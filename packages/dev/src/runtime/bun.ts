/** Bun for projects that use it as their package manager: the npm package of the official binary. */
import { chmod, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { withFileLock } from "@helmr/artifacts/images";
import type { RuntimeContext } from "./context.ts";
import { isIntact, placeFile } from "./files.ts";
import { fetchPackage } from "./npm-package.ts";
import pins from "./pins.json" with { type: "json" };

type Variant = keyof typeof pins.bun.packages;

/** Bun's usual x64 build needs AVX2; older machines take the baseline build. */
async function variantFor(architecture: "x64" | "arm64"): Promise<Variant> {
  if (architecture === "arm64") return "arm64";
  return /\bavx2\b/.test(await readFile("/proc/cpuinfo", "utf8")) ? "x64" : "x64-baseline";
}

/** Path of a bun binary for guests of this host, fetched on first use. */
export async function ensureBun(context: RuntimeContext): Promise<string> {
  const variant = await variantFor(context.architecture);
  const home = join(context.cacheDir, "bun", `${pins.bun.version}-${variant}`);
  const bun = join(home, "bun");
  if (await isIntact(bun)) return bun;
  return withFileLock(join(home, ".lock"), async () => {
    if (await isIntact(bun)) return bun;
    context.log(`fetching bun ${pins.bun.version} from npm`);
    const scratch = join(home, ".partial");
    await rm(scratch, { recursive: true, force: true });
    const unpacked = await fetchPackage(
      { ...pins.bun.packages[variant], version: pins.bun.version },
      scratch,
    );
    await chmod(join(unpacked, "bin/bun"), 0o755);
    await placeFile(join(unpacked, "bin/bun"), bun);
    await rm(scratch, { recursive: true, force: true });
    return bun;
  });
}
