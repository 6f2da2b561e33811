/** Which versions of `@helmr/sdk` a project asks for, and which to offer so that every one of them is satisfied. */
import semver from "semver";

export const sdkPackageName = "@helmr/sdk";

/** Specs that name no registry version: they cannot work in a build and are replaced by our own version. */
export function isRegistrySpec(spec: string): boolean {
  return !/^(?:workspace|file|link|portal|git|git\+\w+|github|https?):|^(?:\.{0,2}\/|[\w-]+\/[\w.-]+(?:#|$))/.test(
    spec.trim(),
  );
}

/**
 * The versions to offer: ours, and for every asked range that ours does not satisfy one that does. Tags (`latest`,
 * `next`) stand for ours and are returned apart. A range nothing can satisfy (`>2 <1`) adds nothing.
 */
export function offeredVersions(
  own: string,
  specs: readonly string[],
): { versions: string[]; tags: string[] } {
  const versions = new Set([own]);
  const tags = new Set(["latest"]);
  for (const spec of specs) {
    const asked = spec.replace(/^npm:@helmr\/sdk@/, "").trim();
    const range = semver.validRange(asked);
    if (range === null) {
      if (/^[a-z][\w.-]*$/i.test(asked)) tags.add(asked);
      continue;
    }
    if ([...versions].some((version) => semver.satisfies(version, range))) continue;
    const found = satisfying(range);
    if (found !== undefined) versions.add(found);
  }
  return { versions: [...versions].sort(semver.compare), tags: [...tags].sort() };
}

/** Some version in the range; alternatives (`||`) are tried in turn. */
function satisfying(range: string): string | undefined {
  for (const part of range.split("||")) {
    const lowest = semver.minVersion(part === "" ? "*" : part)?.version;
    if (lowest !== undefined && semver.satisfies(lowest, range)) return lowest;
  }
  return undefined;
}

const dependencyFields = [
  "dependencies",
  "devDependencies",
  "optionalDependencies",
  "peerDependencies",
] as const;

/** Every spec under which a package.json (or an entry of a lockfile) names the SDK. */
export function sdkSpecs(manifest: unknown): string[] {
  if (typeof manifest !== "object" || manifest === null) return [];
  return dependencyFields.flatMap((field) => {
    const entries: unknown = (manifest as Record<string, unknown>)[field];
    if (typeof entries !== "object" || entries === null) return [];
    const spec: unknown = (entries as Record<string, unknown>)[sdkPackageName];
    return typeof spec === "string" ? [spec] : [];
  });
}

/** Replace specs that no registry can serve by `version`. Returns whether something changed. */
export function replaceLocalSpecs(manifest: unknown, version: string): boolean {
  if (typeof manifest !== "object" || manifest === null) return false;
  let changed = false;
  for (const field of dependencyFields) {
    const entries: unknown = (manifest as Record<string, unknown>)[field];
    if (typeof entries !== "object" || entries === null) continue;
    const record = entries as Record<string, unknown>;
    const spec = record[sdkPackageName];
    if (typeof spec !== "string" || isRegistrySpec(spec)) continue;
    record[sdkPackageName] = version;
    changed = true;
  }
  return changed;
}
