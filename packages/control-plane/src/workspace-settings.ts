/** What an installation may set about workspaces; docs/configuration.md lists the variables. */

export interface WorkspaceSettings {
  /** Versions that runs left behind and that a workspace keeps; what somebody made stays. */
  readonly keptSystemVersions: number;
  /** From archiving a workspace until its files are removed. */
  readonly deleteAfterMs: number;
  /** A live copy that nothing has used for so long is saved and stopped. */
  readonly idleStopMs: number;
  /** A live copy whose worker is silent for so long is lost. */
  readonly lostAfterMs: number;
  /** Of an upload into a workspace: what is sent, and the files in it. */
  readonly maxArchiveBytes: number;
  /** Entries that an uploaded archive may add. */
  readonly maxArchiveEntries: number;
}

export const defaultWorkspaceSettings: WorkspaceSettings = {
  keptSystemVersions: 50,
  deleteAfterMs: 30 * 86_400_000,
  idleStopMs: 10 * 60_000,
  lostAfterMs: 5 * 60_000,
  maxArchiveBytes: 1024 ** 3,
  maxArchiveEntries: 100_000,
};

export function workspaceSettings(given: Partial<WorkspaceSettings> | undefined): WorkspaceSettings {
  return { ...defaultWorkspaceSettings, ...given };
}
