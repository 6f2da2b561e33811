/** How workspaces, versions and changes are shown. */
import type { Workspace, WorkspaceChange, WorkspaceVersion } from "../client/wire.ts";
import { paint, plain, writeFields, writeStdout, writeTable } from "../output.ts";

export function writeWorkspace(workspace: Workspace): Promise<void> {
  const { metadata = {} } = workspace;
  return writeFields([
    ["workspace", workspace.id],
    ["external id", workspace.external_id],
    ["sandbox", workspace.sandbox_id],
    ["state", workspace.state],
    ["wanted", workspace.desired_state === workspace.state ? undefined : workspace.desired_state],
    ["files", filesText[workspace.dirty_state]],
    ["version", workspace.current_version_id],
    ["live copy", workspace.last_materialization_id],
    ["tags", workspace.tags?.join(", ")],
    ["metadata", Object.keys(metadata).length === 0 ? undefined : JSON.stringify(metadata)],
    ["stops", workspace.auto_stop_at],
    ["deleted after", workspace.auto_delete_at],
    ["last used", workspace.last_activity_at],
    ["created", workspace.created_at],
    ["archived", workspace.archived_at],
  ]);
}

const filesText: Readonly<Record<Workspace["dirty_state"], string>> = {
  clean: "saved",
  dirty: "changed since they were saved",
  capturing: "being saved",
  capture_failed: "could not be saved",
  dirty_state_lost: "changes after the last saved version are lost",
};

export function writeWorkspaces(workspaces: readonly Workspace[]): Promise<void> {
  return writeTable(
    [
      { header: "WORKSPACE", value: (row) => row.id },
      { header: "EXTERNAL ID", value: (row) => row.external_id },
      { header: "SANDBOX", value: (row) => row.sandbox_id },
      { header: "STATE", value: (row) => row.state },
      { header: "FILES", value: (row) => row.dirty_state },
      { header: "LAST USED", value: (row) => row.last_activity_at },
    ],
    workspaces,
  );
}

export function writeVersions(versions: readonly WorkspaceVersion[]): Promise<void> {
  return writeTable(
    [
      { header: "VERSION", value: (row) => row.id },
      { header: "KIND", value: (row) => row.kind },
      { header: "BYTES", value: (row) => row.size_bytes },
      { header: "FILES", value: (row) => row.artifact_entry_count },
      { header: "CREATED", value: (row) => row.created_at },
      { header: "MESSAGE", value: (row) => row.message },
    ],
    versions,
  );
}

export function writeVersion(version: WorkspaceVersion): Promise<void> {
  return writeFields([
    ["version", version.id],
    ["workspace", version.workspace_id],
    ["after", version.parent_version_id],
    ["kind", version.kind],
    ["bytes", version.size_bytes],
    ["entries", version.artifact_entry_count],
    ["content", version.content_digest],
    ["message", version.message],
    ["current since", version.promoted_at],
    ["created", version.created_at],
  ]);
}

const letters: Readonly<
  Record<WorkspaceChange["change"], readonly ["green" | "red" | "yellow" | "dim", string]>
> = {
  added: ["green", "A"],
  removed: ["red", "D"],
  modified: ["yellow", "M"],
  metadata: ["dim", "m"],
  type: ["yellow", "T"],
  renamed: ["yellow", "R"],
};

/** `A path`, as git says it; m: only the mode or owner. `R old<tab>new`. */
export function writeChange(change: WorkspaceChange): Promise<void> {
  const [style, letter] = letters[change.change];
  const path = change.kind === "directory" ? `${change.path}/` : change.path;
  const before = change.previous_path === undefined ? "" : `${plain(change.previous_path)}\t`;
  return writeStdout(`${paint(style, letter)}\t${before}${plain(path)}\n`);
}

/** A unified diff, line by line, coloured on a terminal. */
export async function writePatch(text: string): Promise<void> {
  if (!process.stdout.isTTY) return writeStdout(text.endsWith("\n") || text === "" ? text : `${text}\n`);
  for (const line of text.replace(/\n$/, "").split("\n")) {
    const style = line.startsWith("@@")
      ? "cyan"
      : /^(\+\+\+|---)/.test(line)
        ? "bold"
        : line.startsWith("+")
          ? "green"
          : line.startsWith("-")
            ? "red"
            : undefined;
    await writeStdout(`${style === undefined ? plain(line) : paint(style, plain(line))}\n`);
  }
}
