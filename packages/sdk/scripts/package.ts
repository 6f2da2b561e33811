/**
 * Builds `@helmr/sdk` as a ready npm package: plain JavaScript, declarations, package.json, nothing from outside.
 *
 * For `npm run build` and for everything that serves or mounts the SDK inside guests. The result is cached by the
 * content of its inputs, because a build takes about a second (nearly all of it the declarations).
 *
 *   <folder>/package.json  LICENSE  README.md
 *   <folder>/lib/index.js  internal.js  chunk-*.js  **\/*.d.ts
 *
 * I1 A cache entry is complete or absent: it is built aside and renamed into place.
 */
import { execFile } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { cp, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const sdkRoot = fileURLToPath(new URL("..", import.meta.url));
const repositoryRoot = join(sdkRoot, "..", "..");
const require = createRequire(import.meta.url);
const run = promisify(execFile);

export interface SdkPackage {
  readonly name: "@helmr/sdk";
  readonly version: string;
  /** Hex SHA-256 of everything the package is built from: equal hashes mean equal packages. */
  readonly contentHash: string;
}

/**
 * Writes the package into `outDir`, which is created and, if it exists, replaced. Throws when the declarations do not
 * compile.
 */
export async function buildSdkPackage(outDir: string): Promise<SdkPackage> {
  const manifest = JSON.parse(await readFile(join(sdkRoot, "package.json"), "utf8")) as { version: string };
  const contentHash = await hashInputs();
  const cached = join(cacheRoot(), contentHash);
  if (!(await exists(cached))) await buildInto(cached);
  await rm(outDir, { recursive: true, force: true });
  await mkdir(dirname(outDir), { recursive: true });
  await cp(cached, outDir, { recursive: true });
  return { name: "@helmr/sdk", version: manifest.version, contentHash };
}

function cacheRoot(): string {
  const { XDG_CACHE_HOME } = process.env;
  const base =
    XDG_CACHE_HOME === undefined || XDG_CACHE_HOME === "" ? join(homedir(), ".cache") : XDG_CACHE_HOME;
  return join(base, "helmr", "sdk-package");
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function sourceFiles(): Promise<string[]> {
  const entries = await readdir(join(sdkRoot, "src"), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts") && !entry.name.endsWith(".test.ts"))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

async function hashInputs(): Promise<string> {
  const inputs = [
    ...(await sourceFiles()),
    join(sdkRoot, "package.json"),
    join(sdkRoot, "README.md"),
    join(sdkRoot, "tsconfig.build.json"),
    join(repositoryRoot, "tsconfig.json"),
    join(repositoryRoot, "LICENSE"),
    fileURLToPath(import.meta.url),
    require.resolve("esbuild/package.json"),
    require.resolve("typescript/package.json"),
  ];
  const hash = createHash("sha256");
  for (const path of inputs) {
    const content = await readFile(path);
    hash.update(`${relative(repositoryRoot, path)}\0${content.length}\0`).update(content);
  }
  return hash.digest("hex");
}

async function buildInto(target: string): Promise<void> {
  const staging = `${target}.${randomUUID()}`;
  try {
    await mkdir(join(staging, "lib"), { recursive: true });
    await Promise.all([bundle(join(staging, "lib")), declarations(join(staging, "lib")), extras(staging)]);
    await rename(staging, target); // I1
  } catch (error) {
    // Another process may have finished the same entry first; its content is the same.
    if (!(await exists(target))) throw error;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** `neutral` refuses Node's modules: the client must run in browsers. */
async function bundle(outDir: string): Promise<void> {
  const { build } = await import("esbuild");
  await build({
    entryPoints: [join(sdkRoot, "src/index.ts"), join(sdkRoot, "src/internal.ts")],
    outdir: outDir,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "neutral",
    target: "es2022",
    charset: "utf8",
    logLevel: "silent",
  });
}

async function declarations(outDir: string): Promise<void> {
  const typescript = require.resolve("typescript/package.json");
  const tsc = join(dirname(typescript), "bin", "tsc");
  const config = join(sdkRoot, "tsconfig.build.json");
  try {
    await run(process.execPath, [tsc, "-p", config, "--outDir", outDir], { timeout: 120_000 });
  } catch (error) {
    const output =
      typeof error === "object" && error !== null && "stdout" in error ? String(error.stdout) : "";
    throw new Error(`the declarations of @helmr/sdk do not compile; run npx tsc -p ${config}\n${output}`, {
      cause: error,
    });
  }
  for (const entry of await readdir(outDir, { recursive: true })) {
    if (!entry.endsWith(".d.ts")) continue;
    const path = join(outDir, entry);
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replaceAll(/(from |import\()"(\.[^"]*)\.ts"/g, '$1"$2.js"'));
  }
}

async function extras(target: string): Promise<void> {
  const { name, version, description, license } = JSON.parse(
    await readFile(join(sdkRoot, "package.json"), "utf8"),
  );
  const entry = (file: string) => ({ types: `./lib/${file}.d.ts`, default: `./lib/${file}.js` });
  const manifest = {
    name,
    version,
    description,
    license,
    type: "module",
    sideEffects: false,
    types: "./lib/index.d.ts",
    exports: { ".": entry("index"), "./internal": entry("internal"), "./package.json": "./package.json" },
    files: ["lib"],
  };
  await writeFile(join(target, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  await cp(join(repositoryRoot, "LICENSE"), join(target, "LICENSE"));
  await cp(join(sdkRoot, "README.md"), join(target, "README.md"));
}
