/** Which runsc this is. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { hostCommand } from "../host/command.ts";

const versions = new Map<string, Promise<string>>();

/**
 * `release-20260905.0`, or for a build that was not stamped (go install) the first 16 digits of the binary's SHA-256.
 * A checkpoint is restored only by the same version, so two builds must never share a name.
 */
export function runscVersion(runscPath: string): Promise<string> {
  const known = versions.get(runscPath) ?? readVersion(runscPath);
  versions.set(runscPath, known);
  known.catch(() => versions.delete(runscPath));
  return known;
}

async function readVersion(runscPath: string): Promise<string> {
  const text = await hostCommand(runscPath, ["--version"], { layer: "sandbox" });
  const stamped = /runsc version (\S+)/.exec(text)?.[1];
  if (stamped !== undefined && stamped !== "VERSION_MISSING") return stamped;
  const hash = createHash("sha256");
  await pipeline(createReadStream(runscPath), hash);
  return `sha256-${hash.digest("hex").slice(0, 16)}`;
}
