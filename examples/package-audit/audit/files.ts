/** The regular files of a folder, in a stable order and bounded in number. */
import { readdir } from "node:fs/promises";
import { join, relative, sep } from "node:path";

const fileLimit = 20_000;

/** Paths relative to `dir`, sorted. Links are not followed. */
export async function listFiles(dir: string): Promise<string[]> {
  const found = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = found
    .filter((entry) => entry.isFile())
    .map((entry) => relative(dir, join(entry.parentPath, entry.name)));
  if (files.length > fileLimit)
    throw new Error(`the package has ${files.length} files; this audit takes at most ${fileLimit}`);
  return files.map((file) => file.split(sep).join("/")).sort();
}

/** Whether a file holds code that Node runs. */
export const isCode = (path: string): boolean =>
  /\.(?:[cm]?js|jsx|[cm]?ts|tsx)$/.test(path) && !/\.d\.[cm]?ts$/.test(path);
