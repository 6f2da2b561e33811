/** What differs between two versions: a line per path, or a unified diff. */
import type { ApiClient } from "../client/api-client.ts";
import type { WorkspaceChange } from "../client/wire.ts";
import { CliError, exitCodes } from "../errors.ts";
import { note, plain, writeJson } from "../output.ts";
import { writeChange, writePatch } from "./view.ts";

const changesPerPage = 500;

export interface Diff {
  /** Of the workspace. */
  readonly path: string;
  readonly version: string;
  readonly base?: string | undefined;
  /** Only this file, as a unified diff. */
  readonly file?: string | undefined;
  /** Unified diffs of all text files. */
  readonly patch?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** The current version's id. */
export async function currentVersion(api: ApiClient, path: string): Promise<string> {
  const { workspace } = await api.get(path, { schema: "workspaceEnvelope" });
  if (workspace.current_version_id !== undefined) return workspace.current_version_id;
  throw new CliError("the workspace has no saved version yet", {
    exitCode: exitCodes.notFound,
    hint: "`helmr workspace versions save <workspace>` saves it",
  });
}

export async function writeDiff(api: ApiClient, diff: Diff): Promise<void> {
  if (diff.file !== undefined) return writeFileDiff(api, diff, diff.file);
  if (diff.json) {
    const changes: WorkspaceChange[] = [];
    for await (const change of changesOf(api, diff)) changes.push(change);
    return writeJson({ version_id: diff.version, base_version_id: diff.base, changes });
  }
  for await (const change of changesOf(api, diff)) {
    await writeChange(change);
    if (diff.patch && change.kind === "file" && change.change !== "metadata")
      await writeFileDiff(api, diff, change.path);
  }
}

async function* changesOf(api: ApiClient, { path, version, base }: Diff): AsyncGenerator<WorkspaceChange> {
  let cursor: string | undefined;
  do {
    const query = { base_version_id: base, limit: changesPerPage, cursor };
    const page = await api.get(`${path}/versions/${encodeURIComponent(version)}/diff`, {
      query,
      schema: "workspaceDiff",
    });
    yield* page.changes;
    cursor = page.next_cursor;
  } while (cursor !== undefined);
}

async function writeFileDiff(
  api: ApiClient,
  { path, version, base, json }: Diff,
  file: string,
): Promise<void> {
  const answer = await api.get(`${path}/versions/${encodeURIComponent(version)}/diff/content`, {
    query: { base_version_id: base, path: file },
    schema: "workspaceFileDiff",
  });
  if (json) return writeJson(answer);
  if (answer.diff !== undefined) return writePatch(answer.diff);
  const why = {
    binary: "is binary and differs",
    too_large: "is too large to compare",
    unchanged: "is the same",
  };
  note(`${plain(file)} ${why[answer.status as keyof typeof why] ?? answer.status}`);
}
