/** `helmr workspace files`: a workspace's files without bringing it up. */
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import type { WorkspaceEntry } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { usageError } from "../errors.ts";
import { note, writeJson, writeStdout, writeTable } from "../output.ts";
import { exampleWorkspace, ofWorkspace, workspacePath } from "../workspace/address.ts";
import { copyIn, copyOut, placeOf } from "../workspace/copy.ts";
import { currentVersion, writeDiff } from "../workspace/diff.ts";
import { bodyOf, type FileSource, sourceQuery } from "../workspace/files.ts";

const exampleVersion = "01990000-0000-7000-8000-000000000006";
const entriesPerPage = 500;

export function registerWorkspaceFiles(workspace: Command): void {
  const group = declare(workspace, "files", "Read, copy and compare a workspace's saved files", [
    `helmr workspace files ls ${exampleWorkspace}`,
  ]);
  sourced(
    ofWorkspace(group, "ls [path]", "List a folder", [`helmr workspace files ls ${exampleWorkspace} src`]),
  ).action(ls);
  sourced(
    ofWorkspace(group, "cat <path>", "Print a file, byte for byte", [
      `helmr workspace files cat ${exampleWorkspace} notes.md`,
      `helmr workspace files cat ${exampleWorkspace} notes.md --version ${exampleVersion}`,
    ]),
  ).action(cat);
  sourced(
    inEnvironment(
      declare(group, "cp <from> <to>", "Copy a file or a folder's contents out of a workspace, or into it", [
        `helmr workspace files cp ${exampleWorkspace}:notes.md .`,
        `helmr workspace files cp ${exampleWorkspace}: ./backup`,
        `helmr workspace files cp ./site ${exampleWorkspace}:public`,
      ]),
    ),
  )
    .option("--replace", "into a workspace: instead of all files that it has")
    .option("-m, --message <text>", "into a workspace: kept with the version that this makes")
    .action(cp);
  group.commands
    .at(-1)
    ?.addHelpText(
      "after",
      "\nThe side of the workspace is <workspace>:<path>. What is copied in makes a new version; the workspace must not be in use.",
    );
  ofWorkspace(group, "diff [path]", "What the current version changed, or another one", [
    `helmr workspace files diff ${exampleWorkspace}`,
    `helmr workspace files diff ${exampleWorkspace} notes.md --base ${exampleVersion}`,
  ])
    .option("--base <version>", "compare with this one (default: the one before)")
    .option("--version <version>", "default: the current one")
    .option("-p, --patch", "the changes of text files, line by line")
    .action(diff);
}

function sourced(command: Command): Command {
  return command
    .option("--version <version>", "of this version (default: the current one)")
    .option("--live", "as they are now in the live copy");
}

type SourceOptions = EnvironmentOptions & FileSource;

const ls = (name: string, folder: string | undefined, options: SourceOptions): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const entries: WorkspaceEntry[] = [];
    let cursor: string | undefined;
    do {
      const query = { path: folder ?? "", ...sourceQuery(options), limit: entriesPerPage, cursor };
      const page = await api.get(`${path}/files`, { query, schema: "workspaceEntryList" });
      entries.push(...page.entries);
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    if (options.json) return writeJson({ path: folder ?? "", entries });
    await writeTable<WorkspaceEntry>(
      [
        { header: "MODE", value: modeText },
        { header: "BYTES", value: (row) => (row.kind === "file" ? row.size_bytes : undefined) },
        { header: "CHANGED", value: (row) => row.mod_time },
        { header: "NAME", value: nameText },
      ],
      entries,
    );
  });

/** As `ls -l` writes it. */
function modeText({ kind, mode }: WorkspaceEntry): string {
  const letters = [0o400, 0o200, 0o100, 0o40, 0o20, 0o10, 0o4, 0o2, 0o1].map((bit, index) =>
    mode & bit ? "rwx"[index % 3] : "-",
  );
  return `${{ file: "-", directory: "d", symlink: "l" }[kind]}${letters.join("")}`;
}

function nameText({ kind, name, path, link_target }: WorkspaceEntry): string {
  const shown = name ?? path;
  if (kind === "directory") return `${shown}/`;
  return link_target === undefined ? shown : `${shown} -> ${link_target}`;
}

const cat = (name: string, file: string, options: SourceOptions): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const query = { path: file, ...sourceQuery(options) };
    const response = await api.open(`${path}/files/content`, { query });
    if (!options.json) {
      for await (const chunk of bodyOf(api, response)) await writeStdout(chunk);
      return;
    }
    const chunks: Uint8Array[] = [];
    for await (const chunk of bodyOf(api, response)) chunks.push(chunk);
    await writeJson({ path: file, content_base64: Buffer.concat(chunks).toString("base64") });
  });

interface CopyOptions extends SourceOptions {
  readonly replace?: boolean;
  readonly message?: string;
}

const cp = (from: string, to: string, options: CopyOptions): Promise<void> =>
  withApi(options, async (api) => {
    const [source, target] = [placeOf(from), placeOf(to)];
    if (source.workspace !== undefined && target.workspace === undefined) {
      const copied = await copyOut(api, await remote(api, source), target.path, options);
      return said(options, copied, `${from} is copied to ${target.path}: ${copied.files} files`);
    }
    if (source.workspace === undefined && target.workspace !== undefined) {
      const copied = await copyIn(api, source.path, await remote(api, target), options);
      return said(options, copied, `${from} is copied to ${to}, as version ${copied.version.id}`);
    }
    throw usageError(
      "one side must be in a workspace, the other one here",
      `write the workspace's side as ${exampleWorkspace}:path, and a local name with a colon as ./name`,
    );
  });

async function remote(api: ApiClient, place: { readonly workspace?: string; readonly path: string }) {
  return { workspacePath: await workspacePath(api, place.workspace ?? ""), path: place.path };
}

function said(options: CopyOptions, copied: object, text: string): Promise<void> | void {
  return options.json ? writeJson(copied) : note(text);
}

const diff = (
  name: string,
  file: string | undefined,
  options: EnvironmentOptions & { base?: string; version?: string; patch?: boolean },
): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const version = options.version ?? (await currentVersion(api, path));
    await writeDiff(api, {
      path,
      version,
      base: options.base,
      patch: options.patch,
      json: options.json,
      file,
    });
  });
