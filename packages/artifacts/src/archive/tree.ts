/**
 * A folder with everything in it as a stream, and back: modes, numeric owners, times in nanoseconds, symbolic and hard links,
 * extended attributes, holes. The system's GNU tar in pax format does the work.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";

const common = ["--numeric-owner", "--xattrs", "--xattrs-include=*"];
const environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };
/** What follows it in the list of names is taken with all below. No name begins with a dash: they are below `./`. */
const withAllBelow = "--recursion";
const selected = ["--no-recursion", "--null", "--no-verbatim-files-from", "--files-from=-"];
const errorBytes = 4096;

/** Parts of a tree; paths are the bytes of names relative to the folder, and free of links but for the last name. */
export interface TreeSelection {
  /** By themselves: without what is in them. */
  readonly entries: readonly Uint8Array[];
  /** With all below. */
  readonly trees: readonly Uint8Array[];
}

/**
 * The content of `folder` as a tar stream, or a selection of it. The folder must not change meanwhile (tar fails then);
 * sockets are left out. The iteration rejects when tar fails; to stop early, return from it.
 */
export async function* captureTree(folder: string, selection?: TreeSelection): AsyncGenerator<Buffer> {
  const args = ["--create", "--format=pax", "--sparse", "--sort=name", ...common, "--directory", folder];
  const tar = spawn("tar", [...args, ...(selection === undefined ? ["."] : selected)], {
    stdio: ["pipe", "pipe", "pipe"],
    env: environment,
  });
  // tar that ended early does not read the list: its exit tells why.
  tar.stdin.on("error", () => undefined);
  tar.stdin.end(selection && listOf(selection));
  const ended = endOf(tar, `cannot read ${folder}`);
  ended.catch(() => undefined); // Awaited below; a reader that stops early does not.
  try {
    for await (const chunk of tar.stdout) yield chunk as Buffer;
    await ended;
  } finally {
    tar.kill("SIGKILL");
  }
}

function listOf({ entries, trees }: TreeSelection): Buffer {
  const names = (paths: readonly Uint8Array[]) =>
    paths.map((path) => Buffer.concat([Buffer.from("./"), path]));
  const items = [...names(entries), Buffer.from(withAllBelow), ...names(trees)];
  return Buffer.concat(items.map((item) => Buffer.concat([item, Buffer.from([0])])));
}

/** Unpack a stream of `captureTree` into an existing folder. Rejects when tar or the source does; what was written stays. */
export async function restoreTree(source: AsyncIterable<Buffer>, folder: string): Promise<void> {
  const args = ["--extract", "--same-permissions", "--same-owner", "--delay-directory-restore", ...common];
  const tar = spawn("tar", [...args, "--directory", folder], {
    stdio: ["pipe", "ignore", "pipe"],
    env: environment,
  });
  const ended = endOf(tar, `cannot write ${folder}`);
  ended.catch(() => undefined); // Awaited below, unless the source fails first.
  // tar closes its input when it has seen the end of the archive, or failed: its exit tells which.
  tar.stdin.on("error", () => undefined);
  const closed = new Promise<void>((resolve) => tar.stdin.once("close", resolve));
  try {
    for await (const chunk of source) {
      if (tar.stdin.writable && !tar.stdin.write(chunk))
        await Promise.race([once(tar.stdin, "drain").catch(() => undefined), closed]);
    }
    tar.stdin.end();
    await ended;
  } finally {
    tar.kill("SIGKILL");
  }
}

async function endOf(tar: ReturnType<typeof spawn>, what: string): Promise<void> {
  let errors = "";
  tar.stderr?.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString("utf8")).slice(0, errorBytes);
  });
  const [code] = (await once(tar, "close")) as [number | null];
  if (code !== 0) throw new Error(`${what}: tar ended with ${code ?? "a signal"}: ${errors.trim()}`);
}
