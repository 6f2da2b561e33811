/**
 * Files put into a workspace that nobody uses: a single one, or a tar. The body is read as a stream into the store, on top of
 * the current version; what the limits or the workspace's state refuse leaves nothing behind.
 */
import { finished, PassThrough, Readable } from "node:stream";
import { ApiError } from "@helmr/api";
import {
  type ApplyFilesOptions,
  applyFiles,
  defaultVersionLimits,
  WorkspaceVersionError,
} from "@helmr/artifacts/versions";
import {
  type ActingScope,
  type Actor,
  getVersion,
  getWorkspace,
  recordUpload,
  releaseReservations,
  requireFreeWorkspace,
  reserveArtifacts,
  uuidv7,
  type VersionRow,
} from "@helmr/store";
import type { FastifyRequest } from "fastify";
import type { Context } from "../context.ts";
import { drain } from "../http/drain.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentVersion } from "../present/workspace.ts";
import { type WorkspaceSettings, workspaceSettings } from "../workspace-settings.ts";
import { openArchive } from "../workspaces/open-archive.ts";
import { asVersionAnswer } from "../workspaces/version-errors.ts";
import { found } from "./found.ts";

/** Of what the library of versions writes; workers say the same. */
const artifactEncoding = "helmr-tree-1";

interface Upload {
  readonly scope: ActingScope;
  readonly actor: Actor;
  readonly request: FastifyRequest;
  readonly workspaceId: string;
  readonly message: string | undefined;
  readonly what: Readonly<Record<string, unknown>>;
  readonly apply: (body: Readable) => Pick<ApplyFilesOptions, "files" | "tar" | "replace">;
}

export function workspaceUploadHandlers(
  context: Context,
): Pick<Handlers, "putWorkspaceFile" | "importWorkspaceVersion"> {
  const settings = workspaceSettings(context.config.workspaces);
  const receive = async (upload: Upload) => {
    try {
      requireSize(upload.request, settings);
      using _place = context.uploads.take(upload.actor);
      const version = await save(context, settings, upload);
      return { status: 201, body: { version: presentVersion(version) } } as const;
    } catch (error) {
      drain(upload.request);
      throw asVersionAnswer(error);
    }
  };
  return {
    putWorkspaceFile: ({ scope, actor, params, query, request }) => {
      const mode = query.mode === undefined ? undefined : Number.parseInt(query.mode, 8);
      return receive({
        scope,
        actor,
        request,
        workspaceId: params.workspaceID,
        message: query.message || undefined,
        what: { path: query.path },
        apply: (content) => ({ files: [{ path: query.path, content, mode }] }),
      });
    },
    importWorkspaceVersion: ({ scope, actor, params, query, request }) =>
      receive({
        scope,
        actor,
        request,
        workspaceId: params.workspaceID,
        message: query.message || undefined,
        what: { archive: query.mode ?? "merge" },
        apply: (body) => ({
          tar: openArchive(body, settings.maxArchiveBytes),
          replace: query.mode === "replace",
        }),
      }),
  };
}

async function save(
  context: Context,
  settings: WorkspaceSettings,
  { scope, request, workspaceId, message, what, apply }: Upload,
): Promise<VersionRow> {
  const { db, artifacts, manifests, ending } = context;
  // Before the body is read: a refusal costs the client nothing. Decided again when the version is recorded.
  if (!(await requireFreeWorkspace(db, scope, workspaceId))) found(undefined, "workspace");
  const workspace = found(await getWorkspace(db, scope, workspaceId), "workspace");
  const baseVersionId = workspace.current_version_id ?? undefined;
  const base =
    baseVersionId === undefined ? undefined : await getVersion(db, scope, workspaceId, baseVersionId);
  const leaseId = uuidv7();
  const body = bodyOf(request);
  const applied = apply(body);
  try {
    const saved = await applyFiles({
      artifacts,
      base: base && { manifestDigest: base.manifest_digest },
      cache: manifests,
      reserve: (digests) => reserveArtifacts(db, leaseId, digests),
      signal: ending,
      limits: {
        maxBytes: settings.maxArchiveBytes,
        maxFileBytes: settings.maxArchiveBytes,
        maxEntries: Math.min(
          defaultVersionLimits.maxEntries,
          settings.maxArchiveEntries + (base?.artifact_entry_count ?? 1),
        ),
      },
      ...applied,
    }).catch((error: unknown) => {
      // The reader of tars hands its own errors to the stream that it reads; the request's own are the client's going.
      const isOfTar = applied.tar?.errored === error && body.errored !== error && error instanceof Error;
      if (!isOfTar || error instanceof WorkspaceVersionError) throw error;
      throw new ApiError(400, `the archive is no tar: ${error.message}`);
    });
    const recorded = await recordUpload(db, scope, {
      workspaceId,
      leaseId,
      baseVersionId,
      tree: { ...saved, artifactEncoding },
      message,
      what,
    });
    return found(recorded, "workspace");
  } finally {
    await releaseReservations(db, leaseId);
  }
}

/**
 * The parser of uploads hands the stream on; of a request without a body there is none. A stream of its own: who is done with
 * it destroys it, and with the request's the connection would go on which the answer is sent.
 */
function bodyOf({ body }: FastifyRequest): Readable {
  if (!(body instanceof Readable)) return Readable.from([]);
  const own = new PassThrough();
  finished(body, (error) => {
    if (error) own.destroy(error);
  });
  return body.pipe(own);
}

function requireSize({ headers }: FastifyRequest, { maxArchiveBytes }: WorkspaceSettings): void {
  if (Number(headers["content-length"] ?? 0) > maxArchiveBytes) {
    throw new ApiError(413, `an upload into a workspace has at most ${maxArchiveBytes} bytes`);
  }
}
