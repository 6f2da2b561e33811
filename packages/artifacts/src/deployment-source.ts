/**
 * Reading the uploaded source of a deployment: a plain tar, read as a stream, never held in memory.
 *
 * The control plane validates before it accepts an upload; the worker checks again while it unpacks, because it trusts
 * only what it has verified itself. The rules are in source-tree.ts.
 */
import { createHash, type Hash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { link, mkdir, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { extract as tarExtract } from "tar-stream";
import { ArtifactTooLargeError, DeploymentSourceError } from "./errors.ts";
import { defaultSourceLimits, type SourceLimits, SourceTree, type TreeEntry } from "./source-tree.ts";

export interface SourceSummary {
  /** `sha256:<64 hex>` of the tar's bytes: contract 9.1's `content_hash`. */
  readonly contentHash: string;
  readonly tarBytes: number;
  readonly entryCount: number;
  readonly totalBytes: number;
}

/**
 * Reads the whole tar and checks it. Rejects with DeploymentSourceError (what is wrong with which entry) or
 * ArtifactTooLargeError.
 */
export function validateDeploymentSource(
  source: Readable,
  limits: SourceLimits = defaultSourceLimits,
): Promise<SourceSummary> {
  return readSource(source, limits, async (_entry, body) => {
    for await (const _chunk of body) {
      // Reading to the end is what moves the archive on.
    }
  });
}

/**
 * Unpacks the tar into `targetDir`, which must be empty and the caller's own: modes keep their permission bits (no
 * setuid), owners and times are not taken over. Rejects as validateDeploymentSource does; what was unpacked until then
 * stays for the caller to remove.
 */
export async function extractDeploymentSource(
  source: Readable,
  targetDir: string,
  limits: SourceLimits = defaultSourceLimits,
): Promise<SourceSummary> {
  const links: TreeEntry[] = [];
  const summary = await readSource(source, limits, async (entry, body) => {
    const path = join(targetDir, entry.path);
    await mkdir(entry.kind === "directory" ? path : dirname(path), { recursive: true });
    if (entry.kind === "symlink") links.push(entry);
    if (entry.kind === "link") await link(join(targetDir, entry.target), path);
    // `wx`: rule T1 made the path new, so an existing file means that the folder was not ours alone.
    if (entry.kind === "file")
      await pipeline(body, createWriteStream(path, { flags: "wx", mode: fileMode(entry.mode) }));
    else body.resume();
  });
  // Links last, after the whole tree passed rule T4: while files are written there is no link to write through.
  for (const entry of links) await symlink(entry.target, join(targetDir, entry.path));
  return summary;
}

function fileMode(mode: number): number {
  return (mode & 0o755) | 0o600;
}

async function readSource(
  source: Readable,
  limits: SourceLimits,
  visit: (entry: TreeEntry, body: Readable) => Promise<void>,
): Promise<SourceSummary> {
  const tree = new SourceTree(limits);
  const hash = createHash("sha256");
  const counted = counting(hash, limits.maxTarBytes);
  const archive = tarExtract();
  const feeding = pipeline(source, counted.stream, archive);
  // A failure is reported by the loop below or by the await after it; until then it must not count as unhandled.
  feeding.catch(() => undefined);
  try {
    for await (const entry of archive) await visit(tree.add(entry.header), entry as unknown as Readable);
    await feeding;
  } catch (error) {
    archive.destroy();
    source.destroy();
    await feeding.catch(() => undefined);
    throw explained(error);
  }
  tree.finish();
  return {
    contentHash: `sha256:${hash.digest("hex")}`,
    tarBytes: counted.bytes(),
    entryCount: tree.entryCount,
    totalBytes: tree.totalBytes,
  };
}

function counting(hash: Hash, maxBytes: number): { stream: Transform; bytes(): number } {
  let bytes = 0;
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > maxBytes) return done(new ArtifactTooLargeError(maxBytes));
      hash.update(chunk);
      done(null, chunk);
    },
  });
  return { stream, bytes: () => bytes };
}

/** tar-stream's own errors say what is wrong with the archive's format. */
function explained(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  if (/^(Invalid|Unexpected end of data|Header exceeds)/.test(error.message)) {
    return new DeploymentSourceError(`the upload is not a complete tar archive: ${error.message}`);
  }
  return error;
}
