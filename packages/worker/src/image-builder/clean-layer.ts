/**
 * Removes from a finished layer what a package manager wrote down about the build's registry: its address is gone
 * after the build, and a lockfile that names it would break the next installation.
 *
 * Lockfiles are rewritten; npm's logs and the cache entries that name the registry are deleted; elsewhere the secret
 * token is overwritten with zeros of the same length.
 *
 *  I1  The guest wrote these files: memory stays bounded whatever is in them. Folders are read entry by entry, files in
 *      chunks, and the token is overwritten where it is found, not collected.
 *  I2  A layer has at most `maxEntries` entries and `maxBytes`, and no path that the host could not open.
 *  I3  Names are bytes (Latin-1 strings here): an image may hold names that are no UTF-8.
 */
import { type FileHandle, open, opendir, readFile, rm, writeFile } from "node:fs/promises";
import { BuildFailure } from "../failure.ts";
import { forgetRegistry, rewrittenNames } from "../lockfiles.ts";

const maxLockfileBytes = 64 * 1024 * 1024;
const chunkBytes = 1024 * 1024;
/** A full Debian desktop has 300,000 files, a large node_modules 200,000. */
const maxEntries = 2_000_000;
const maxBytes = 32 * 1024 ** 3;

const toBytes = (path: string): Buffer => Buffer.from(path, "latin1");

/** Clean the layer at `upper`, which nobody writes any more. Throws BuildFailure when it is over the limits (I2). */
export async function cleanLayer(
  upper: string,
  registry: { readonly url: string; readonly token: string },
): Promise<void> {
  const token = Buffer.from(registry.token);
  const seen = { entries: 0, bytes: 0 };
  const root = Buffer.from(upper, "utf8").toString("latin1");
  try {
    for await (const { path, name } of filesBelow(root, seen))
      await cleanFile(path, name, token, registry.url, seen);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENAMETOOLONG") throw error;
    throw tooMuch("it made folders nested so deep that their path is longer than 4096 bytes");
  }
}

function tooMuch(what: string): BuildFailure {
  return new BuildFailure(
    "image_preparation",
    `image preparation: the step's result cannot be kept: ${what}; make it write less`,
  );
}

async function* filesBelow(
  folder: string,
  seen: { entries: number },
): AsyncGenerator<{ path: string; name: string }> {
  for await (const entry of await opendir(toBytes(folder) as unknown as string, {
    encoding: "latin1" as BufferEncoding,
  })) {
    seen.entries += 1;
    if (seen.entries > maxEntries) throw tooMuch(`it made more than ${maxEntries} files`);
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) yield* filesBelow(path, seen);
    else if (entry.isFile()) yield { path, name: entry.name };
  }
}

async function cleanFile(
  path: string,
  name: string,
  token: Buffer,
  url: string,
  seen: { bytes: number },
): Promise<void> {
  const file = await open(toBytes(path), "r+");
  let action: "none" | "remove" | "rewrite";
  try {
    const { size } = await file.stat();
    seen.bytes += size; // Holes count: they would be read, and copied as zeros.
    if (seen.bytes > maxBytes) throw tooMuch(`it wrote more than ${maxBytes / 1024 ** 3} GiB`);
    const isWhole = isDisposable(path) || (rewrittenNames.has(name) && size <= maxLockfileBytes);
    const isFound = await findToken(file, size, token, isWhole ? "stop" : "overwrite");
    action = !isFound || !isWhole ? "none" : isDisposable(path) ? "remove" : "rewrite";
  } finally {
    await file.close();
  }
  if (action === "remove") await rm(toBytes(path));
  if (action === "rewrite") await rewrite(path, name, url);
}

/** Logs and cache indexes, which their owner makes anew. */
function isDisposable(path: string): boolean {
  return /\/_logs\/|\/_cacache\/|\/_update-notifier/.test(path);
}

async function rewrite(path: string, name: string, url: string): Promise<void> {
  const text = await readFile(toBytes(path), "utf8");
  await writeFile(toBytes(path), forgetRegistry(name, text, url));
}

/** Whether the token is in the file, read in chunks that overlap by its length; all of it, or up to the first. */
async function findToken(
  file: FileHandle,
  size: number,
  token: Buffer,
  found: "stop" | "overwrite",
): Promise<boolean> {
  let isFound = false;
  const zeros = Buffer.alloc(token.length, "0");
  const buffer = Buffer.alloc(Math.min(chunkBytes, size));
  for (let start = 0; start + token.length <= size; start += chunkBytes - token.length + 1) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
    const chunk = buffer.subarray(0, bytesRead);
    let isChanged = false;
    for (let at = chunk.indexOf(token); at !== -1; at = chunk.indexOf(token, at + token.length)) {
      isFound = true;
      if (found === "stop") return true;
      zeros.copy(chunk, at);
      isChanged = true;
    }
    if (isChanged) await file.write(chunk, 0, chunk.length, start); // Once a chunk, however often it names the token.
    if (start + bytesRead >= size) break;
  }
  return isFound;
}
