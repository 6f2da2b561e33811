/** What differs between two versions of a workspace. */
import { ApiError, codedError } from "@helmr/api";
import { diffVersions, openVersion, unifiedDiff, type VersionReader } from "@helmr/artifacts/versions";
import { getVersion, type Scope, type VersionRow } from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentChange } from "../present/workspace-entry.ts";
import { emptyTree } from "../workspaces/empty-tree.ts";
import { openSaved } from "../workspaces/open-source.ts";
import { withVersionAnswers } from "../workspaces/version-errors.ts";
import { found } from "./found.ts";

const defaultLimit = 200;
/** Texts are compared on the thread that answers everybody. */
const textLimits = { maxBytes: 1024 * 1024, maxMs: 200 };

interface Compared {
  readonly base: VersionRow | undefined;
  readonly before: VersionReader;
  readonly after: VersionReader;
}

export function workspaceDiffHandlers(
  context: Context,
): Pick<Handlers, "diffWorkspaceVersion" | "diffWorkspaceFile"> {
  const open = async (
    scope: Scope,
    { workspaceID, versionID }: { readonly workspaceID: string; readonly versionID: string },
    baseVersionId: string | undefined,
  ): Promise<Compared> => {
    const { version, tree } = await openSaved(context, scope, workspaceID, versionID);
    const base = await baseOf(
      context,
      scope,
      workspaceID,
      version?.parent_version_id ?? undefined,
      baseVersionId,
    );
    const before =
      base === undefined
        ? await emptyTree()
        : await openVersion(context.artifacts, base.manifest_digest, context.manifests);
    return { base, before, after: tree };
  };
  return {
    diffWorkspaceVersion: async ({ scope, params, query, actor }) => {
      const after = query.cursor === undefined ? undefined : positionOf(query.cursor);
      using _place = context.diffs.take(actor);
      return await withVersionAnswers(async () => {
        const compared = await open(scope, params, query.base_version_id);
        const limit = query.limit ?? defaultLimit;
        const page = diffVersions(compared.before, compared.after, { limit, after });
        return {
          status: 200,
          body: {
            ...(compared.base === undefined ? {} : { base_version_id: compared.base.id }),
            version_id: params.versionID,
            changes: page.changes.map(presentChange),
            ...(page.next === undefined ? {} : { next_cursor: String(page.next) }),
          },
        };
      });
    },
    diffWorkspaceFile: async ({ scope, params, query, actor }) => {
      using _place = context.diffs.take(actor);
      return await withVersionAnswers(async () => {
        const { before, after } = await open(scope, params, query.base_version_id);
        const { kind, diff } = await unifiedDiff(before, after, query.path, textLimits);
        const { path } = query;
        if (kind !== "text") return { status: 200, body: { path, status: kind } };
        if (diff === "") return { status: 200, body: { path, status: "unchanged" } };
        return { status: 200, body: { path, status: "text", diff } };
      });
    },
  };
}

/** The one that is named, else the version's parent; undefined: there was nothing before it. */
async function baseOf(
  { db }: Context,
  scope: Scope,
  workspaceId: string,
  parentId: string | undefined,
  namedId: string | undefined,
): Promise<VersionRow | undefined> {
  if (namedId !== undefined) return found(await getVersion(db, scope, workspaceId, namedId), "base version");
  if (parentId === undefined) return undefined;
  const parent = await getVersion(db, scope, workspaceId, parentId);
  if (parent !== undefined) return parent;
  throw codedError(
    "workspace_version_missing",
    "the version before this one was removed; name another one with base_version_id",
  );
}

function positionOf(cursor: string): number {
  if (!/^\d{1,10}$/.test(cursor))
    throw new ApiError(400, "cursor: must be the next_cursor of a page of this diff");
  return Number(cursor);
}
