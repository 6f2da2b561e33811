/** Contract 9.1: what a deployed package.json must say. Pure, so that client, worker and guest can check it alike. */

/** `packageManager` with the version as written (`11.2.0`, maybe with a hash). */
export type PackageJsonCheck =
  | { readonly ok: true; readonly packageManager: "npm" | "bun"; readonly version: string }
  | { readonly ok: false; readonly problems: readonly string[] };

/** Check the text of package.json; every problem says what to write. */
export function checkPackageJson(text: string): PackageJsonCheck {
  let manifest: unknown;
  try {
    manifest = JSON.parse(text);
  } catch (error) {
    return { ok: false, problems: [`package.json is not valid JSON: ${(error as Error).message}`] };
  }
  if (typeof manifest !== "object" || manifest === null || Array.isArray(manifest)) {
    return { ok: false, problems: ["package.json is not an object."] };
  }
  const { dependencies, packageManager } = manifest as { dependencies?: unknown; packageManager?: unknown };
  const problems: string[] = [];
  const hasSdk = typeof dependencies === "object" && dependencies !== null && "@helmr/sdk" in dependencies;
  if (!hasSdk) problems.push('package.json: add "@helmr/sdk" to "dependencies" (npm install @helmr/sdk).');
  const match = typeof packageManager === "string" ? /^(npm|bun)@(\S+)$/.exec(packageManager) : null;
  if (match === null) {
    problems.push(
      'package.json: set "packageManager" to the npm or bun you use, such as "npm@11.6.0" or "bun@1.3.0".',
    );
  }
  if (problems.length > 0 || match === null) return { ok: false, problems };
  return { ok: true, packageManager: match[1] === "bun" ? "bun" : "npm", version: match[2] ?? "" };
}
