/** A workspace's saved versions: read, saved, restored, compared, downloaded, uploaded (contract 7.7 and beyond). */
import { readChunks, streamOf } from "../body.ts";
import { pathSegment, type ScopeOptions } from "../transport.ts";
import { wireList, wireObject } from "../wire.ts";
import { download } from "./files.ts";
import { ask, request, type Target } from "./target.ts";
import {
  diffOf,
  fileDiffOf,
  versionOf,
  type WorkspaceChange,
  type WorkspaceDiff,
  type WorkspaceFileDiff,
  type WorkspaceVersion,
} from "./version-objects.ts";

export interface WorkspaceVersionListOptions extends ScopeOptions {
  readonly kind?: "user" | "system" | undefined;
  /** 1 to 200, default 100. */
  readonly limit?: number | undefined;
}
export interface WorkspaceCaptureOptions extends ScopeOptions {
  /** Kept with the version. */
  readonly message?: string | undefined;
  /** Sent as it is. */
  readonly idempotencyKey?: string | undefined;
}
export interface WorkspaceRestoreOptions extends ScopeOptions {
  readonly message?: string | undefined;
}
export interface WorkspaceDiffOptions extends ScopeOptions {
  /** A version's id. Default: the version's parent. */
  readonly base?: string | undefined;
  /** Changes of one page: 1 to 500. */
  readonly limit?: number | undefined;
  /** `nextCursor` of the page before. */
  readonly cursor?: string | undefined;
}
export interface WorkspaceUploadOptions extends ScopeOptions {
  /** `merge` (default): over the files of the current version; `replace`: instead of them. */
  readonly mode?: "merge" | "replace" | undefined;
  readonly message?: string | undefined;
}
/** A tar: plain, gzip or zstd. */
export type WorkspaceArchive = Uint8Array | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

export interface WorkspaceVersions {
  retrieve(versionId: string, options?: ScopeOptions): Promise<WorkspaceVersion>;
  /** Newest first. */
  list(options?: WorkspaceVersionListOptions): Promise<WorkspaceVersion[]>;
  /** Saves the workspace as it is now; the current version when nothing has changed. */
  capture(options?: WorkspaceCaptureOptions): Promise<WorkspaceVersion>;
  /** Makes an earlier version's files the current ones, as a new version. 409 `workspace_in_use` as of `files.write`. */
  restore(versionId: string, options?: WorkspaceRestoreOptions): Promise<WorkspaceVersion>;
  /** What differs from another version: all of it, or one page when `limit` or `cursor` is given. */
  diff(versionId: string, options?: WorkspaceDiffOptions): Promise<WorkspaceDiff>;
  /** The same, change by change, read page by page. */
  changes(versionId: string, options?: WorkspaceDiffOptions): AsyncIterable<WorkspaceChange>;
  /** A text file's changes as a unified diff. */
  diffFile(
    versionId: string,
    path: string,
    options?: Pick<WorkspaceDiffOptions, "base" | keyof ScopeOptions>,
  ): Promise<WorkspaceFileDiff>;
  /** A tar, compressed with zstd. */
  download(versionId: string, options?: ScopeOptions): Promise<ReadableStream<Uint8Array>>;
  /** Makes a version of a tar's files the current one. 409 `workspace_in_use` as of `files.write`. */
  upload(archive: WorkspaceArchive, options?: WorkspaceUploadOptions): Promise<WorkspaceVersion>;
}

/** The worker reads and uploads what has changed. */
const captureTimeoutMs = 15 * 60_000;
const uploadTimeoutMs = 15 * 60_000;
const uploadIdleMs = 5 * 60_000;

export function createVersions(target: Target): WorkspaceVersions {
  const diffPage = async (versionId: string, options: WorkspaceDiffOptions): Promise<WorkspaceDiff> => {
    const query = [
      ["base_version_id", options.base] as const,
      ["limit", options.limit] as const,
      ["cursor", options.cursor] as const,
    ];
    return diffOf(await ask(target, "GET", `${pathOf(versionId)}/diff`, options, { query }));
  };
  async function* pages(versionId: string, options: WorkspaceDiffOptions): AsyncGenerator<WorkspaceDiff> {
    for (let cursor: string | null | undefined = options.cursor; cursor !== null; ) {
      const page: WorkspaceDiff = await diffPage(versionId, { ...options, cursor });
      yield page;
      cursor = page.nextCursor;
    }
  }
  return Object.freeze({
    async retrieve(versionId: string, options: ScopeOptions = {}) {
      return enveloped(await ask(target, "GET", pathOf(versionId), options));
    },
    async list(options: WorkspaceVersionListOptions = {}) {
      const query = [["kind", options.kind] as const, ["limit", options.limit] as const];
      return wireList(await ask(target, "GET", "/versions", options, { query }), "versions").map(versionOf);
    },
    async capture(options: WorkspaceCaptureOptions = {}) {
      const body = { message: options.message, idempotency_key: options.idempotencyKey };
      const more = { body, timeoutMs: captureTimeoutMs };
      return enveloped(await ask(target, "POST", "/versions", options, more));
    },
    async restore(versionId: string, options: WorkspaceRestoreOptions = {}) {
      const body = { message: options.message };
      return enveloped(await ask(target, "POST", `${pathOf(versionId)}/restore`, options, { body }));
    },
    async diff(versionId: string, options: WorkspaceDiffOptions = {}) {
      if (options.limit !== undefined || options.cursor !== undefined) return diffPage(versionId, options);
      let all: WorkspaceDiff | undefined;
      for await (const page of pages(versionId, options))
        all = { ...page, changes: [...(all?.changes ?? []), ...page.changes] };
      return Object.freeze(all as WorkspaceDiff);
    },
    async *changes(versionId: string, options: WorkspaceDiffOptions = {}) {
      for await (const page of pages(versionId, options)) yield* page.changes;
    },
    async diffFile(versionId: string, path: string, options: WorkspaceDiffOptions = {}) {
      const query = [["base_version_id", options.base] as const, ["path", path] as const];
      return fileDiffOf(await ask(target, "GET", `${pathOf(versionId)}/diff/content`, options, { query }));
    },
    async download(versionId: string, options: ScopeOptions = {}) {
      return streamOf(
        await download(target, request(target, "GET", `${pathOf(versionId)}/archive`, options)),
      );
    },
    async upload(archive: WorkspaceArchive, options: WorkspaceUploadOptions = {}) {
      const query = [["mode", options.mode] as const, ["message", options.message] as const];
      const bytes = chunksOf(archive, options.signal ?? new AbortController().signal);
      const more = { query, bytes, timeoutMs: uploadTimeoutMs };
      return enveloped(await ask(target, "POST", "/versions/import", options, more));
    },
  });
}

/** Not every runtime iterates over a ReadableStream. */
function chunksOf(archive: WorkspaceArchive, signal: AbortSignal): Uint8Array | AsyncIterable<Uint8Array> {
  if (archive instanceof Uint8Array || !("getReader" in archive)) return archive;
  return readChunks(archive, "the archive", uploadIdleMs, signal);
}

function pathOf(versionId: string): string {
  return `/versions/${pathSegment(versionId, "version id")}`;
}

function enveloped(answer: unknown): WorkspaceVersion {
  return versionOf(wireObject(answer, "version").version);
}
