/** `helmr workspace versions`: saved states of a workspace: looked at, saved, restored, compared. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import { declare } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { note, writeJson } from "../output.ts";
import { integer } from "../values.ts";
import { exampleWorkspace, ofWorkspace, workspacePath } from "../workspace/address.ts";
import { currentVersion, writeDiff } from "../workspace/diff.ts";
import { repeated } from "../workspace/repeat.ts";
import { writeVersion, writeVersions } from "../workspace/view.ts";

const exampleVersion = "01990000-0000-7000-8000-000000000006";
/** A worker reads and uploads what has changed. */
const saveTimeoutMs = 15 * 60_000;

export function registerWorkspaceVersions(workspace: Command): void {
  const group = declare(workspace, "versions", "Saved states of a workspace", [
    `helmr workspace versions list ${exampleWorkspace}`,
  ]);
  ofWorkspace(group, "list", "List versions, newest first", [
    `helmr workspace versions list ${exampleWorkspace}`,
  ])
    .option("--kind <kind>", "user (asked for) or system")
    .option("--limit <n>", "at most this many", integer(1, 200))
    .action(list);
  ofWorkspace(group, "get <version>", "Show one version", [
    `helmr workspace versions get ${exampleWorkspace} ${exampleVersion}`,
  ]).action(get);
  ofWorkspace(group, "save", "Save a workspace as it is now", [
    `helmr workspace versions save ${exampleWorkspace} --message 'before the upgrade'`,
  ])
    .option("-m, --message <text>", "kept with the version")
    .action(save);
  for (const [parent, prefix] of [
    [group, "versions restore"],
    [workspace, "restore"],
  ] as const) {
    ofWorkspace(
      parent,
      "restore <version>",
      "Make an earlier version's files the current ones, as a new version",
      [`helmr workspace ${prefix} ${exampleWorkspace} ${exampleVersion}`],
    )
      .option("-m, --message <text>", "kept with the new version")
      .action(restore);
  }
  ofWorkspace(group, "diff [version] [path]", "What differs between two versions", [
    `helmr workspace versions diff ${exampleWorkspace} ${exampleVersion}`,
    `helmr workspace versions diff ${exampleWorkspace} ${exampleVersion} notes.md`,
  ])
    .option("--base <version>", "compare with this one (default: the one before)")
    .option("-p, --patch", "the changes of text files, line by line")
    .action(diff);
}

const list = (name: string, options: EnvironmentOptions & { kind?: string; limit?: number }): Promise<void> =>
  withApi(options, async (api) => {
    const query = { kind: options.kind, limit: options.limit };
    const path = `${await workspacePath(api, name)}/versions`;
    const answer = await api.get(path, { query, schema: "workspaceVersionList" });
    if (options.json) return writeJson(answer);
    await writeVersions(answer.versions);
  });

const get = (name: string, id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get(await versionPath(api, name, id), { schema: "workspaceVersionEnvelope" });
    if (options.json) return writeJson(answer);
    await writeVersion(answer.version);
  });

const save = (name: string, options: EnvironmentOptions & { message?: string }): Promise<void> =>
  withApi(options, async (api) => {
    const path = `${await workspacePath(api, name)}/versions`;
    const body = { message: options.message, idempotency_key: randomUUID() };
    const sent = { body, schema: "workspaceVersionEnvelope", timeoutMs: saveTimeoutMs } as const;
    const answer = await repeated(api, () => api.send("POST", path, sent));
    if (options.json) return writeJson(answer);
    await writeVersion(answer.version);
  });

const restore = (
  name: string,
  id: string,
  options: EnvironmentOptions & { message?: string },
): Promise<void> =>
  withApi(options, async (api) => {
    const path = `${await versionPath(api, name, id)}/restore`;
    const body = { message: options.message };
    const answer = await api.send("POST", path, { body, schema: "workspaceVersionEnvelope" });
    if (options.json) return writeJson(answer);
    note(`the files of ${name} are those of ${id} again, as version ${answer.version.id}`);
  });

interface DiffOptions extends EnvironmentOptions {
  readonly base?: string;
  readonly patch?: boolean;
}

const diff = (
  name: string,
  version: string | undefined,
  file: string | undefined,
  options: DiffOptions,
): Promise<void> =>
  withApi(options, async (api) => {
    const path = await workspacePath(api, name);
    const id = version ?? (await currentVersion(api, path));
    await writeDiff(api, { path, version: id, ...options, file });
  });

async function versionPath(api: ApiClient, name: string, id: string): Promise<string> {
  return `${await workspacePath(api, name)}/versions/${encodeURIComponent(id)}`;
}
