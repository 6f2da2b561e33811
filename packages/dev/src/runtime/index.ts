/**
 * What guests need on this machine beside Node: programs of the operating system, runsc, the base image, bun. All of it
 * is kept outside the clone in the user's cache:
 *
 *     <cacheDir>/runsc/<version>/runsc   with its SHA-256 beside it; runsc/chosen.json names the one in use
 *     <cacheDir>/images/                 the image store (@helmr/artifacts/images)
 *     <cacheDir>/bun/<version>/bun       with its SHA-256 beside it
 *     <cacheDir>/versitygw/<version>/    an S3 server for tests, with its SHA-256 beside it
 *     <cacheDir>/valkey/8/               Valkey for tests, with its SHA-256 beside it
 *     <cacheDir>/node/<version>/         Node 24 for machines with an older one (scripts/lib/node.mjs)
 *
 * Installations at the same time wait for each other; each appears by one rename, so that one that was killed leaves
 * nothing that looks complete.
 */
import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { StoredImage } from "@helmr/artifacts/images";
import { ensureBaseImage } from "./base-image.ts";
import { ensureBun } from "./bun.ts";
import { defaultCacheDir, type RuntimeContext, RuntimeError } from "./context.ts";
import { ensureRunsc } from "./runsc.ts";
import { ensureSystemPackages } from "./system-packages.ts";

export { RuntimeError } from "./context.ts";
export { ensureTestPackages, ensureVersitygw } from "./test-packages.ts";

export interface Runtime {
  readonly runscPath: string;
  readonly runscVersion: string;
  readonly imagesDir: string;
  /** `node:24-bookworm-slim`, in the image store. */
  readonly baseImage: StoredImage;
  /** For guests that build projects with bun. */
  readonly bunPath: string;
  /** What this machine lacks with what was found, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * Have everything, installing what is missing; 0.3 s when nothing is.
 *
 * @throws {RuntimeError} whose message says what is missing and the command that mends it.
 */
export async function ensureRuntime(
  options: { readonly cacheDir?: string; readonly log?: (line: string) => void } = {},
): Promise<Runtime> {
  const { platform, arch } = process;
  if (platform !== "linux" || (arch !== "x64" && arch !== "arm64")) {
    throw new RuntimeError(
      `guests need Linux on x64 or arm64, this is ${platform} on ${arch}: use a virtual machine`,
    );
  }
  const cacheDir = options.cacheDir ?? defaultCacheDir();
  const context: RuntimeContext = {
    cacheDir,
    imagesDir: join(cacheDir, "images"),
    architecture: arch,
    log: options.log ?? (() => undefined),
  };
  // Images hold setuid programs that belong to the host's root: nobody else may reach them.
  await mkdir(context.imagesDir, { recursive: true, mode: 0o700 });
  await chmod(context.imagesDir, 0o700);
  await ensureSystemPackages(context);
  // One after the other: a build uses every core, and two progress reports at once cannot be read.
  const runsc = await ensureRunsc(context);
  for (const note of runsc.notes) context.log(`note: ${note}`);
  const baseImage = await ensureBaseImage(context);
  const bunPath = await ensureBun(context);
  const { imagesDir } = context;
  return {
    runscPath: runsc.path,
    runscVersion: runsc.version,
    imagesDir,
    baseImage,
    bunPath,
    notes: runsc.notes,
  };
}
