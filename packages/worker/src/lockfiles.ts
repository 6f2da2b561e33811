/**
 * The build's copy of a project made installable: what package.json files and lockfiles say about `@helmr/sdk` is
 * rewritten so that the registry of the build can serve it; and what an installation wrote down about that registry is
 * removed again. Every other entry stays as it is.
 */
import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { isRegistrySpec, replaceLocalSpecs, sdkPackageName, sdkSpecs } from "./sdk-versions.ts";

type JsonObject = Record<string, unknown>;
const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const npmLockNames = new Set(["package-lock.json", "npm-shrinkwrap.json", ".package-lock.json"]);
export const rewrittenNames: ReadonlySet<string> = new Set(["package.json", "bun.lock", ...npmLockNames]);

/**
 * Rewrite one file if it is a manifest or lockfile; returns the specs under which it names the SDK. A file that does
 * not parse is left alone: the package manager says what is wrong with it.
 */
export async function prepareFile(path: string, ownVersion: string): Promise<string[]> {
  const name = basename(path);
  if (!rewrittenNames.has(name)) return [];
  const before = await readFile(path, "utf8");
  const { text, specs } = prepareText(name, before, ownVersion);
  if (text !== before) await writeFile(path, text);
  return specs;
}

/** As prepareFile, on the text of a file of that name. */
export function prepareText(
  name: string,
  text: string,
  ownVersion: string,
): { text: string; specs: string[] } {
  if (name === "bun.lock") return prepareBunLock(text, ownVersion);
  const json = parse(text);
  if (!isObject(json)) return { text, specs: [] };
  if (!npmLockNames.has(name)) {
    const changed = replaceLocalSpecs(json, ownVersion);
    return { text: changed ? `${JSON.stringify(json, null, 2)}\n` : text, specs: sdkSpecs(json) };
  }
  const specs = prepareNpmLock(json, ownVersion);
  return { text: `${JSON.stringify(json, null, 2)}\n`, specs };
}

/** As npm and Node read JSON: some editors write the mark. */
export function withoutByteOrderMark(text: string): string {
  return text.replace(/^\uFEFF/, "");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(withoutByteOrderMark(text));
  } catch {
    return undefined;
  }
}

/** Versions 1 (`dependencies`), 2 and 3 (`packages`). */
function prepareNpmLock(lock: JsonObject, ownVersion: string): string[] {
  const specs: string[] = [];
  for (const [path, entry] of Object.entries(isObject(lock.packages) ? lock.packages : {})) {
    if (!isObject(entry)) continue;
    replaceLocalSpecs(entry, ownVersion);
    specs.push(...sdkSpecs(entry));
    if (path.endsWith(`node_modules/${sdkPackageName}`)) specs.push(resetEntry(entry, ownVersion));
  }
  prepareOldDependencies(lock.dependencies, ownVersion, specs, 0);
  return specs;
}

function prepareOldDependencies(
  dependencies: unknown,
  ownVersion: string,
  specs: string[],
  depth: number,
): void {
  if (!isObject(dependencies) || depth > 50) return;
  for (const [name, entry] of Object.entries(dependencies)) {
    if (!isObject(entry)) continue;
    if (name === sdkPackageName) specs.push(resetEntry(entry, ownVersion));
    prepareOldDependencies(entry.dependencies, ownVersion, specs, depth + 1);
  }
}

/** Without `resolved` and `integrity` npm asks the registry by name and version. Returns that version. */
function resetEntry(entry: JsonObject, ownVersion: string): string {
  const { resolved: _resolved, integrity: _integrity, link: _link, ...rest } = entry;
  const version =
    typeof rest.version === "string" && isRegistrySpec(rest.version) ? rest.version : ownVersion;
  for (const key of Object.keys(entry)) delete entry[key];
  Object.assign(entry, { ...rest, version });
  return version;
}

/** bun writes one package per line: `"name": ["name@version", "tarball url", {...}, "integrity"],` */
const bunPackageLine = /^(\s*"(?:[^"]*\/)?@helmr\/sdk":\s*)(\[.*\])(,?)\s*$/;
const bunSpecLine = /^(\s*"@helmr\/sdk":\s*)"([^"]*)"(,?)\s*$/;

function prepareBunLock(text: string, ownVersion: string): { text: string; specs: string[] } {
  const specs: string[] = [];
  const lines = text.split("\n").map((line) => {
    const spec = bunSpecLine.exec(line);
    if (spec?.[2] !== undefined) {
      const kept = isRegistrySpec(spec[2]) ? spec[2] : ownVersion;
      specs.push(kept);
      return `${spec[1]}${JSON.stringify(kept)}${spec[3]}`;
    }
    const match = bunPackageLine.exec(line);
    const tuple = match === null ? undefined : parse(match[2] ?? "");
    if (match === null || !Array.isArray(tuple) || typeof tuple[0] !== "string") return line;
    const locked = tuple[0].slice(sdkPackageName.length + 1);
    const version = isRegistrySpec(locked) ? locked : ownVersion;
    specs.push(version);
    const info = tuple.find(isObject) ?? {};
    return `${match[1]}${JSON.stringify([`${sdkPackageName}@${version}`, "", info, ""])}${match[3]}`;
  });
  return { text: lines.join("\n"), specs };
}

/** Remove the build registry's address from the text of a lockfile that an installation wrote. */
export function forgetRegistry(name: string, text: string, registryUrl: string): string {
  if (npmLockNames.has(name)) {
    const lock = parse(text);
    if (isObject(lock)) {
      prepareNpmLock(lock, "0.0.0");
      return `${JSON.stringify(lock, null, 2)}\n`;
    }
  }
  if (name === "bun.lock") return prepareBunLock(text, "0.0.0").text.replaceAll(registryUrl, "");
  return text.replaceAll(registryUrl, "");
}
