/**
 * A manifest as an artifact: `[8 bytes "HELMRWV1"][u32 length of the JSON][JSON {rawBytes, base?}][one zstd frame]`.
 *
 * With `base` the frame is compressed with that other manifest's columns as its dictionary, so that what did not change costs
 * next to nothing. A base has no base itself: a version needs one other manifest at most, and names it among its artifacts.
 */
import { hash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { constants, zstdCompressSync, zstdDecompress } from "node:zlib";
import type { ArtifactAccess } from "./artifact-access.ts";
import { isCount, isRecord } from "./columns.ts";
import { corrupt } from "./errors.ts";
import { manifestMaxBytes } from "./format.ts";
import { Manifest } from "./manifest.ts";
import { checkSteps } from "./manifest-check.ts";

/** Not on the event loop's thread: a control plane reads manifests of a hundred megabytes beside everybody else's requests. */
const decompress = promisify(zstdDecompress);
const magic = Buffer.from("HELMRWV1");
const headMaxBytes = 1024;
/** Manifest and base must lie in the window together for the base to be found: 2^27 bytes, the most that readers accept. */
const windowLogMax = 27;
const baseMaxBytes = 2 ** (windowLogMax - 1) - 1024;
/** A base is used while what differs takes less than this share of the columns; alone they take about three times as much. */
const baseWorth = 1 / 8;

export interface LoadedManifest {
  readonly digest: string;
  readonly manifest: Manifest;
  /** The manifest that this one's bytes need. */
  readonly base: { readonly digest: string; readonly raw: Buffer } | undefined;
  readonly storedBytes: number;
}

export interface EncodedManifest {
  readonly digest: string;
  readonly bytes: Uint8Array;
  readonly base: LoadedManifest["base"];
}

/** With a base when that makes it small. */
export function encodeManifest(raw: Buffer, previous: LoadedManifest | undefined): EncodedManifest {
  const base = baseOf(raw, previous);
  if (base !== undefined) {
    const bytes = artifact(raw, base);
    if (bytes.length < raw.length * baseWorth) return { digest: digestOf(bytes), bytes, base };
  }
  const bytes = artifact(raw, undefined);
  return { digest: digestOf(bytes), bytes, base: undefined };
}

function baseOf(raw: Buffer, previous: LoadedManifest | undefined): LoadedManifest["base"] {
  if (previous === undefined || raw.length > baseMaxBytes) return undefined;
  const base = previous.base ?? { digest: previous.digest, raw: previous.manifest.raw };
  return base.raw.length > baseMaxBytes ? undefined : base;
}

const digestOf = (bytes: Uint8Array) => `sha256:${hash("sha256", bytes, "hex")}`;

function artifact(raw: Buffer, base: LoadedManifest["base"]): Uint8Array {
  const frame =
    base === undefined
      ? zstdCompressSync(raw, { params: { [constants.ZSTD_c_compressionLevel]: 1 } })
      : zstdCompressSync(raw, { params: baseParameters(raw.length + base.raw.length), dictionary: base.raw });
  const head = Buffer.from(
    JSON.stringify({ rawBytes: raw.length, ...(base === undefined ? {} : { base: base.digest }) }),
  );
  const bytes = new Uint8Array(12 + head.length + frame.length);
  bytes.set(magic);
  Buffer.from(bytes.buffer).writeUInt32LE(head.length, 8);
  bytes.set(head, 12);
  bytes.set(frame, 12 + head.length);
  return bytes;
}

/**
 * zstd sizes its tables for dictionaries of some KiB. Measured with a manifest of 50,000 files of which ten differ (4.6 MB, 2.0 MB alone):
 * 237 KB with its own tables, 4.4 KB in 11 ms with a table of 2^20; no smaller with slower strategies.
 */
function baseParameters(bytes: number): Record<number, number> {
  const log = Math.ceil(Math.log2(bytes + 1024));
  return {
    [constants.ZSTD_c_compressionLevel]: 1,
    [constants.ZSTD_c_strategy]: constants.ZSTD_fast,
    [constants.ZSTD_c_windowLog]: Math.min(windowLogMax, Math.max(17, log)),
    [constants.ZSTD_c_hashLog]: Math.min(23, Math.max(16, log - 4)),
  };
}

/** Fetches, verifies and checks. Rejects with a WorkspaceVersionError. */
export async function loadManifest(artifacts: ArtifactAccess, digest: string): Promise<LoadedManifest> {
  const bytes = await artifacts.fetch(digest, manifestMaxBytes);
  const head = readHead(digest, bytes);
  let base: LoadedManifest["base"];
  if (head.base !== undefined) {
    const baseBytes = await artifacts.fetch(head.base, manifestMaxBytes);
    const baseHead = readHead(head.base, baseBytes);
    if (baseHead.base !== undefined)
      throw corrupt(head.base, "it is the base of a manifest and has one itself");
    base = { digest: head.base, raw: await unpacked(head.base, baseHead, baseBytes, undefined) };
  }
  const raw = await unpacked(digest, head, bytes, base?.raw);
  return { digest, manifest: await parseInSteps(digest, raw), base, storedBytes: bytes.length };
}

/** Lets others have their turn meanwhile. */
async function parseInSteps(digest: string, raw: Buffer): Promise<Manifest> {
  try {
    const manifest = new Manifest(raw, { checked: true });
    for (const _step of checkSteps(manifest)) await setImmediate();
    return manifest;
  } catch (error) {
    throw corrupt(digest, error instanceof Error ? error.message : String(error), error);
  }
}

export function parseManifest(digest: string, raw: Buffer): Manifest {
  try {
    return new Manifest(raw);
  } catch (error) {
    throw corrupt(digest, error instanceof Error ? error.message : String(error), error);
  }
}

interface Head {
  readonly rawBytes: number;
  readonly base: string | undefined;
  readonly frameStart: number;
}

function readHead(digest: string, bytes: Uint8Array): Head {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.length < 12 || !view.subarray(0, 8).equals(magic)) throw corrupt(digest, "it is no manifest");
  const length = view.readUInt32LE(8);
  if (length > headMaxBytes || 12 + length > view.length) throw corrupt(digest, "its head is cut off");
  let head: unknown;
  try {
    head = JSON.parse(view.toString("utf8", 12, 12 + length));
  } catch (error) {
    throw corrupt(digest, "its head is damaged", error);
  }
  if (!isRecord(head) || !isCount(head.rawBytes) || head.rawBytes > manifestMaxBytes)
    throw corrupt(digest, "its head is of another shape");
  const { base } = head;
  if (base !== undefined && (typeof base !== "string" || !/^sha256:[0-9a-f]{64}$/.test(base)))
    throw corrupt(digest, "its base has no digest");
  return { rawBytes: head.rawBytes, base, frameStart: 12 + length };
}

async function unpacked(
  digest: string,
  head: Head,
  bytes: Uint8Array,
  dictionary: Buffer | undefined,
): Promise<Buffer> {
  let raw: Buffer;
  try {
    raw = await decompress(bytes.subarray(head.frameStart), {
      maxOutputLength: Math.max(1, head.rawBytes),
      params: { [constants.ZSTD_d_windowLogMax]: windowLogMax },
      ...(dictionary === undefined ? {} : { dictionary }),
    });
  } catch (error) {
    throw corrupt(digest, "it cannot be decompressed", error);
  }
  if (raw.length !== head.rawBytes) throw corrupt(digest, "it is not of its length");
  return raw;
}
