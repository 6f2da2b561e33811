/**
 * Builds what is mounted at /opt/helmr: agent, task host and indexer as plain ESM for Node 22.18, the addons
 * (native/), and the SDK package.
 *
 * I1  The folder is complete or absent: it is built aside and renamed into place.
 * I2  A folder with the same digest is left untouched, because guests may have it mounted.
 * I3  Equal contents have equal times on every worker: a guest that is saved on one may go on at another.
 */
import { createHash, randomUUID } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { buildSdkPackage } from "@helmr/sdk/package";
import { setFixedTimes } from "./fixed-times.ts";

export interface GuestBundle {
  /** Hex SHA-256 of every file's path and content. */
  readonly digest: string;
}

const digestFile = "DIGEST";
/** Part of the digest: what was built before its times were fixed is built again. */
const format = "2";
/** Both: the folder may be mounted into a guest of another architecture than its maker's (QEMU). */
const addons = ["reseed-x64.node", "reseed-arm64.node", "spawn-x64.node", "spawn-arm64.node"];

/** Write the bundle to `outDir`. Takes about half a second, or two when the SDK's declarations must be made. */
export async function buildGuestBundle(outDir: string): Promise<GuestBundle> {
  const staging = `${outDir}.${randomUUID()}`;
  try {
    await mkdir(staging, { recursive: true });
    await Promise.all([
      bundlePrograms(staging),
      buildSdkPackage(join(staging, "sdk")),
      copyFile(join(import.meta.dirname, "task-host/warm.ts"), join(staging, "warm.ts")),
      ...addons.map((name) => copyFile(join(import.meta.dirname, "../native", name), join(staging, name))),
    ]);
    const digest = await digestOf(staging);
    if ((await presentDigest(outDir)) === digest) return { digest }; // I2
    await writeFile(join(staging, digestFile), digest);
    await setFixedTimes(staging); // I3
    await mkdir(dirname(outDir), { recursive: true });
    await replace(staging, outDir); // I1
    return { digest };
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function bundlePrograms(outDir: string): Promise<void> {
  const { build } = await import("esbuild");
  const source = import.meta.dirname;
  await build({
    entryPoints: {
      agent: join(source, "agent/main.ts"),
      "task-host": join(source, "task-host/main.ts"),
      indexer: join(source, "indexer/main.ts"),
    },
    outdir: outDir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    minifySyntax: true,
    minifyWhitespace: true,
    format: "esm",
    platform: "node",
    target: "node22.18",
    legalComments: "none",
    logLevel: "silent",
    // CommonJS dependencies (picomatch) call require for Node's own modules.
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module";const require=__createRequire(import.meta.url);',
    },
  });
}

async function digestOf(folder: string): Promise<string> {
  const hash = createHash("sha256").update(`${format}\0`);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  for (const file of files.sort()) {
    const content = await readFile(file);
    hash.update(`${relative(folder, file)}\0${content.length}\0`).update(content);
  }
  return hash.digest("hex");
}

async function presentDigest(outDir: string): Promise<string | undefined> {
  try {
    return await readFile(join(outDir, digestFile), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function replace(staging: string, outDir: string): Promise<void> {
  const old = `${outDir}.${randomUUID()}`;
  await rename(outDir, old).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rename(staging, outDir);
  await rm(old, { recursive: true, force: true });
}
