/** The files of a workspace that was never saved: a version with nothing in it, which is in no store. */
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { ArtifactNotFoundError, type ArtifactStore } from "@helmr/artifacts";
import { applyFiles, openVersion, type VersionReader } from "@helmr/artifacts/versions";

let made: Promise<VersionReader> | undefined;

/** One for the process. */
export function emptyTree(): Promise<VersionReader> {
  made ??= make();
  return made;
}

async function make(): Promise<VersionReader> {
  const artifacts = memoryStore();
  const { manifestDigest } = await applyFiles({ artifacts, replace: true });
  return await openVersion(artifacts, manifestDigest);
}

function memoryStore(): ArtifactStore {
  const kept = new Map<string, Buffer>();
  return {
    put: async (source) => {
      const bytes = await buffer(source);
      const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      kept.set(digest, bytes);
      return { digest, sizeBytes: bytes.length };
    },
    get: async (digest) => {
      const bytes = kept.get(digest);
      if (bytes === undefined) throw new ArtifactNotFoundError(digest);
      return Readable.from([bytes]);
    },
    has: async (digest) => kept.has(digest),
    delete: async (digest) => {
      kept.delete(digest);
    },
  };
}
