/**
 * Child process of `helmr deploy`: imports the helmr.config.ts given as the first argument and writes what a deploy needs
 * of it as JSON to descriptor 3. `@helmr/sdk` is the project's own where it has one, else the command's.
 */
import { existsSync, writeSync } from "node:fs";
import { registerHooks } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const sdkUrl = import.meta.resolve("@helmr/sdk");

registerHooks({
  resolve(specifier, context, nextResolve) {
    try {
      return nextResolve(specifier, context);
    } catch (error) {
      if (specifier === "@helmr/sdk") return { url: sdkUrl, shortCircuit: true };
      const file = typescriptFile(specifier, context.parentURL);
      if (file === undefined) throw error;
      return nextResolve(file, context);
    }
  },
});

/** The build takes `./x` and `./x.js` for `./x.ts`, as tsc does; so does this. */
function typescriptFile(specifier: string, parentUrl: string | undefined): string | undefined {
  if (!/^\.\.?\//.test(specifier) || parentUrl === undefined) return undefined;
  const candidates = [`${specifier}.ts`, specifier.replace(/\.([cm]?)js$/, ".$1ts")];
  return candidates.find((candidate) => existsSync(new URL(candidate, parentUrl)));
}

const sdkFolder = fileURLToPath(new URL(".", sdkUrl));
const ownFolders = [sdkFolder, import.meta.filename, "/node_modules/@helmr/sdk/"];

function isForeignFrame(line: string): boolean {
  if (!/^\s+at /.test(line)) return false;
  return /node:internal|\(internal/.test(line) || ownFolders.some((folder) => line.includes(folder));
}

const [, , path = ""] = process.argv;
try {
  const { default: config } = (await import(pathToFileURL(path).href)) as {
    default?: Record<string, unknown>;
  };
  writeSync(3, JSON.stringify({ project: config?.project, ignorePatterns: config?.ignorePatterns }));
  process.exit(0);
} catch (error) {
  // The stack of a syntax error starts with file and line; frames of Node, of the SDK and of this file say nothing to
  // the author.
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  console.error(
    text
      .split("\n")
      .filter((line) => !isForeignFrame(line))
      .join("\n")
      .trimEnd(),
  );
  process.exit(1);
}
