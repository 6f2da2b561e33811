/** A task project on disk: where it is, and what its package.json and helmr.config.ts say that a deploy needs. */
import { spawn } from "node:child_process";
import { readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CliError, messageOf } from "../errors.ts";

export interface Project {
  readonly dir: string;
  /** Slug or id, from helmr.config.ts. */
  readonly project: string;
  readonly ignorePatterns: readonly string[];
}

/** Contract 9.1. */
const defaultIgnorePatterns = ["**/*.test.*", "**/*.spec.*", "**/_*.*"];
const packageManagers = /^(npm|bun)@/;
const configTimeoutMs = 30_000;
const configOutputLimit = 1024 * 1024;

/** Read and check the project in `dir`. Throws a CliError that names the file and what it should hold. */
export async function readProject(dir: string): Promise<Project> {
  const root = await realpath(dir).catch((error: unknown) => {
    throw new CliError(`cannot open the project folder: ${messageOf(error)}`, {
      hint: "`helmr init` makes a project",
    });
  });
  await checkManifest(root);
  const configPath = join(root, "helmr.config.ts");
  const isFile = await stat(configPath).then(
    (found) => found.isFile(),
    () => false,
  );
  if (!isFile) {
    throw new CliError(`there is no helmr.config.ts in ${root}`, {
      hint: 'name the project\'s folder, or write one: export default defineConfig({ project: "default", dirs: ["tasks"] })',
    });
  }
  return { dir: root, ...(await loadConfig(root, configPath)) };
}

async function checkManifest(root: string): Promise<void> {
  const path = join(root, "package.json");
  let manifest: { packageManager?: unknown; dependencies?: Record<string, unknown> };
  try {
    // As npm and Node do: some editors write a byte order mark.
    manifest = JSON.parse((await readFile(path, "utf8")).replace(/^\uFEFF/, ""));
  } catch (error) {
    throw new CliError(`cannot read the project's package.json: ${messageOf(error)}`, {
      hint: "`helmr init` makes a project",
    });
  }
  if (typeof manifest?.dependencies?.["@helmr/sdk"] !== "string") {
    throw new CliError(`${path} does not have @helmr/sdk in its dependencies`, {
      hint: 'add "dependencies": {"@helmr/sdk": "^0.1.0"}',
    });
  }
  if (typeof manifest.packageManager !== "string" || !packageManagers.test(manifest.packageManager)) {
    const given =
      manifest.packageManager === undefined
        ? "has no packageManager"
        : `has packageManager ${JSON.stringify(manifest.packageManager)}`;
    throw new CliError(`${path} ${given}`, {
      hint: 'use npm or bun, such as "packageManager": "npm@11.0.0"',
    });
  }
}

const loader = fileURLToPath(new URL("config-loader.ts", import.meta.url));
/** Enums and namespaces, which plain stripping refuses, work in a build: where this Node can, they do here. */
const transformTypes = process.allowedNodeEnvironmentFlags.has("--experimental-transform-types")
  ? ["--experimental-transform-types", "--disable-warning=ExperimentalWarning"]
  : [];

/**
 * helmr.config.ts is a program: it is run in a child process of its own, without the API key, and only plain data comes
 * back (through the third pipe, so that what it prints is not taken for its value).
 */
async function loadConfig(root: string, path: string): Promise<Omit<Project, "dir">> {
  const { HELMR_API_KEY: _, ...env } = process.env;
  const child = spawn(process.execPath, [...transformTypes, loader, path], {
    cwd: root,
    env,
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    timeout: configTimeoutMs,
    killSignal: "SIGKILL",
  });
  const [, printed = "", warned = "", answer = ""] = await Promise.all([
    new Promise<void>((resolve, reject) => child.once("close", () => resolve()).once("error", reject)),
    ...child.stdio.slice(1).map((stream) => readBounded(stream as AsyncIterable<Buffer>)),
  ]);
  const said = `${printed}${warned}`.trim();
  if (child.exitCode !== 0) {
    throw new CliError(
      `helmr.config.ts cannot be loaded${said === "" ? ` (${child.signalCode ?? child.exitCode})` : `:\n${said}`}`,
      /Cannot find package/.test(said)
        ? { hint: "packages it imports must be installed in the project; @helmr/sdk need not be" }
        : {},
    );
  }
  if (answer === "") {
    throw new CliError("helmr.config.ts ended the process while it was loaded (process.exit?)", {
      hint: "it is a module that default-exports a configuration and does nothing else",
    });
  }
  if (said !== "") process.stderr.write(`${said}\n`);
  return configOf(JSON.parse(answer));
}

function configOf(value: { project?: unknown; ignorePatterns?: unknown } | null): Omit<Project, "dir"> {
  if (typeof value?.project !== "string") {
    throw new CliError("helmr.config.ts does not default-export a configuration", {
      hint: 'write: export default defineConfig({ project: "default", dirs: ["tasks"] })',
    });
  }
  const given = value.ignorePatterns;
  const isList =
    Array.isArray(given) && given.every((pattern): pattern is string => typeof pattern === "string");
  if (given !== undefined && !isList)
    throw new CliError("ignorePatterns of helmr.config.ts must be a list of patterns");
  return { project: value.project, ignorePatterns: isList ? given : defaultIgnorePatterns };
}

async function readBounded(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    // Beyond the limit it is read and dropped, so that the child is not held up by a full pipe.
    if (size < configOutputLimit) chunks.push(chunk);
    size += chunk.length;
  }
  return Buffer.concat(chunks).toString("utf8");
}
