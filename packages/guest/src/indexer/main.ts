/**
 * The indexer: loads helmr.config.ts and the task modules of a source tree in a build guest, and reports the catalog.
 * Usage: node indexer.mjs <source root>, with the agent's channel on file descriptor 3.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { limits } from "@helmr/guest-protocol/constants";
import type * as Sdk from "@helmr/sdk/internal";
import type { FromIndexer } from "../host-protocol.ts";
import { openJsonChannel } from "../json-channel.ts";
import { locateSyntaxError } from "../load-error.ts";
import { boundedText, describeThrown } from "../task-error.ts";
import { registerModuleHooks } from "../task-host/module-hooks.ts";
import { collectCatalog, type LoadedModule, type Problem } from "./collect.ts";
import { defaultIgnorePatterns, findTaskFiles } from "./walk.ts";

const configFile = "helmr.config.ts";
const moduleLimitMs = 60_000;
const maxProblems = 100;

const exit = process.exit.bind(process);
const root = process.argv[2] ?? process.cwd();
const sdkFolder = join(import.meta.dirname, "sdk");
registerModuleHooks(sdkFolder);
const channel = openJsonChannel<never, FromIndexer>(() => undefined);
const sdk = (await import(pathToFileURL(join(sdkFolder, "lib", "internal.js")).href)) as typeof Sdk;
let loading = configFile;

process.on("uncaughtException", (error) => {
  void report([{ kind: "task_parse_failed", text: `${loading}: ${thrownText(error)}` }]);
});
await index();

async function index(): Promise<void> {
  if (!existsSync(join(root, configFile))) {
    const text = `${configFile} is missing at the root of the deployed source; create it with helmr init.`;
    return report([{ kind: "missing_config", text }]);
  }
  const config = await load(configFile);
  if ("kind" in config) return report([config]);
  let definition: Sdk.ConfigDefinition;
  let files: string[];
  try {
    definition = sdk.configDefinition(config.exports.default);
    files = findTaskFiles(root, definition.dirs, definition.ignorePatterns ?? defaultIgnorePatterns);
  } catch (error) {
    return report([{ kind: "invalid_definition", text: (error as Error).message }]);
  }
  const modules: LoadedModule[] = [];
  const problems: Problem[] = [];
  for (const file of files) {
    const loaded = await load(file);
    if ("kind" in loaded) problems.push(loaded);
    else modules.push(loaded);
  }
  const collected = collectCatalog(definition.project, modules, sdk);
  // A module that does not load may hold what others miss (a queue, the only task): say that alone.
  if (problems.length > 0) return report(problems);
  if (collected.problems.length > 0) return report(collected.problems);
  const json = JSON.stringify(collected.catalog);
  if (Buffer.byteLength(json) > limits.catalogBytes) {
    const text = `The catalog takes ${Buffer.byteLength(json)} bytes; the limit is ${limits.catalogBytes}. Deploy fewer tasks.`;
    return report([{ kind: "invalid_definition", text }]);
  }
  await finish({ type: "index.finished", catalog_json: json });
}

async function load(file: string): Promise<LoadedModule | Problem> {
  loading = file;
  channel.send({ type: "loading", file });
  let timer: NodeJS.Timeout | undefined;
  try {
    const limit = new Promise<never>((_, reject) => {
      const text = `loading took longer than ${moduleLimitMs / 1000} s; do no work at import.`;
      timer = setTimeout(() => reject(new Error(text)), moduleLimitMs);
    });
    const exports = await Promise.race([import(pathToFileURL(join(root, file)).href), limit]);
    return { file, exports: exports as Record<string, unknown> };
  } catch (error) {
    locateSyntaxError(error);
    return { kind: "task_parse_failed", text: boundedText(`${file}: ${thrownText(error)}`) };
  } finally {
    clearTimeout(timer);
  }
}

/** Message and the author's own stack frames; paths relative to the source. */
function thrownText(error: unknown): string {
  const { message, stack, cause } = describeThrown(error);
  const lines = (stack ?? message)
    .split("\n")
    .filter((line) => !/^\s+at .*(node:internal|\/opt\/helmr\/|task-host\.mjs|indexer\.mjs)/.test(line))
    .map((line) => line.replaceAll(pathToFileURL(`${root}/`).href, "").replaceAll(`${root}/`, ""));
  if (cause !== undefined) lines.push(`caused by ${cause.name}: ${cause.message}`);
  return lines.join("\n");
}

function report(problems: readonly Problem[]): Promise<void> {
  return finish({
    type: "index.failed",
    failure_kind: problems[0]?.kind ?? "invalid_definition",
    problems: problems.slice(0, maxProblems).map((problem) => boundedText(problem.text)),
  });
}

async function finish(message: FromIndexer): Promise<void> {
  channel.send(message);
  await channel.flushed();
  exit(0);
}
