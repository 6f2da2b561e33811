/**
 * A build's own copy of the source: unpacked, its manifests and lockfiles prepared for the build's package registry,
 * and what they say about the package manager.
 */
import { lstat, mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { type ArtifactStore, extractDeploymentSource } from "@helmr/artifacts";
import { z } from "zod";
import { BuildFailure, messageOf } from "./failure.ts";
import { readSmallFile } from "./image-user.ts";
import { prepareFile, rewrittenNames, withoutByteOrderMark } from "./lockfiles.ts";
import { sdkSpecs } from "./sdk-versions.ts";

export interface PackageManager {
  readonly name: "npm" | "bun";
  /** As asked for, like `10.9.0`; undefined when only the name is given. */
  readonly version: string | undefined;
}

export interface PreparedSource {
  readonly manager: PackageManager;
  /** Every spec and locked version of @helmr/sdk in the source. */
  readonly specs: readonly string[];
  /** The lockfile that decides the command, or undefined. */
  readonly lockfile: "package-lock.json" | "npm-shrinkwrap.json" | "bun.lock" | "bun.lockb" | undefined;
}

const maxManifestBytes = 1024 * 1024;
/** A deployed tree holds few manifests; node_modules is never uploaded. */
const maxManifests = 2_000;

const packageJson = z.looseObject({ packageManager: z.string().optional() });

/** Unpack the source into `dir` (made) and prepare it. Throws BuildFailure. */
export async function prepareSource(
  artifacts: ArtifactStore,
  digest: string,
  dir: string,
  ownVersion: string,
): Promise<PreparedSource> {
  await mkdir(dir, { recursive: true, mode: 0o755 });
  try {
    await extractDeploymentSource(await artifacts.get(digest), dir);
  } catch (error) {
    throw new BuildFailure("source", `deployment build: the source cannot be unpacked: ${messageOf(error)}`, {
      step: "source",
      cause: error,
    });
  }
  const specs: string[] = [];
  for (const path of await manifests(dir)) specs.push(...(await prepareFile(path, ownVersion)));
  const manifest = await readManifest(dir);
  if (sdkSpecs(manifest).length === 0) {
    throw sourceFailure(
      'package.json does not name @helmr/sdk; add it: npm install @helmr/sdk, or "dependencies": { "@helmr/sdk": "*" }',
    );
  }
  const manager = packageManagerOf(manifest.packageManager);
  return { manager, specs, lockfile: await lockfileOf(dir, manager) };
}

function sourceFailure(message: string): BuildFailure {
  return new BuildFailure("source", `deployment build: ${message}`, { step: "source" });
}

async function readManifest(dir: string): Promise<z.infer<typeof packageJson>> {
  const path = join(dir, "package.json");
  const isFile = await lstat(path).then(
    (info) => info.isFile(),
    () => false,
  );
  const text = isFile ? await readSmallFile(path, maxManifestBytes) : undefined;
  if (text === undefined)
    throw sourceFailure("there is no package.json in the source; run helmr deploy in the project's folder");
  try {
    return packageJson.parse(JSON.parse(withoutByteOrderMark(text)));
  } catch (error) {
    throw sourceFailure(`package.json cannot be read: ${messageOf(error)}`);
  }
}

function packageManagerOf(text: string | undefined): PackageManager {
  if (text === undefined)
    throw sourceFailure(
      'package.json has no "packageManager"; add for example "packageManager": "npm@11.0.0"',
    );
  const match = /^([a-z]+)(?:@([^+\s]{1,64}).*)?$/.exec(text.trim());
  const name = match?.[1];
  if (name === "npm" || name === "bun") return { name, version: match?.[2] };
  throw new BuildFailure(
    "dependencies",
    `deployment build: packageManager ${JSON.stringify(text.slice(0, 100))} is not supported; use npm or bun, for example "packageManager": "npm@11.0.0"`,
    { step: "dependencies" },
  );
}

async function lockfileOf(dir: string, manager: PackageManager): Promise<PreparedSource["lockfile"]> {
  const names = new Set(await readdir(dir));
  const candidates =
    manager.name === "npm"
      ? (["npm-shrinkwrap.json", "package-lock.json"] as const)
      : (["bun.lock", "bun.lockb"] as const);
  return candidates.find((name) => names.has(name));
}

/** Regular files that are manifests or lockfiles. */
async function manifests(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const found = entries
    .filter((entry) => entry.isFile() && rewrittenNames.has(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));
  if (found.length > maxManifests)
    throw sourceFailure(`the source holds more than ${maxManifests} package.json files and lockfiles`);
  return found;
}
