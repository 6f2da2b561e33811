/**
 * The plaintext of an archive before compression: a sequence of segments, each a type (1 byte), a length (4 bytes,
 * big-endian) and that many bytes.
 *
 *   archive := part* end          part := "P" {name, kind} ( file* | "D"* ) "E"          file := "F" {name} "D"*          end := "Z"
 *
 * Streams of unknown length need no size ahead, which is why this is not a tar of its own.
 */
import { ArchiveError } from "./errors.ts";
import { PendingBytes } from "./pending-bytes.ts";

const prefixBytes = 5;
/** A longer piece of data is cut. */
const maxPayloadBytes = 1 << 20;

export type Segment =
  | { readonly type: "part"; readonly name: string; readonly kind: "files" | "tree" | "json" }
  | { readonly type: "file"; readonly name: string }
  | { readonly type: "data"; readonly bytes: Buffer }
  | { readonly type: "part-end" }
  | { readonly type: "end" };

export function* encodeSegment(segment: Segment): Generator<Buffer> {
  switch (segment.type) {
    case "part":
      yield prefixed("P", Buffer.from(JSON.stringify({ name: segment.name, kind: segment.kind })));
      return;
    case "file":
      yield prefixed("F", Buffer.from(JSON.stringify({ name: segment.name })));
      return;
    case "data":
      for (let at = 0; at < segment.bytes.length; at += maxPayloadBytes) {
        const piece = segment.bytes.subarray(at, at + maxPayloadBytes);
        yield prefix("D", piece.length);
        yield piece;
      }
      return;
    case "part-end":
      yield prefix("E", 0);
      return;
    case "end":
      yield prefix("Z", 0);
  }
}

/**
 * Data comes in whatever pieces the source has. @throws ArchiveError for a sequence that `encodeSegment` cannot have made, or
 * that lacks its end.
 */
export async function* decodeSegments(source: AsyncIterable<Buffer>): AsyncGenerator<Segment> {
  const pending = new PendingBytes();
  let state: { readonly of: "prefix" | "ended" } | { readonly of: string; missing: number } = {
    of: "prefix",
  };
  for await (const piece of source) {
    if (piece.length > 0) pending.push(piece);
    for (;;) {
      if (state.of === "ended" && pending.length > 0) throw malformed();
      if (!("missing" in state)) {
        if (pending.length < prefixBytes) break;
        const prefix = pending.take(prefixBytes);
        state = { of: prefix.toString("latin1", 0, 1), missing: prefix.readUInt32BE(1) };
        if (state.missing > maxPayloadBytes) throw malformed();
      }
      if (state.of === "D") {
        if (state.missing > 0 && pending.length === 0) break;
        const bytes = pending.takeSome(state.missing);
        state.missing -= bytes.length;
        if (bytes.length > 0) yield { type: "data", bytes };
        if (state.missing === 0) state = { of: "prefix" };
        continue;
      }
      if (pending.length < state.missing) break;
      const segment = decodeSegment(state.of, pending.take(state.missing));
      state = { of: segment.type === "end" ? "ended" : "prefix" };
      yield segment;
    }
  }
  if (state.of !== "ended" || pending.length > 0) throw malformed();
}

function decodeSegment(type: string, bytes: Buffer): Segment {
  switch (type) {
    case "P": {
      const { name, kind } = parse(bytes);
      if (kind !== "files" && kind !== "tree" && kind !== "json") throw malformed();
      return { type: "part", name: nameOf(name), kind };
    }
    case "F":
      return { type: "file", name: nameOf(parse(bytes).name) };
    case "E":
      return { type: "part-end" };
    case "Z":
      return { type: "end" };
    default:
      throw malformed();
  }
}

function parse(bytes: Buffer): Record<string, unknown> {
  try {
    return JSON.parse(bytes.toString("utf8")) as Record<string, unknown>;
  } catch (cause) {
    throw malformed(cause);
  }
}

/** Names become file names of the receiver: one component, nothing special. */
function nameOf(name: unknown): string {
  if (typeof name !== "string" || !isPartName(name)) throw malformed();
  return name;
}

export function isPartName(name: string): boolean {
  return /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$/.test(name);
}

function prefixed(type: string, bytes: Buffer): Buffer {
  return Buffer.concat([prefix(type, bytes.length), bytes]);
}

function prefix(type: string, length: number): Buffer {
  const bytes = Buffer.alloc(prefixBytes);
  bytes.write(type, 0, "latin1");
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

function malformed(cause?: unknown): ArchiveError {
  return new ArchiveError("damaged", "The checkpoint's content is not in the order it was written.", {
    cause,
  });
}
