/** Files in the cache: placed by one rename with their SHA-256 beside them, checked against it at each use. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { pipeline } from "node:stream/promises";

/** Hex digest of a file; 100 MB take about 0.1 s. */
export async function digestFile(path: string, algorithm: "sha256" | "sha512"): Promise<string> {
  const hash = createHash(algorithm);
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

/** Move `from` to `to` on the same filesystem and record its digest. The digest goes first: no file without one. */
export async function placeFile(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await writeFile(`${to}.sha256.partial`, await digestFile(from, "sha256"));
  await rename(`${to}.sha256.partial`, `${to}.sha256`);
  await rename(from, to);
}

/** Whether the file is there and is the one that was placed. */
export async function isIntact(path: string): Promise<boolean> {
  try {
    return (await readFile(`${path}.sha256`, "utf8")) === (await digestFile(path, "sha256"));
  } catch {
    return false; // never placed, or removed by hand: installed again
  }
}
