/** Conditional and partial reads of bytes (RFC 9110, 13 and 14). */
import type { FastifyRequest } from "fastify";

/** `end` is the first byte that is not part of it. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** If-None-Match: the client has it. */
export function isUnchanged({ headers }: FastifyRequest, etag: string): boolean {
  const known = headers["if-none-match"];
  if (known === undefined) return false;
  return known.split(",").some((tag) => tag.trim() === "*" || tag.trim().replace(/^W\//, "") === etag);
}

/**
 * The one range that the request asks for. Undefined: the whole, for a header that is not understood, that asks for several
 * ranges, or whose If-Range is of another content.
 */
export function parseRange(
  { headers }: FastifyRequest,
  size: number,
  etag: string | undefined,
): ByteRange | "unsatisfiable" | undefined {
  const condition = headers["if-range"];
  if (condition !== undefined && condition !== etag) return undefined;
  const match = /^bytes=(\d{0,16})-(\d{0,16})$/i.exec((headers.range ?? "").replaceAll(" ", ""));
  if (match === null) return undefined;
  const [, first = "", last = ""] = match;
  if (first === "" && last === "") return undefined;
  if (first === "") {
    const length = Math.min(size, Number(last));
    return length === 0 ? "unsatisfiable" : { start: size - length, end: size };
  }
  const start = Number(first);
  const end = last === "" ? size : Math.min(size, Number(last) + 1);
  if (last !== "" && Number(last) < start) return undefined;
  return start >= size ? "unsatisfiable" : { start, end };
}
