/** Workspaces (contract 7): made, listed, changed, archived, forked. */
import { parseDurationMs } from "@helmr/api";
import {
  archiveWorkspace,
  createWorkspace,
  forkWorkspace,
  getWorkspace,
  listWorkspaces,
  updateWorkspace,
} from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentWorkspace } from "../present/workspace.ts";
import { workspaceSettings } from "../workspace-settings.ts";
import { found } from "./found.ts";

const defaultListLimit = 100;
/** Contract 7.2. */
const defaultKeyTtlMs = 24 * 3_600_000;

type WorkspaceHandlers = Pick<
  Handlers,
  | "createWorkspace"
  | "listWorkspaces"
  | "getWorkspace"
  | "updateWorkspace"
  | "deleteWorkspace"
  | "forkWorkspace"
>;

export function workspaceHandlers({ db, config }: Context): WorkspaceHandlers {
  const { deleteAfterMs } = workspaceSettings(config.workspaces);
  return {
    createWorkspace: async ({ scope, body }) => {
      const ttl = body.idempotency_key_ttl;
      const { workspace, cached } = await createWorkspace(db, scope, {
        sandboxId: body.sandbox_id,
        deploymentId: body.deployment_id,
        externalId: body.external_id || undefined,
        metadata: body.metadata ?? {},
        tags: body.tags ?? [],
        idempotencyKey: body.idempotency_key,
        idempotencyKeyTtlMs: (ttl === undefined ? undefined : parseDurationMs(ttl)) ?? defaultKeyTtlMs,
      });
      const answer = { workspace: presentWorkspace(workspace) };
      return { status: 201, body: cached ? { ...answer, is_cached: true } : answer };
    },
    listWorkspaces: async ({ scope, query }) => {
      const rows = await listWorkspaces(db, scope, {
        state: query.state,
        externalId: query.external_id || undefined,
        tag: query.tag,
        limit: query.limit ?? defaultListLimit,
      });
      return { status: 200, body: { workspaces: rows.map(presentWorkspace) } };
    },
    getWorkspace: async ({ scope, params }) => {
      const row = found(await getWorkspace(db, scope, params.workspaceID), "workspace");
      return { status: 200, body: { workspace: presentWorkspace(row) } };
    },
    updateWorkspace: async ({ scope, params, body }) => {
      const row = found(await updateWorkspace(db, scope, params.workspaceID, body), "workspace");
      return { status: 200, body: { workspace: presentWorkspace(row) } };
    },
    deleteWorkspace: async ({ scope, params }) => {
      const row = found(await archiveWorkspace(db, scope, params.workspaceID, deleteAfterMs), "workspace");
      return { status: 200, body: { workspace: presentWorkspace(row) } };
    },
    forkWorkspace: async ({ scope, params, body }) => {
      const fork = {
        versionId: body.version_id,
        externalId: body.external_id || undefined,
        metadata: body.metadata,
        tags: body.tags,
      };
      const row = found(await forkWorkspace(db, scope, params.workspaceID, fork), "workspace");
      return { status: 201, body: { workspace: presentWorkspace(row) } };
    },
  };
}
