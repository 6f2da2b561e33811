/**
 * A version's archive (tar.zst) unpacked into a folder. What is in it was written by others:
 *
 * E1  nothing is written outside of the folder: names are taken apart, "..", absolute names and what they contain are refused;
 * E2  no link is followed: of the way to a file each part is a folder of ours, links are made when everything else is there;
 * E3  what is there is replaced as a whole: a file is written beside it and renamed.
 */
import { createWriteStream } from "node:fs";
import { chmod, link, lstat, mkdir, rename, rm, symlink, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createZstdDecompress } from "node:zlib";
import { extract, type Header } from "tar-stream";
import { CliError } from "../errors.ts";
import { note, plain } from "../output.ts";

/** What is made when all files are there. */
interface Later {
  readonly links: { readonly at: string; readonly to: string; readonly isHard: boolean }[];
  readonly folders: { readonly at: string; readonly mode: number; readonly mtime: Date | undefined }[];
}

/** Everything below `prefix`, into `root`, which exists. Resolves to the number of files. */
export async function extractArchive(
  bytes: AsyncIterable<Uint8Array>,
  prefix: string,
  root: string,
): Promise<number> {
  const wanted = parts(prefix);
  const archive = extract();
  const later: Later = { links: [], folders: [] };
  let files = 0;
  const reading = pipeline(Readable.from(bytes), createZstdDecompress(), archive);
  const writing = (async () => {
    for await (const entry of archive) {
      const name = parts(entry.header.name);
      const below = wanted.every((part, index) => part === name[index]) ? name.slice(wanted.length) : [];
      if (below.length > 0 && (await write(entry, entry.header, root, below, wanted, later))) files += 1;
      entry.resume();
    }
  })();
  const results = await Promise.allSettled([writing, reading]);
  for (const result of results) if (result.status === "rejected") throw result.reason;
  for (const one of later.links) await makeLink(one);
  // Deepest first: a folder without the right to write is closed when it is full.
  for (const { at, mode, mtime } of later.folders.reverse()) {
    await chmod(at, mode);
    if (mtime !== undefined) await utimes(at, new Date(), mtime);
  }
  return files;
}

/** E1 */
function parts(name: string): string[] {
  const all = name.split("/").filter((part) => part !== "" && part !== ".");
  if (all.includes("..") || name.includes("\0")) {
    throw new CliError(`the archive has an entry outside of its folder: ${plain(name)}`);
  }
  return all;
}

/** True when it is a file. */
async function write(
  content: AsyncIterable<unknown>,
  header: Header,
  root: string,
  below: readonly string[],
  wanted: readonly string[],
  later: Later,
): Promise<boolean> {
  const at = join(root, ...below);
  await folders(root, below.slice(0, -1));
  if (header.type === "directory") {
    await folders(root, below);
    later.folders.push({ at, mode: modeOf(header), mtime: header.mtime });
  } else if (header.type === "symlink") later.links.push({ at, to: header.linkname ?? "", isHard: false });
  else if (header.type === "link") {
    const target = parts(header.linkname ?? "");
    const inside = wanted.every((part, index) => part === target[index]);
    if (!inside) note(`${plain(at)} is a hard link to what is not copied: left out`);
    else later.links.push({ at, to: join(root, ...target.slice(wanted.length)), isHard: true });
  } else if (header.type === "file" || header.type === "contiguous-file") {
    await writeFile(content, at, header);
    return true;
  }
  return false;
}

async function writeFile(content: AsyncIterable<unknown>, at: string, header: Header): Promise<void> {
  const staged = join(dirname(at), `.helmr-${process.pid}.partial`);
  try {
    await rm(staged, { force: true });
    await pipeline(content, createWriteStream(staged, { flags: "wx", mode: 0o600 }));
    await chmod(staged, modeOf(header));
    if (header.mtime !== undefined) await utimes(staged, new Date(), header.mtime);
    await clear(at);
    await rename(staged, at); // E3
  } catch (error) {
    await rm(staged, { force: true });
    throw error;
  }
}

/** E2: makes the folders on the way; what else has such a name goes. */
async function folders(root: string, below: readonly string[]): Promise<void> {
  let at = root;
  for (const part of below) {
    at = join(at, part);
    const found = await lstat(at).catch(() => undefined);
    if (found?.isDirectory()) continue;
    if (found !== undefined) await rm(at);
    await mkdir(at, { mode: 0o700 });
  }
}

/** A folder where a file or link is to be. */
async function clear(at: string): Promise<void> {
  const found = await lstat(at).catch(() => undefined);
  if (found?.isDirectory()) await rm(at, { recursive: true });
}

async function makeLink({ at, to, isHard }: Later["links"][number]): Promise<void> {
  await rm(at, { recursive: true, force: true });
  if (!isHard) return symlink(to, at);
  // E2: the target is what was written here, never what a link leads to.
  const found = await lstat(to).catch(() => undefined);
  if (found?.isFile()) await link(to, at);
  else note(`${plain(at)} is a hard link to what is not there: left out`);
}

/** Without set-user-id and the like: they would hold for the user here. */
function modeOf(header: Header): number {
  return (header.mode ?? 0o644) & 0o777;
}
