/**
 * A root filesystem as text: one line per entry, sorted by path, so that equal trees have equal text and its SHA-256
 * names the tree. Times are left out: two builds of one image differ in nothing else.
 *
 *     file 0755 0 0 5120 <sha256> "usr/bin/env"
 *     link 0777 0 0 - "usr/bin" "bin"
 *     dir  0755 0 0 - - "usr"
 *
 * Names are bytes on Linux: they are handled as Latin-1 strings, which map one to one to bytes.
 */
import { createHash } from "node:crypto";
import { createReadStream, lstatSync, type Stats } from "node:fs";
import { lstat, readdir, readFile, readlink, rm } from "node:fs/promises";

/** Up to this size a file is read in one go; larger ones are streamed. */
const WHOLE_FILE_BYTES = 4 * 1024 * 1024;
/** Files hashed at the same time: enough to keep a disk busy, few enough not to hold much memory. */
const PARALLEL = 8;

const toBytes = (path: string): Buffer => Buffer.from(path, "latin1");
/** A path of this program (UTF-8) in the Latin-1 form used here. */
const fromUtf8 = (path: string): string => Buffer.from(path, "utf8").toString("latin1");

async function hashFile(path: string, size: number): Promise<string> {
  const hash = createHash("sha256");
  if (size <= WHOLE_FILE_BYTES) hash.update(await readFile(toBytes(path)));
  else for await (const chunk of createReadStream(toBytes(path))) hash.update(chunk);
  return hash.digest("hex");
}

function line(kind: string, stats: Stats, size: string, content: string, path: string): string {
  const mode = (stats.mode & 0o7777).toString(8).padStart(4, "0");
  return `${kind} ${mode} ${stats.uid} ${stats.gid} ${size} ${content} ${JSON.stringify(path)}`;
}

async function describe(root: string, path: string, stats: Stats): Promise<string> {
  const full = `${root}/${path}`;
  if (stats.isDirectory()) return line("dir", stats, "-", "-", path);
  if (stats.isSymbolicLink()) {
    const target = await readlink(toBytes(full), "latin1");
    return line("link", stats, "-", JSON.stringify(target), path);
  }
  return line("file", stats, String(stats.size), await hashFile(full, stats.size), path);
}

/** Every path below `root`, directories before their content. */
async function* walk(root: string, below = ""): AsyncGenerator<{ path: string; stats: Stats }> {
  const names = await readdir(toBytes(below === "" ? root : `${root}/${below}`), "latin1");
  for (const name of names) {
    const path = below === "" ? name : `${below}/${name}`;
    const stats = await lstat(toBytes(`${root}/${path}`));
    yield { path, stats };
    if (stats.isDirectory()) yield* walk(root, path);
  }
}

/**
 * Remove what no image needs and no guest may bring: device nodes, sockets and named pipes. The guest's kernel makes
 * its own `/dev`.
 */
export async function stripSpecialFiles(rootfs: string): Promise<void> {
  const root = fromUtf8(rootfs);
  for await (const { path, stats } of walk(root)) {
    if (!stats.isDirectory() && !stats.isFile() && !stats.isSymbolicLink())
      await rm(toBytes(`${root}/${path}`));
  }
}

/** The text form of the tree at `rootfs`. Reads every byte: about 1 s per GiB. */
export async function describeTree(rootfs: string): Promise<string> {
  const root = fromUtf8(rootfs);
  const lines: string[] = [];
  const pending = new Set<Promise<void>>();
  for await (const { path, stats } of walk(root)) {
    const work = describe(root, path, stats).then((text) => {
      lines.push(text);
      pending.delete(work);
    });
    pending.add(work);
    if (pending.size >= PARALLEL) await Promise.race(pending);
  }
  await Promise.all(pending);
  return `${lines.sort(byPath).join("\n")}\n`;
}

function pathOf(text: string): string {
  return text.slice(text.lastIndexOf(' "') + 1);
}

function byPath(a: string, b: string): number {
  const [left, right] = [pathOf(a), pathOf(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

const ENTRY = /^(dir|link|file) ([0-7]{4}) (\d+) (\d+) (-|\d+) \S.* ("(?:[^"\\]|\\.)*")$/;

/**
 * The first entry that is missing or differs in kind, mode, owner or size, without reading content: about 5 µs per
 * entry, which finds a deleted, half-copied or edited-in-place tree at every start.
 */
export function findDifference(rootfs: string, tree: string): string | undefined {
  const root = fromUtf8(rootfs);
  for (const text of tree.trimEnd().split("\n")) {
    const [, kind, mode, uid, gid, size, quoted] = ENTRY.exec(text) ?? [];
    if (quoted === undefined) return `unreadable entry ${text}`;
    const path: string = JSON.parse(quoted);
    const stats = lstatSync(toBytes(`${root}/${path}`), { throwIfNoEntry: false });
    const found = stats && (stats.isDirectory() ? "dir" : stats.isSymbolicLink() ? "link" : "file");
    const same =
      stats !== undefined &&
      found === kind &&
      (stats.mode & 0o7777) === Number.parseInt(mode ?? "", 8) &&
      stats.uid === Number(uid) &&
      stats.gid === Number(gid) &&
      (size === "-" || stats.size === Number(size));
    if (!same) return path;
  }
  return undefined;
}
