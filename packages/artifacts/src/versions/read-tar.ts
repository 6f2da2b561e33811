/**
 * A tar that somebody uploads, entry by entry into a tree. Nothing in it is trusted: paths are checked one by one, everything is
 * limited, and what a version cannot hold is counted and left out.
 */
import { pipeline, type Readable } from "node:stream";
import { extract, type Header } from "tar-stream";
import { WorkspaceVersionError } from "./errors.ts";
import { type EntryMetadata, metadataMaxBytes } from "./format.ts";
import { tooMuchMetadata } from "./manifest-builder.ts";
import { kindBits, type MemoryTree, type Owner } from "./memory-tree.ts";
import { showPath } from "./paths.ts";
import type { ExtendedAttribute } from "./syscalls.ts";
import type { ContentWriter } from "./write-content.ts";

export interface TarStats {
  /** FIFOs and devices. */
  skipped: number;
  /** Extended attributes other than user.*, or too large. */
  attributesLeftOut: number;
}

/** `metadataBytes`: what is kept in memory of targets and attributes until the whole tar was read. */
interface Progress extends TarStats {
  metadataBytes: number;
}

const maxPathBytes = 4096;
const maxAttributes = 64;
const maxAttributeBytes = 64 * 1024;

export async function readTar(
  source: Readable,
  tree: MemoryTree,
  writer: ContentWriter,
  owner: Owner | undefined,
): Promise<TarStats> {
  const stats: Progress = { skipped: 0, attributesLeftOut: 0, metadataBytes: 0 };
  const entries = extract({ filenameEncoding: "latin1" } as Parameters<typeof extract>[0]);
  // An error of the source destroys the reader, where it is seen.
  pipeline(source, entries, () => undefined);
  try {
    for await (const entry of entries) {
      await readEntry(entry.header, entry as AsyncIterable<Uint8Array>, tree, writer, owner, stats);
      entry.resume();
    }
  } catch (error) {
    if (error instanceof WorkspaceVersionError || source.errored === error) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new WorkspaceVersionError("invalid_archive", `the tar cannot be read: ${why}`, { cause: error });
  } finally {
    source.destroy();
    entries.destroy();
  }
  const { skipped, attributesLeftOut } = stats;
  return { skipped, attributesLeftOut };
}

async function readEntry(
  header: Header,
  content: AsyncIterable<Uint8Array>,
  tree: MemoryTree,
  writer: ContentWriter,
  owner: Owner | undefined,
  stats: Progress,
): Promise<void> {
  const pax = paxOf(header);
  const names = tarNames(header.name, pax.path);
  const metadata = (kind: keyof typeof kindBits, rest: { size: number; target?: string }): EntryMetadata => ({
    mode: kindBits[kind] | ((header.mode ?? 0o644) & 0o7777),
    ...(owner ?? { uid: idOf(header, "uid"), gid: idOf(header, "gid") }),
    ...timeOf(header),
    attributes: kind === "symlink" ? [] : attributesOf(header, stats),
    ...rest,
  });
  if (Object.keys(pax).some((key) => key.startsWith("GNU.sparse.")))
    throw new WorkspaceVersionError("invalid_archive", "the tar has sparse files; make it without --sparse");
  switch (header.type) {
    case "file":
    case "contiguous-file": {
      const written = await writer.write(content);
      tree.putFile(names, {
        metadata: metadata("file", { size: written.size }),
        content: written.content,
      });
      return;
    }
    case "directory":
      tree.putDirectory(names, metadata("directory", { size: 0 }));
      return;
    case "symlink": {
      const target = tarText(header.linkname ?? "", pax.linkpath);
      if (target === "" || target.length > 4095 || target.includes("\0"))
        throw new WorkspaceVersionError(
          "invalid_archive",
          `the link ${showNames(names)} in the tar has no target`,
        );
      countMetadata(stats, target.length);
      tree.putSymlink(names, metadata("symlink", { size: target.length, target }));
      return;
    }
    case "link": {
      const file = tree.file(tarNames(header.linkname ?? "", pax.linkpath));
      if (file === undefined)
        throw new WorkspaceVersionError(
          "invalid_archive",
          `${showNames(names)} in the tar is a link to no file`,
        );
      tree.putFile(names, file);
      return;
    }
    case "fifo":
    case "character-device":
    case "block-device":
      stats.skipped += 1;
      return;
    default:
      throw new WorkspaceVersionError(
        "invalid_archive",
        `${showNames(names)} in the tar is of an unknown type; make the tar without --sparse and with --format=pax`,
      );
  }
}

const paxOf = ({ pax }: Header) => (pax ?? {}) as Readonly<Record<string, string>>;

const showNames = (names: readonly string[]) => showPath(Buffer.from(names.join("/"), "latin1"));

/** Bytes as latin1: of a header's own field, or of a pax record, which is UTF-8. */
function tarText(field: string, pax: string | undefined): string {
  if (pax === undefined || pax === "") return field;
  if (pax.includes("\ufffd"))
    throw new WorkspaceVersionError(
      "invalid_archive",
      "a name in a pax header of the tar is not UTF-8; make the tar with --format=gnu",
    );
  return Buffer.from(pax).toString("latin1");
}

function tarNames(field: string, pax: string | undefined): string[] {
  const path = tarText(field, pax);
  const shown = showPath(Buffer.from(path.slice(0, 200), "latin1"));
  const refuse = (what: string) =>
    new WorkspaceVersionError("invalid_path", `the path ${shown} in the tar ${what}`);
  if (path.length > maxPathBytes) throw refuse(`is longer than ${maxPathBytes} bytes`);
  if (path.startsWith("/")) throw refuse("is absolute");
  if (path.includes("\0")) throw refuse("has a NUL in it");
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (names.includes("..")) throw refuse("leaves the workspace");
  if (names.some((name) => name.length > 255)) throw refuse("has a name of more than 255 bytes");
  return names;
}

function idOf(header: Header, which: "uid" | "gid"): number {
  const given = Number(paxOf(header)[which] ?? header[which] ?? 0);
  return Number.isInteger(given) && given >= 0 && given < 2 ** 32 ? given : 0;
}

function timeOf(header: Header): { mtimeSeconds: number; mtimeNanoseconds: number } {
  const pax = /^(-?)(\d{1,12})(?:\.(\d{0,9})\d*)?$/.exec(paxOf(header).mtime ?? "");
  if (pax === null) {
    const seconds = Math.floor((header.mtime?.getTime() ?? 0) / 1000);
    return { mtimeSeconds: Number.isFinite(seconds) ? seconds : 0, mtimeNanoseconds: 0 };
  }
  const seconds = Number(pax[2]);
  const nanoseconds = Number((pax[3] ?? "").padEnd(9, "0"));
  if (pax[1] === "") return { mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds };
  if (nanoseconds === 0) return { mtimeSeconds: -seconds, mtimeNanoseconds: 0 };
  return { mtimeSeconds: -seconds - 1, mtimeNanoseconds: 1e9 - nanoseconds };
}

function countMetadata(stats: Progress, bytes: number): void {
  stats.metadataBytes += bytes;
  if (stats.metadataBytes > metadataMaxBytes) throw tooMuchMetadata();
}

function attributesOf(header: Header, stats: Progress): ExtendedAttribute[] {
  const found = new Map<string, Buffer>();
  for (const [key, value] of Object.entries(paxOf(header))) {
    const [, form, shown] = /^(SCHILY|LIBARCHIVE)\.xattr\.(.+)$/s.exec(key) ?? [];
    if (form === undefined || shown === undefined) continue;
    const name = form === "SCHILY" ? shown : decoded(shown);
    const bytes = form === "SCHILY" ? Buffer.from(value) : Buffer.from(value, "base64");
    const kept =
      name?.startsWith("user.") &&
      /^[^\0]{6,255}$/.test(name) &&
      bytes.length <= maxAttributeBytes &&
      (form === "LIBARCHIVE" || !value.includes("\ufffd")) &&
      found.size < maxAttributes;
    if (kept) countMetadata(stats, bytes.length);
    if (name !== undefined && kept) found.set(Buffer.from(name).toString("latin1"), bytes);
    else stats.attributesLeftOut += 1;
  }
  return [...found].map(([name, value]) => ({ name, value })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
