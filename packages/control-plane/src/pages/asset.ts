/** One file of the pages, in memory, with an etag that browsers ask again with. */
import { createHash } from "node:crypto";
import { extname } from "node:path";
import type { FastifyReply, FastifyRequest } from "fastify";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

export interface Asset {
  readonly name: string;
  readonly type: string;
  readonly etag: string;
  readonly bytes: Buffer;
}

export function loadAsset(name: string, bytes: Buffer): Asset {
  const type = types[extname(name)];
  if (type === undefined) throw new Error(`the page file ${name} is of no known type`);
  const etag = `"${createHash("sha256").update(bytes).digest("base64url")}"`;
  return { name, type, etag, bytes };
}

/** 304 where the browser has these bytes already. */
export function sendAsset(request: FastifyRequest, reply: FastifyReply, asset: Asset): FastifyReply {
  void reply.headers({ etag: asset.etag, "cache-control": "no-cache" });
  if (hasAlready(request.headers["if-none-match"], asset.etag)) return reply.code(304).send();
  return reply.type(asset.type).send(asset.bytes);
}

/** A proxy that compresses makes the etag a weak one. */
function hasAlready(known: string | undefined, etag: string): boolean {
  return (known ?? "").split(",").some((one) => one.trim().replace(/^W\//, "") === etag);
}
