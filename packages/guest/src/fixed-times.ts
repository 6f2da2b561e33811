/** The same times on every worker for folders that are mounted into guests. */
import { lutimes, readdir } from "node:fs/promises";
import { join } from "node:path";

/** Any fixed one; not 0, which some programs take for "none". */
export const fixedTime = new Date("2000-01-01T00:00:00Z");

/** Give the folder and everything in it that time; links are not followed. */
export async function setFixedTimes(folder: string): Promise<void> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.map((entry) => join(entry.parentPath, entry.name));
  for (const path of [...paths, folder]) await lutimes(path, fixedTime, fixedTime);
}
