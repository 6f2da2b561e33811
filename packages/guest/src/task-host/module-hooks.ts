/**
 * Module hooks of task host and indexer:
 *
 *  H1  `@helmr/sdk` and its subpaths always resolve to the copy Helmr brings, whoever imports them.
 *  H2  TypeScript is stripped; what stripping refuses (enums, namespaces, parameter properties) is transformed, with an
 *      inline source map; what does not parse is left to Node, whose syntax errors show file, line and caret.
 *  H3  Relative imports may leave out the extension or say `.js` for a `.ts` file, as bundlers and tsc allow.
 *  H4  An import that only tsconfig `paths` could resolve says so: whatever the nearest tsconfig.json declares (with what it
 *      extends), and what looks like an alias where there is none.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import module from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Script } from "node:vm";
import { getTsconfig } from "get-tsconfig";

const sdkName = "@helmr/sdk";
/** Longest first where one contains the other; the order TypeScript uses. */
const extensions = [".ts", ".mts", ".cts", ".js", ".mjs", ".cjs"];
const typescriptOf: Record<string, string> = { ".js": ".ts", ".mjs": ".mts", ".cjs": ".cts" };

/** Local modules in the order they were loaded; what failed last is near the end. */
const loaded: string[] = [];

/** Files (not of node_modules) loaded so far, newest first. */
export function recentlyLoadedFiles(): string[] {
  return loaded.toReversed();
}

/** Install the hooks. `sdkFolder`: package folder of the SDK. */
export function registerModuleHooks(sdkFolder: string): void {
  const sdkExports = readSdkExports(sdkFolder);
  module.registerHooks({
    resolve(specifier, context, nextResolve) {
      if (specifier === sdkName || specifier.startsWith(`${sdkName}/`)) {
        return { url: sdkUrl(sdkExports, specifier), format: "module", shortCircuit: true }; // H1
      }
      try {
        return nextResolve(specifier, context);
      } catch (error) {
        const fallback = relativeFallback(specifier, context.parentURL);
        if (fallback !== undefined) return nextResolve(fallback, context); // H3
        throw explainResolveError(error, specifier, context.parentURL);
      }
    },
    load(url, context, nextLoad) {
      if (!url.startsWith("file:") || url.includes("/node_modules/")) return nextLoad(url, context);
      loaded.push(url);
      if (!/\.[mc]?ts$/.test(url)) return nextLoad(url, context);
      return loadTypeScript(url) ?? nextLoad(url, context); // H2
    },
  });
}

function readSdkExports(sdkFolder: string): Map<string, string> {
  const manifest = JSON.parse(readFileSync(join(sdkFolder, "package.json"), "utf8")) as {
    exports: Record<string, string | { default?: string; import?: string }>;
  };
  const urls = new Map<string, string>();
  for (const [subpath, target] of Object.entries(manifest.exports)) {
    const file = typeof target === "string" ? target : (target.import ?? target.default);
    if (file !== undefined) urls.set(sdkName + subpath.slice(1), pathToFileURL(join(sdkFolder, file)).href);
  }
  return urls;
}

function sdkUrl(sdkExports: ReadonlyMap<string, string>, specifier: string): string {
  const url = sdkExports.get(specifier);
  if (url !== undefined) return url;
  const known = [...sdkExports.keys()].filter((name) => !name.endsWith(".json")).join(", ");
  throw new Error(`Cannot find "${specifier}": the SDK exports ${known}.`);
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function relativeFallback(specifier: string, parentUrl: string | undefined): string | undefined {
  if (!/^\.{1,2}(\/|$)|^file:/.test(specifier)) return undefined;
  if (parentUrl?.startsWith("file:") !== true || parentUrl.includes("/node_modules/")) return undefined;
  const path = fileURLToPath(new URL(specifier, parentUrl));
  const written = /\.[mc]?js$/.exec(path)?.[0];
  const candidates =
    written === undefined
      ? [
          ...extensions.map((extension) => path + extension),
          ...extensions.map((e) => join(path, `index${e}`)),
        ]
      : [path.slice(0, -written.length) + (typescriptOf[written] ?? written)];
  const found = candidates.find(isFile);
  return found === undefined ? undefined : pathToFileURL(found).href;
}

function explainResolveError(error: unknown, specifier: string, parentUrl: string | undefined): unknown {
  if (!(error instanceof Error)) return error;
  const declared = declaredAlias(specifier, parentUrl);
  const looksLikeAlias = /^[@~]\//.test(specifier) || /^~[^/]/.test(specifier);
  if (declared === undefined && !looksLikeAlias) return error;
  const what =
    declared === undefined
      ? "looks like a path alias"
      : `is a path alias: tsconfig.json declares ${JSON.stringify(declared)}`;
  error.message +=
    `\n"${specifier}" ${what}. Helmr does not read tsconfig "paths": use a relative import, or ` +
    '"imports" in package.json ("#name").';
  return error;
}

/** The pattern of tsconfig `paths` that the specifier matches. */
function declaredAlias(specifier: string, parentUrl: string | undefined): string | undefined {
  if (parentUrl?.startsWith("file:") !== true || parentUrl.includes("/node_modules/")) return undefined;
  try {
    const paths = getTsconfig(fileURLToPath(parentUrl))?.config.compilerOptions?.paths ?? {};
    return Object.keys(paths).find((pattern) => matchesPattern(specifier, pattern));
  } catch {
    return undefined; // A tsconfig.json that cannot be read explains nothing; the import's own error stands.
  }
}

/** As TypeScript: one `*` stands for anything. */
function matchesPattern(specifier: string, pattern: string): boolean {
  const [before = "", after] = pattern.split("*");
  if (after === undefined) return specifier === pattern;
  return (
    specifier.length >= before.length + after.length &&
    specifier.startsWith(before) &&
    specifier.endsWith(after)
  );
}

/** Run a function of Node that announces itself as experimental, without the announcement on the task's stderr. */
function withoutWarning<T>(call: () => T): T {
  const { emitWarning } = process;
  process.emitWarning = () => undefined;
  try {
    return call();
  } finally {
    process.emitWarning = emitWarning;
  }
}

/**
 * The module as JavaScript, or undefined when it does not parse: Node's own loading then fails with the position.
 * Stripping keeps every position; it is tried first because it needs no source map.
 */
function loadTypeScript(url: string): module.LoadFnOutput | undefined {
  const source = readFileSync(fileURLToPath(url), "utf8");
  try {
    const code = withoutWarning(() => module.stripTypeScriptTypes(source, { mode: "strip" }));
    return { format: formatOf(url, code), source: code, shortCircuit: true };
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX") return undefined;
  }
  const code = withoutWarning(() =>
    module.stripTypeScriptTypes(source, { mode: "transform", sourceMap: true, sourceUrl: url }),
  );
  // Costs on every `error.stack`, so only where a map is needed.
  process.setSourceMapsEnabled(true);
  return { format: formatOf(url, code), source: code, shortCircuit: true };
}

/** `.mts`, `.cts`, the nearest package.json, or else whether it parses as a script: Node's own order. */
function formatOf(url: string, code: string): "module" | "commonjs" {
  if (url.endsWith(".mts")) return "module";
  if (url.endsWith(".cts")) return "commonjs";
  const type = nearestPackageType(url);
  if (type === "module" || type === "commonjs") return type;
  try {
    new Script(`(function (exports, require, module) {${code}\n})`);
    return "commonjs";
  } catch {
    return "module";
  }
}

function nearestPackageType(url: string): unknown {
  for (let folder = new URL(".", url); ; folder = new URL("..", folder)) {
    const manifest = new URL("package.json", folder);
    if (existsSync(manifest)) {
      return (JSON.parse(readFileSync(manifest, "utf8")) as { type?: unknown }).type;
    }
    if (folder.pathname === "/") return undefined;
  }
}
