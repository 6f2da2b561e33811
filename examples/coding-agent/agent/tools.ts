/**
 * What the model can do: read, write and list files of the workspace, and run commands in it.
 *
 * Paths outside of the workspace are refused to catch mistakes. What really holds the model is the guest: a command may do
 * whatever the sandbox allows.
 */
import { mkdir, readdir, readFile, realpath, stat, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";
import { keepEnds, runCommand } from "./command.ts";
import { agentFolder } from "./memory.ts";
import type { ToolDescription } from "./model.ts";
import { limits } from "./settings.ts";

export interface ToolResult {
  /** For the model. */
  readonly text: string;
  readonly ok: boolean;
  /** For whoever watches: one line. */
  readonly summary: string;
  /** For whoever watches closely. */
  readonly detail?: Detail;
}
/** What a command printed; what was written. */
export type Detail =
  | { readonly type: "output"; readonly text: string }
  | { readonly type: "file"; readonly path: string; readonly text: string };
export interface ToolContext {
  readonly workspace: string;
  readonly signal: AbortSignal;
}
interface Tool extends ToolDescription {
  run(input: Record<string, unknown>, context: ToolContext): Promise<ToolResult>;
}

const hiddenFolders = [".git", "node_modules", agentFolder];
const path = { type: "string", description: "relative to the project's folder" };

function parameters(properties: Record<string, unknown>): Record<string, unknown> {
  return { type: "object", properties, required: Object.keys(properties), additionalProperties: false };
}

const tools: readonly Tool[] = [
  {
    name: "list_files",
    description: "All files of the project, without those of git and node_modules.",
    parameters: parameters({}),
    async run(_input, { workspace }) {
      const files = await listFiles(workspace);
      return { ok: true, text: files.join("\n"), summary: `listed ${files.length} files` };
    },
  },
  {
    name: "read_file",
    description: "The text of a file.",
    parameters: parameters({ path }),
    async run(input, { workspace }) {
      const file = await inWorkspace(workspace, input.path);
      const { size } = await stat(file);
      if (size > limits.fileBytes) throw new Error(`is larger than ${limits.fileBytes} bytes`);
      const text = await readFile(file, "utf8");
      return {
        ok: true,
        text: keepEnds(text, limits.shownCharacters),
        summary: `read ${input.path}, ${size} bytes`,
      };
    },
  },
  {
    name: "write_file",
    description: "Writes the whole text of a file; folders are made as needed.",
    parameters: parameters({ path, content: { type: "string" } }),
    async run(input, { workspace }) {
      const file = await inWorkspace(workspace, input.path);
      if (typeof input.content !== "string") throw new Error("content must be text");
      const bytes = Buffer.byteLength(input.content);
      if (bytes > limits.fileBytes) throw new Error(`content is larger than ${limits.fileBytes} bytes`);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, input.content);
      const name = relative(await realpath(workspace), file);
      return {
        ok: true,
        text: "written",
        summary: `wrote ${name}, ${bytes} bytes`,
        detail: { type: "file", path: name, text: keepEnds(input.content, limits.shownCharacters) },
      };
    },
  },
  {
    name: "run_command",
    description: `Runs a program in the project's folder, without a shell, for up to ${limits.commandTimeoutMs / 1000} s.`,
    parameters: parameters({ argv: { type: "array", items: { type: "string" }, minItems: 1 } }),
    async run(input, { workspace, signal }) {
      const { argv } = input;
      if (!Array.isArray(argv) || argv.length === 0 || !argv.every((part) => typeof part === "string"))
        throw new Error("argv must be a list of texts with at least one");
      const { exitCode, output, timedOut } = await runCommand(argv, { cwd: workspace, signal });
      const end = timedOut
        ? `ended after ${limits.commandTimeoutMs / 1000} s`
        : exitCode === null
          ? "killed by a signal"
          : `exit code ${exitCode}`;
      const text = `${end}\n${keepEnds(output, limits.shownCharacters)}`;
      return {
        ok: exitCode === 0,
        text,
        detail: { type: "output", text },
        summary: `${argv.join(" ").slice(0, 200)}: ${end}`,
      };
    },
  },
];

export const toolDescriptions: readonly ToolDescription[] = tools.map(
  ({ name, description, parameters: schema }) => ({ name, description, parameters: schema }),
);

/** Never rejects for what the model did wrong: the model reads it and tries again. Rejects when the run is cancelled. */
export async function useTool(
  name: string,
  argumentsJson: string,
  context: ToolContext,
): Promise<ToolResult> {
  const tool = tools.find((candidate) => candidate.name === name);
  try {
    if (tool === undefined) throw new Error(`there is no tool ${name}`);
    const input: unknown = JSON.parse(argumentsJson);
    if (typeof input !== "object" || input === null) throw new Error("the arguments must be an object");
    return await tool.run({ ...input }, context);
  } catch (error) {
    context.signal.throwIfAborted();
    const reason = error instanceof Error ? error.message : String(error);
    return { ok: false, text: `error: ${reason}`, summary: `${name} failed: ${reason}`.slice(0, 300) };
  }
}

/** The file's path; throws when it, or a link on the way to it, leaves the workspace. */
async function inWorkspace(workspace: string, given: unknown): Promise<string> {
  if (typeof given !== "string" || given === "") throw new Error("path must be text");
  const root = await realpath(workspace);
  const file = resolve(root, given);
  let existing = file;
  for (;;) {
    const real = await realpath(existing).catch(() => undefined);
    if (real === undefined && existing !== dirname(existing)) {
      existing = dirname(existing);
      continue;
    }
    if (real === undefined || !`${real}${sep}`.startsWith(`${root}${sep}`))
      throw new Error(`${given} is outside of the project`);
    return file;
  }
}

/** Regular files, relative to `dir`, sorted and bounded. */
export async function listFiles(dir: string): Promise<string[]> {
  const found: string[] = [];
  const folders = [dir];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.isDirectory() && !hiddenFolders.includes(entry.name)) folders.push(join(folder, entry.name));
      if (entry.isFile()) found.push(relative(dir, join(folder, entry.name)));
      if (found.length >= limits.listedFiles) return found.sort();
    }
  }
  return found.sort();
}
