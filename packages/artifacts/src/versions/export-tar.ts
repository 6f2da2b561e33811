/**
 * A version as a tar stream in pax format, readable by GNU tar, bsdtar and ours.
 *
 * Headers are written here and not by tar-stream, whose names and extended attributes are text: a path that is not UTF-8 goes into a
 * GNU long name (`L`, `K`), bytes as they are; an attribute's value that is not UTF-8 as libarchive does it, in base64. Holes are
 * written as zeros.
 */
import { isUtf8 } from "node:buffer";
import { pipeline, Readable } from "node:stream";
import { constants, createZstdCompress } from "node:zlib";
import type { VersionEntry, VersionReader } from "./open-version.ts";

const block = 512;
const types = { file: "0", link: "1", symlink: "2", directory: "5" } as const;
const octal = (digits: number) => 8 ** digits - 1;

/** Beginning with the root as `./`. Errors with `artifact_missing`, `artifact_corrupt`. */
export function exportTar(version: VersionReader, options: { readonly zstd?: boolean } = {}): Readable {
  const tar = Readable.from(tarOf(version), { objectMode: false, highWaterMark: 1024 * 1024 });
  if (options.zstd !== true) return tar;
  const zstd = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } });
  // An error of the one destroys the other, where it is seen.
  pipeline(tar, zstd, () => undefined);
  return zstd;
}

async function* tarOf(version: VersionReader): AsyncGenerator<Buffer> {
  for (let number = 0; number < version.entryCount; number += 1) {
    const entry = version.entry(number);
    const size = entry.kind === "file" && entry.linkOf === undefined ? entry.sizeBytes : 0;
    yield headersOf(entry, size);
    if (size === 0) continue;
    yield* version.contentOf(number);
    yield padding(size);
  }
  yield Buffer.alloc(2 * block);
}

const padding = (length: number) => Buffer.alloc((block - (length % block)) % block);

function headersOf(entry: VersionEntry, size: number): Buffer {
  const directory = entry.kind === "directory";
  const path =
    entry.pathBytes.length === 0
      ? Buffer.from("./")
      : Buffer.concat([entry.pathBytes, Buffer.from(directory ? "/" : "")]);
  const target = entry.linkOf ?? entry.linkTargetBytes ?? Buffer.alloc(0);
  const records: Buffer[] = [];
  const long: Buffer[] = [];
  const name = (bytes: Buffer, keyword: string, type: "L" | "K") => {
    if (bytes.length <= 100 && /^[\x20-\x7e]*$/.test(bytes.toString("latin1"))) return;
    if (isUtf8(bytes)) records.push(paxRecord(keyword, bytes));
    else long.push(gnuLongName(type, bytes));
  };
  name(path, "path", "L");
  name(target, "linkpath", "K");
  records.push(paxRecord("mtime", Buffer.from(decimalSeconds(entry.mtimeNs))));
  if (size > octal(11)) records.push(paxRecord("size", Buffer.from(String(size))));
  for (const id of ["uid", "gid"] as const)
    if (entry[id] > octal(7)) records.push(paxRecord(id, Buffer.from(String(entry[id]))));
  for (const { name, value } of entry.attributes)
    records.push(
      isUtf8(value)
        ? paxRecord(`SCHILY.xattr.${name}`, value)
        : paxRecord(`LIBARCHIVE.xattr.${encodeURIComponent(name)}`, Buffer.from(value.toString("base64"))),
    );
  const pax = Buffer.concat(records);
  const type = entry.linkOf !== undefined ? types.link : types[entry.kind];
  return Buffer.concat([
    header({ path: Buffer.from("PaxHeader"), type: "x", size: pax.length, mode: 0o644 }),
    pax,
    padding(pax.length),
    ...long,
    header({ ...entry, path, target, type, size, mtimeSeconds: Number(entry.mtimeNs / 1_000_000_000n) }),
  ]);
}

/** `<length of all> <keyword>=<value>\n`. */
function paxRecord(keyword: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${keyword}=`), value, Buffer.from("\n")]);
  let digits = 1;
  while (String(rest.length + digits).length > digits) digits += 1;
  return Buffer.concat([Buffer.from(String(rest.length + digits)), rest]);
}

function gnuLongName(type: "L" | "K", bytes: Buffer): Buffer {
  const content = Buffer.concat([bytes, Buffer.of(0)]);
  const path = Buffer.from("././@LongLink");
  return Buffer.concat([
    header({ path, type, size: content.length, mode: 0o644 }),
    content,
    padding(content.length),
  ]);
}

function decimalSeconds(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns;
  const fraction = String(magnitude % 1_000_000_000n).padStart(9, "0");
  return `${ns < 0n ? "-" : ""}${magnitude / 1_000_000_000n}.${fraction}`;
}

interface Header {
  readonly path: Buffer;
  readonly target?: Buffer;
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeSeconds?: number;
}

/** What does not fit is cut here: a pax record or long name before it says it whole. */
function header({ path, target, type, size, mode, uid = 0, gid = 0, mtimeSeconds = 0 }: Header): Buffer {
  const bytes = Buffer.alloc(block);
  const number = (value: number, at: number, digits: number) => {
    const shown = value > octal(digits) || value < 0 ? 0 : value;
    bytes.write(shown.toString(8).padStart(digits, "0"), at, "latin1");
  };
  path.copy(bytes, 0, 0, 100);
  number(mode, 100, 7);
  number(uid, 108, 7);
  number(gid, 116, 7);
  number(size, 124, 11);
  number(mtimeSeconds, 136, 11);
  bytes.fill(" ", 148, 156);
  bytes.write(type, 156, "latin1");
  target?.copy(bytes, 157, 0, 100);
  bytes.write("ustar\x0000", 257, "latin1");
  number(
    bytes.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  );
  bytes[154] = 0;
  return bytes;
}
