/** Random trees on disk for tests of versions: made from a model, changed, and described by node:fs alone. */
import { createHash } from "node:crypto";
import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import {
  close,
  listAttributes,
  openDirectory,
  openForReading,
  openPath,
  openRoot,
  setAttribute,
  setMode,
  setModified,
  setOwner,
  truncate,
} from "../src/versions/syscalls.ts";

export interface Model {
  readonly kind: "file" | "directory" | "symlink" | "link";
  readonly mode: number;
  readonly owner: number;
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  readonly attribute: Buffer | undefined;
  readonly content: Buffer;
  /** Bytes of hole after `content`, then `content` again. */
  readonly hole: number;
  readonly target: Buffer;
  readonly children: readonly { readonly name: Buffer; readonly model: Model }[];
}

const name = fc
  .oneof(
    { weight: 3, arbitrary: fc.string({ minLength: 1, maxLength: 8 }).map((text) => Buffer.from(text)) },
    {
      weight: 1,
      arbitrary: fc.uint8Array({ minLength: 1, maxLength: 8 }).map((bytes) => Buffer.from(bytes)),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom("a", "a.b", "a-b", "A", "ab", "é").map((text) => Buffer.from(text)),
    },
  )
  .filter(
    (bytes) => !bytes.includes(0) && !bytes.includes(0x2f) && !["", ".", ".."].includes(bytes.toString()),
  );

const MiB = 1024 * 1024;

/** Small texts mostly, sometimes around the chunk's length. */
const content = fc.oneof(
  { weight: 2, arbitrary: fc.constant(Buffer.alloc(0)) },
  { weight: 6, arbitrary: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)) },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.nat(), fc.integer({ min: 0, max: 5000 })).map(([s, n]) => filler(s, n)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat(), fc.constantFrom(MiB - 1, MiB, MiB + 1, 2 * MiB, 2 * MiB + 17))
      .map(([s, n]) => filler(s, n)),
  },
);

/** Bytes that follow from the seed and do not compress to nothing. */
export function filler(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = (seed | 0) ^ 0x9e3779b9;
  for (let i = 0; i < length; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[i] = (state >>> 24) & 0x3f;
  }
  return bytes;
}

const leaf = fc.record({
  kind: fc.constantFrom("file", "file", "file", "symlink", "link", "directory" as const),
  mode: fc.constantFrom(0o644, 0o755, 0o600, 0o400, 0o4755, 0o2711, 0o1777, 0o000),
  owner: fc.constantFrom(0, 1000, 4_000_000_000),
  mtime: fc.record({
    seconds: fc.integer({ min: -1000, max: 4_000_000_000 }),
    nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
  }),
  attribute: fc.option(
    fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
    {
      nil: undefined,
      freq: 4,
    },
  ),
  content,
  hole: fc.constantFrom(0, 0, 0, 0, 100_000, 3 * MiB + 5),
  target: name,
});

type Leaf = Omit<Model, "children">;

const children = (depth: number, maxLength: number) =>
  fc.uniqueArray(fc.record({ name, model: tree(depth) }), {
    maxLength,
    selector: (child) => child.name.toString("latin1"),
  });

/** A directory has so many levels below it at most. */
export const tree: (depth: number) => fc.Arbitrary<Model> = fc.memo((depth) =>
  fc
    .tuple(leaf as fc.Arbitrary<Leaf>, depth <= 1 ? fc.constant([]) : children(depth - 1, 5))
    .map(([own, below]) => ({ ...own, children: own.kind === "directory" ? below : [] })),
);

/** A root directory of such trees. */
export const folderModel: fc.Arbitrary<Model> = fc
  .tuple(leaf as fc.Arbitrary<Leaf>, children(3, 10))
  .map(([own, below]) => ({ ...own, kind: "directory", mode: own.mode | 0o700, children: below }));

export const temporaryFolder = () => mkdtempSync(join(tmpdir(), "helmr-versions-"));

/** Fills the folder and gives it the root's metadata. `files` are what hard links may lead to. */
export function makeFolder(folder: string, model: Model): void {
  mkdirSync(folder, { recursive: true });
  const files: Buffer[] = [];
  makeChildren(Buffer.from(folder), model, files);
  finish(Buffer.from(folder), model);
}

const below = (folder: Buffer, child: Buffer) => Buffer.concat([folder, Buffer.from("/"), child]);

function makeChildren(folder: Buffer, model: Model, files: Buffer[]): void {
  for (const child of model.children) makeNode(below(folder, child.name), child.model, files);
}

export function makeNode(path: Buffer, model: Model, files: Buffer[]): void {
  const first = files.at(-1);
  if (model.kind === "directory") {
    mkdirSync(path);
    makeChildren(path, model, files);
  } else if (model.kind === "symlink") symlinkSync(model.target, path);
  else if (model.kind === "link" && first !== undefined) {
    linkSync(first, path);
    return;
  } else {
    writeContent(path, model);
    files.push(path);
  }
  finish(path, model);
}

function writeContent(path: Buffer, { content, hole }: Model): void {
  const fd = openSync(path, "w");
  writeSync(fd, content);
  if (hole > 0) {
    truncate(fd, content.length + hole);
    writeSync(fd, content, 0, content.length, content.length + hole);
  }
  closeSync(fd);
}

/** Owner, mode, extended attributes, times: of the name itself. */
function finish(path: Buffer, model: Model): void {
  const slash = path.lastIndexOf(0x2f);
  const parent = openRoot(path.subarray(0, slash));
  const own = path.subarray(slash + 1).toString("latin1");
  setOwner(parent, own, model.owner, model.owner);
  if (model.kind !== "symlink") {
    const fd = model.kind === "directory" ? openDirectory(parent, own) : opened(parent, own);
    setMode(fd, model.mode);
    if (model.attribute !== undefined) setAttribute(fd, { name: "user.helmr", value: model.attribute });
    close(fd);
  }
  setModified(parent, own, model.mtime.seconds, model.mtime.nanoseconds);
  close(parent);
}

function opened(parent: number, own: string): number {
  const path = openPath(parent, own);
  const fd = openForReading(path);
  close(path);
  return fd;
}

/** Everything a version keeps, one line per entry, read by node:fs. Holes are not told: a file system may place them otherwise. */
export function describeFolder(folder: string): string[] {
  const lines: string[] = [];
  const inodes = new Map<bigint, string>();
  const visit = (path: Buffer, shown: string) => {
    const stat = lstatSync(path, { bigint: true });
    const first = inodes.get(stat.ino);
    if (first !== undefined && !stat.isDirectory()) {
      lines.push(`${shown} is ${first}`);
      return;
    }
    inodes.set(stat.ino, shown);
    const target = stat.isSymbolicLink() ? readlinkSync(path, { encoding: "buffer" }).toString("latin1") : "";
    const sha256 = stat.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : "";
    const { mode, uid, gid, mtimeNs } = stat;
    const size = stat.isDirectory() ? "" : stat.size;
    lines.push(
      `${shown} ${mode.toString(8)} ${uid}:${gid} ${mtimeNs} ${size} ${sha256} ${target} ${attributesOf(path, stat)}`,
    );
    if (!stat.isDirectory()) return;
    const names = readdirSync(path, { encoding: "buffer" }).sort(Buffer.compare);
    for (const child of names) visit(below(path, child), `${shown}/${child.toString("latin1")}`);
  };
  visit(Buffer.from(folder), "");
  return lines;
}

function attributesOf(path: Buffer, stat: { isFile(): boolean; isDirectory(): boolean }): string {
  if (!stat.isFile() && !stat.isDirectory()) return "";
  const slash = path.lastIndexOf(0x2f);
  const parent = openRoot(path.subarray(0, slash));
  const own = path.subarray(slash + 1).toString("latin1");
  const fd = stat.isDirectory() ? openDirectory(parent, own) : opened(parent, own);
  const found = listAttributes(fd).map(({ name, value }) => `${name}=${value.toString("hex")}`);
  close(fd);
  close(parent);
  return found.join(",");
}
