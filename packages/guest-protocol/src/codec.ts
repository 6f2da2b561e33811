/**
 * Bodies of the frames between worker and guest: one msgpack value.
 *
 * The peer is hostile. Before msgpackr sees a body, `checkShape` walks its tokens once without allocating:
 *  C1  No extension type, no `0xc1` token, no 64-bit integer: msgpackr would build records (with `new Function`),
 *      errors, sets or BigInts from them; we never send any.
 *  C2  Map keys are strings and never `__proto__`.
 *  C3  At most `maxDepth` levels and `maxValues` values, so a frame of 8 MiB cannot become gigabytes of objects.
 */
import { Packr, Unpackr } from "msgpackr/pack";
import { limits } from "./constants.ts";
import { ProtocolError, prefixed } from "./frames.ts";

const maxDepth = 32;
/** Environment, secrets and problems are the only lists; 8 MiB of JSON text is one value. */
const maxValues = 100_000;

const packr = new Packr({
  useRecords: false,
  moreTypes: false,
  skipValues: [undefined],
} as ConstructorParameters<typeof Packr>[0]);
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, copyBuffers: true });

/**
 * Encode one value as a frame.
 *
 * @throws RangeError when the body is larger than `maxBytes` (default `limits.frameBytes`).
 */
export function encodeFrame(value: unknown, maxBytes: number = limits.frameBytes): Buffer {
  const body = packr.pack(value);
  if (body.length > maxBytes) {
    throw new RangeError(`The message takes ${body.length} bytes; a frame holds at most ${maxBytes}.`);
  }
  return prefixed(body);
}

/**
 * Decode the body of one frame to plain objects, arrays, strings, numbers, booleans, null and Uint8Arrays.
 *
 * @throws ProtocolError for everything `encodeFrame` cannot have produced.
 */
export function decodeBody(body: Buffer): unknown {
  checkShape(body);
  try {
    return unpackr.unpack(body);
  } catch (error) {
    throw new ProtocolError("A frame is not valid msgpack.", { cause: error });
  }
}

interface Token {
  kind: "scalar" | "string" | "map" | "array";
  /** Bytes of token and length field, and with scalar content. */
  head: number;
  size: number;
  /** Entries of a container. */
  entries: number;
}

/** Walk the tokens of one msgpack value that must fill the body exactly (C1, C2, C3). */
function checkShape(body: Buffer): void {
  const open: { remaining: number; isMap: boolean }[] = [{ remaining: 1, isMap: false }];
  let at = 0;
  let values = 0;
  while (open.length > 0) {
    const top = open[open.length - 1];
    if (top === undefined || top.remaining === 0) {
      open.pop();
      continue;
    }
    if (++values > maxValues) throw new ProtocolError("A frame holds too many values.");
    const isKey = top.isMap && top.remaining % 2 === 0;
    top.remaining--;
    const token = readToken(body, at);
    if (at + token.size > body.length) throw new ProtocolError("A frame ends inside a value.");
    if (isKey) checkKey(body, at, token);
    at += token.size;
    if (token.kind === "map" || token.kind === "array") {
      if (token.entries > body.length - at) throw new ProtocolError("A container is longer than its frame.");
      if (open.length > maxDepth) throw new ProtocolError("A frame is nested too deeply.");
      open.push({
        remaining: token.kind === "map" ? token.entries * 2 : token.entries,
        isMap: token.kind === "map",
      });
    }
  }
  if (at !== body.length) throw new ProtocolError("A frame holds more than one value.");
}

function checkKey(body: Buffer, at: number, token: Token): void {
  if (token.kind !== "string") throw new ProtocolError("A map key is not a string.");
  if (body.toString("latin1", at + token.head, at + token.size) === "__proto__") {
    throw new ProtocolError("A map key is not allowed.");
  }
}

const scalarSizes = new Map<number, number>([
  [0xc0, 1],
  [0xc2, 1],
  [0xc3, 1],
  [0xca, 5],
  [0xcb, 9],
  [0xcc, 2],
  [0xcd, 3],
  [0xce, 5],
  [0xd0, 2],
  [0xd1, 3],
  [0xd2, 5],
]);
/** Token -> kind and width of its length field. */
const sized = new Map<number, { kind: "scalar" | "string" | "map" | "array"; width: 1 | 2 | 4 }>([
  [0xc4, { kind: "scalar", width: 1 }],
  [0xc5, { kind: "scalar", width: 2 }],
  [0xc6, { kind: "scalar", width: 4 }],
  [0xd9, { kind: "string", width: 1 }],
  [0xda, { kind: "string", width: 2 }],
  [0xdb, { kind: "string", width: 4 }],
  [0xdc, { kind: "array", width: 2 }],
  [0xdd, { kind: "array", width: 4 }],
  [0xde, { kind: "map", width: 2 }],
  [0xdf, { kind: "map", width: 4 }],
]);

function readToken(body: Buffer, at: number): Token {
  const byte = body[at];
  if (byte === undefined) throw new ProtocolError("A frame ends inside a value.");
  if (byte < 0x80 || byte >= 0xe0) return { kind: "scalar", head: 1, size: 1, entries: 0 };
  if (byte < 0x90) return { kind: "map", head: 1, size: 1, entries: byte & 0x0f };
  if (byte < 0xa0) return { kind: "array", head: 1, size: 1, entries: byte & 0x0f };
  if (byte < 0xc0) return { kind: "string", head: 1, size: 1 + (byte & 0x1f), entries: 0 };
  const scalar = scalarSizes.get(byte);
  if (scalar !== undefined) return { kind: "scalar", head: 1, size: scalar, entries: 0 };
  const form = sized.get(byte);
  if (form === undefined) throw new ProtocolError(`A frame holds a value of type 0x${byte.toString(16)}.`);
  if (at + 1 + form.width > body.length) throw new ProtocolError("A frame ends inside a value.");
  const length = body.readUIntBE(at + 1, form.width);
  const head = 1 + form.width;
  return form.kind === "map" || form.kind === "array"
    ? { kind: form.kind, head, size: head, entries: length }
    : { kind: form.kind, head, size: head + length, entries: 0 };
}
