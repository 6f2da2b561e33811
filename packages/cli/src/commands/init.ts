/** `helmr init`: a small task project that deploys as it is. */
import { access, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { makeFolder } from "@helmr/process/make-folder";
import type { Command } from "commander";
import { declare } from "../command.ts";
import { readCredentials } from "../credentials.ts";
import { CliError, exitCodes, messageOf, usageError } from "../errors.ts";
import { projectFiles } from "../init/templates.ts";
import { note, writeJson, writeStdout } from "../output.ts";

interface InitOptions {
  readonly force?: boolean;
  readonly project?: string;
  readonly json?: boolean;
}

export function register(program: Command): void {
  declare(program, "init [dir]", "Write a small task project that deploys as it is", [
    "helmr init my-project",
    "helmr init . --force",
  ])
    .option("--project <slug>", "project to deploy to (default: the saved server's, else default)")
    .option("--force", "overwrite files that are there")
    .option("--json", "print {dir, files} as JSON")
    .action(init);
}

async function init(given: string | undefined, options: InitOptions): Promise<void> {
  const dir = resolve(given ?? ".");
  const project = options.project ?? (await savedProject()) ?? "default";
  const files = projectFiles({ name: packageName(basename(dir)), project });
  if (!options.force) await refuseOverwriting(dir, Object.keys(files));
  for (const [path, text] of Object.entries(files)) {
    await makeProjectFolder(dirname(join(dir, path)));
    await writeFile(join(dir, path), text);
  }
  await installSdk(dir);
  if (options.json) return writeJson({ dir, files: Object.keys(files) });
  const shown = relative(process.cwd(), dir) || ".";
  await writeStdout(
    `${Object.keys(files)
      .map((path) => join(shown, path))
      .join("\n")}\n`,
  );
  note(
    `\nNext:\n  helmr deploy ${shellWord(shown)}\n  helmr session start hello --payload '{"name":"Ada"}' --follow`,
  );
}

async function makeProjectFolder(path: string): Promise<void> {
  await makeFolder(path, 0o777).catch((error: unknown) => {
    throw usageError(`the folder ${path} cannot be made: ${messageOf(error)}`, "name another folder");
  });
}

/** As it has to be typed: a folder with a space or a quote in its name is one word. */
function shellWord(text: string): string {
  return /^[\p{L}\p{N}@%+=:,./_-]+$/u.test(text) && !text.startsWith("-")
    ? text
    : `'${text.replaceAll("'", "'\\''")}'`;
}

async function savedProject(): Promise<string | undefined> {
  const { default_url, hosts } = await readCredentials();
  return default_url === undefined ? undefined : hosts[default_url]?.project;
}

/** A folder's name as npm accepts it for a package. */
function packageName(folder: string): string {
  const name = folder
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .replaceAll(/^-+|-+$/g, "");
  return name === "" ? "helmr-project" : name.slice(0, 200);
}

async function refuseOverwriting(dir: string, paths: readonly string[]): Promise<void> {
  const there: string[] = [];
  for (const path of paths) {
    const exists = await access(join(dir, path)).then(
      () => true,
      () => false,
    );
    if (exists) there.push(path);
  }
  if (there.length === 0) return;
  throw new CliError(
    `${there.join(", ")} ${there.length === 1 ? "is" : "are"} there already in ${dir}; nothing was written`,
    {
      exitCode: exitCodes.usage,
      hint: "choose another folder, or overwrite with --force",
    },
  );
}

/** The SDK is on no registry: editors and tsc find it where npm would have put it. A deploy does not need it. */
async function installSdk(dir: string): Promise<void> {
  try {
    const { buildSdkPackage } = await import("@helmr/sdk/package");
    await buildSdkPackage(join(dir, "node_modules", "@helmr", "sdk"));
  } catch (error) {
    note(
      `@helmr/sdk could not be put into node_modules: ${messageOf(error)}\nhint: the project deploys all the same; an editor will not know its types`,
    );
  }
}
