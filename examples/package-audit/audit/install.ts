/** Installing the package with what it needs, without running anybody's scripts, and counting what came along. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Npm, tail } from "./command.ts";
import type { FoundPackage } from "./fetch.ts";

export interface Dependencies {
  /** Named by the package itself. */
  readonly direct: number;
  /** Everything installed besides the package. */
  readonly transitive: number;
  readonly names: readonly string[];
  /** Installed packages that would have run a script. */
  readonly withInstallScripts: readonly string[];
}

interface LockFile {
  readonly packages: Readonly<
    Record<string, { dependencies?: Record<string, string>; hasInstallScript?: boolean; version?: string }>
  >;
}

const installTimeoutMs = 180_000;
const namesShown = 200;

export async function installPackage(
  npm: Npm,
  found: FoundPackage,
  scratch: string,
): Promise<{ dir: string; dependencies: Dependencies }> {
  const dir = join(scratch, "installed");
  await mkdir(dir);
  const manifest = {
    name: "audited",
    private: true,
    type: "module",
    dependencies: { [found.name]: found.version },
  };
  await writeFile(join(dir, "package.json"), JSON.stringify(manifest));
  const argv = ["npm", "install", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"] as const;
  const result = await npm.run(argv, { cwd: dir, timeoutMs: installTimeoutMs });
  if (result.exitCode !== 0)
    throw new Error(`${found.name}@${found.version} cannot be installed:\n${tail(result)}`);
  const lock = JSON.parse(await readFile(join(dir, "package-lock.json"), "utf8")) as LockFile;
  return { dir, dependencies: countDependencies(lock, found.name) };
}

/** Counts over npm's lock file: one entry per installed folder. */
export function countDependencies(lock: LockFile, name: string): Dependencies {
  const own = `node_modules/${name}`;
  const others = Object.entries(lock.packages).filter(([path]) => path !== "" && path !== own);
  const nameOf = (path: string): string =>
    path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
  return {
    direct: Object.keys(lock.packages[own]?.dependencies ?? {}).length,
    transitive: others.length,
    names: others.map(([path, { version = "?" }]) => `${nameOf(path)}@${version}`).slice(0, namesShown),
    withInstallScripts: Object.entries(lock.packages)
      .filter(([, entry]) => entry.hasInstallScript)
      .map(([path]) => nameOf(path)),
  };
}
