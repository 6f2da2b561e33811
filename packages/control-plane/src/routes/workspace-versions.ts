/** Saved versions of workspaces (contract 7.7): read, and an earlier one made current again. */
import { getVersion, getWorkspace, listVersions, restoreVersion } from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentVersion } from "../present/workspace.ts";
import { found } from "./found.ts";

const defaultListLimit = 100;

type VersionHandlers = Pick<
  Handlers,
  "listWorkspaceVersions" | "getWorkspaceVersion" | "restoreWorkspaceVersion"
>;

export function workspaceVersionHandlers({ db }: Context): VersionHandlers {
  return {
    listWorkspaceVersions: async ({ scope, params, query }) => {
      found(await getWorkspace(db, scope, params.workspaceID), "workspace");
      const limit = query.limit ?? defaultListLimit;
      const rows = await listVersions(db, scope, params.workspaceID, { kind: query.kind, limit });
      return { status: 200, body: { versions: rows.map(presentVersion) } };
    },
    getWorkspaceVersion: async ({ scope, params: { workspaceID, versionID } }) => {
      found(await getWorkspace(db, scope, workspaceID), "workspace");
      const row = found(await getVersion(db, scope, workspaceID, versionID), "version");
      return { status: 200, body: { version: presentVersion(row) } };
    },
    restoreWorkspaceVersion: async ({ scope, params: { workspaceID, versionID }, body }) => {
      const row = await restoreVersion(db, scope, workspaceID, versionID, body.message || undefined);
      return { status: 201, body: { version: presentVersion(found(row, "workspace")) } };
    },
  };
}
