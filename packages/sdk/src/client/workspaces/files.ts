/** A workspace's files, read from saved versions or its live copy, and written (contract 7.7). */
import { TransportError } from "../../errors.ts";
import { linkedSignal } from "../abort.ts";
import { readChunks, streamOf } from "../body.ts";
import { bytesOf } from "../bytes.ts";
import { type ApiRequest, describe, type ScopeOptions } from "../transport.ts";
import { textOrNull, wireList, wireObject, wireText } from "../wire.ts";
import { ask, optionalText, request, type Target, wireCount } from "./target.ts";
import { versionOf, type WorkspaceVersion } from "./version-objects.ts";

/** Default: the current version. */
export interface WorkspaceFileSource extends ScopeOptions {
  readonly source?: "current" | "version" | "live" | undefined;
  /** With `source: "version"`, which is implied by it. */
  readonly versionId?: string | undefined;
  /** With `source: "live"`: refuse when another live copy is there by now. */
  readonly materializationId?: string | undefined;
}
export interface WorkspaceFileReadOptions extends WorkspaceFileSource {
  /** From this byte on. Default 0. */
  readonly offset?: number | undefined;
  /** At most this many bytes. */
  readonly length?: number | undefined;
}
export interface WorkspaceFileListOptions extends WorkspaceFileSource {
  /** Entries of one page: 1 to 500, default 200. */
  readonly limit?: number | undefined;
  /** `nextCursor` of the page before. */
  readonly cursor?: string | undefined;
}
export interface WorkspaceFileWriteOptions extends ScopeOptions {
  /** Permission bits, such as 0o755. Default: those that the file had, else 0o644. */
  readonly mode?: number | undefined;
  /** Kept with the version that this makes. */
  readonly message?: string | undefined;
}
export interface WorkspaceFileEntry {
  /** Relative to the workspace's root. */
  readonly path: string;
  readonly name?: string;
  readonly kind: "file" | "directory" | "symlink";
  readonly sizeBytes: number;
  readonly mode: number;
  readonly linkTarget?: string;
  readonly modTime?: string;
}
export interface WorkspaceFilePage {
  readonly path: string;
  readonly entries: readonly WorkspaceFileEntry[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
}

/** Paths are relative to the workspace's root; `""` is the root. Reading starts nothing, except for `source: "live"`. */
export interface WorkspaceFiles {
  read(path: string, options?: WorkspaceFileReadOptions): Promise<Uint8Array>;
  readStream(path: string, options?: WorkspaceFileReadOptions): Promise<ReadableStream<Uint8Array>>;
  /** What is directly in a folder, by name: all of it, or one page when `limit` or `cursor` is given. */
  list(path?: string, options?: WorkspaceFileListOptions): Promise<WorkspaceFileEntry[]>;
  /** One page, with the cursor of the next. */
  listPage(path?: string, options?: WorkspaceFileListOptions): Promise<WorkspaceFilePage>;
  stat(path: string, options?: WorkspaceFileSource): Promise<WorkspaceFileEntry>;
  /** Makes a version with this file the current one. 409 `workspace_in_use` while a run or a live copy uses the workspace. */
  write(
    path: string,
    data: string | Uint8Array,
    options?: WorkspaceFileWriteOptions,
  ): Promise<WorkspaceVersion>;
}

const answerTimeoutMs = 60_000;
const idleTimeoutMs = 60_000;
const writeTimeoutMs = 15 * 60_000;
const maxPage = 500;

export function createFiles(target: Target): WorkspaceFiles {
  const listPage = async (path = "", options: WorkspaceFileListOptions = {}): Promise<WorkspaceFilePage> => {
    const query = [
      ...fileQuery(path, options),
      ["limit", options.limit] as const,
      ["cursor", options.cursor] as const,
    ];
    const page = wireObject(await ask(target, "GET", "/files", options, { query }), "file list");
    return Object.freeze({
      path: wireText(page, "path", "file list"),
      entries: Object.freeze(wireList(page, "entries").map(entryOf)),
      nextCursor: textOrNull(page, "next_cursor"),
    });
  };
  const open = (path: string, options: WorkspaceFileReadOptions) => {
    const more = { query: fileQuery(path, options), headers: rangeOf(options) };
    return download(target, request(target, "GET", "/files/content", options, more));
  };
  return Object.freeze({
    async read(path: string, options: WorkspaceFileReadOptions = {}) {
      const parts: Uint8Array[] = [];
      for await (const chunk of await open(path, options)) parts.push(chunk);
      return joined(parts);
    },
    readStream: async (path: string, options: WorkspaceFileReadOptions = {}) =>
      streamOf(await open(path, options)),
    async list(path = "", options: WorkspaceFileListOptions = {}) {
      if (options.limit !== undefined || options.cursor !== undefined)
        return [...(await listPage(path, options)).entries];
      const entries: WorkspaceFileEntry[] = [];
      for (let cursor: string | null | undefined; cursor !== null; ) {
        const page = await listPage(path, { ...options, limit: maxPage, cursor });
        entries.push(...page.entries);
        cursor = page.nextCursor;
      }
      return entries;
    },
    listPage,
    async stat(path: string, options: WorkspaceFileSource = {}) {
      const answer = await ask(target, "GET", "/files/stat", options, { query: fileQuery(path, options) });
      return entryOf(wireObject(answer, "file").entry);
    },
    async write(path: string, data: string | Uint8Array, options: WorkspaceFileWriteOptions = {}) {
      const query = [
        ["path", path] as const,
        ["mode", options.mode?.toString(8)] as const,
        ["message", options.message] as const,
      ];
      const more = { query, bytes: bytesOf(data, "files.write"), timeoutMs: writeTimeoutMs };
      const answer = await ask(target, "PUT", "/files/content", options, more);
      return versionOf(wireObject(answer, "file write").version);
    },
  });
}

/** The bytes of an answer; resolves when the server has begun to send them. */
export async function download(target: Target, sent: ApiRequest): Promise<AsyncIterable<Uint8Array>> {
  const late = () => new TransportError(`${describe(sent)}: no answer within ${answerTimeoutMs / 1000} s`);
  const link = linkedSignal(sent.scope.signal, answerTimeoutMs, late);
  try {
    const response = await target.transport().stream(sent, link.signal, "*/*");
    link.clearLimit();
    return body(response, describe(sent), link.signal, link.dispose);
  } catch (error) {
    link.dispose();
    throw error;
  }
}

async function* body(
  response: Response,
  what: string,
  signal: AbortSignal,
  dispose: () => void,
): AsyncGenerator<Uint8Array> {
  try {
    if (response.body !== null) yield* readChunks(response.body, what, idleTimeoutMs, signal);
  } finally {
    dispose();
  }
}

function fileQuery(path: string, options: WorkspaceFileSource) {
  return [
    ["path", path],
    ["source", options.source ?? (options.versionId === undefined ? undefined : "version")],
    ["version_id", options.versionId],
    ["materialization_id", options.materializationId],
  ] as const;
}

function rangeOf({ offset, length }: WorkspaceFileReadOptions): Record<string, string> {
  if (offset === undefined && length === undefined) return {};
  const first = offset ?? 0;
  if (length !== undefined && !(length > 0)) throw new RangeError("length must be at least 1");
  return { Range: `bytes=${first}-${length === undefined ? "" : first + length - 1}` };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function entryOf(value: unknown): WorkspaceFileEntry {
  const entry = wireObject(value, "file");
  return Object.freeze({
    path: wireText(entry, "path", "file"),
    ...optionalText(entry, "name", "name"),
    kind: wireText(entry, "kind", "file") as WorkspaceFileEntry["kind"],
    sizeBytes: wireCount(entry, "size_bytes", "file"),
    mode: wireCount(entry, "mode", "file"),
    ...optionalText(entry, "link_target", "linkTarget"),
    ...optionalText(entry, "mod_time", "modTime"),
  });
}
