/** A folder of this machine as a tar stream: files, folders, symlinks; modes and times; nothing is followed. */
import { createReadStream } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { type Header, type Pack, pack } from "tar-stream";
import { note, plain } from "../output.ts";

/** The contents of `root`, below `prefix` in the tar. A failure destroys the stream with its error. */
export function packFolder(root: string, prefix: string): Pack {
  const archive = pack();
  const base = prefix.replaceAll(/^\/+|\/+$/g, "");
  addFolder(archive, root, base)
    .then(() => archive.finalize())
    .catch((error: unknown) => archive.destroy(error instanceof Error ? error : new Error(String(error))));
  return archive;
}

async function addFolder(archive: Pack, folder: string, name: string): Promise<void> {
  for (const child of (await readdir(folder)).sort()) {
    const path = join(folder, child);
    const entry = name === "" ? child : `${name}/${child}`;
    const kind = await lstat(path);
    const header = { name: entry, mode: kind.mode & 0o7777, mtime: kind.mtime };
    if (kind.isDirectory()) {
      await add(archive, { ...header, name: `${entry}/`, type: "directory" });
      await addFolder(archive, path, entry);
    } else if (kind.isSymbolicLink())
      await add(archive, { ...header, type: "symlink", linkname: await readlink(path) });
    else if (kind.isFile()) await addFile(archive, path, { ...header, size: kind.size });
    else note(`${plain(path)} is no file, folder or link: left out`);
  }
}

function add(archive: Pack, header: Partial<Header> & { name: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    archive.entry(header as Header, "", (error) => (error ? reject(error) : resolve()));
  });
}

/** A file that changes its size meanwhile is an error, not a broken archive. */
async function addFile(
  archive: Pack,
  path: string,
  header: { readonly name: string; readonly size: number },
): Promise<void> {
  if (header.size === 0) return add(archive, header);
  await pipeline(createReadStream(path, { end: header.size - 1 }), archive.entry(header as Header));
}
