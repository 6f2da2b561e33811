/** Archives of versions: what they hold comes out as it went in, and nothing else of the machine is touched. */
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { type Header, pack } from "tar-stream";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { placeOf } from "./copy.ts";
import { extractArchive } from "./extract.ts";
import { packFolder } from "./pack.ts";

let dir: string;
let root: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-copy-test-"));
  root = join(dir, "root");
  await mkdir(root);
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(dir, { recursive: true, force: true });
});

async function bytesOf(archive: AsyncIterable<unknown>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of archive) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
async function* pieces(bytes: Buffer, size = 1000) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
async function unpack(entries: readonly [Partial<Header> & { name: string }, string?][], prefix = "") {
  const archive = pack();
  for (const [header, content] of entries) archive.entry(header as Header, content ?? "");
  archive.finalize();
  return extractArchive(pieces(zstdCompressSync(await bytesOf(archive))), prefix, root);
}

describe("a folder", () => {
  it("comes out as it went in: bytes, modes, times, links, empty ones", async () => {
    const source = join(dir, "source");
    await mkdir(join(source, "a", "empty"), { recursive: true });
    const data = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 253));
    await writeFile(join(source, "a", "big ä.bin"), data);
    await writeFile(join(source, "nothing"), "");
    await writeFile(join(source, "run.sh"), "#!/bin/sh\n");
    await chmod(join(source, "run.sh"), 0o755);
    await symlink("../nothing", join(source, "a", "link"));
    await symlink("/nowhere", join(source, "dangling"));
    await utimes(join(source, "run.sh"), 1, 1_000_000_000);
    await chmod(join(source, "a", "empty"), 0o500);

    const tar = await bytesOf(packFolder(source, "in/here/"));
    const files = await extractArchive(pieces(zstdCompressSync(tar)), "in/here", root);
    expect(files).toBe(3);
    expect((await readFile(join(root, "a", "big ä.bin"))).equals(data)).toBe(true);
    expect((await readdir(root)).sort()).toEqual(["a", "dangling", "nothing", "run.sh"]);
    expect(await readlink(join(root, "a", "link"))).toBe("../nothing");
    expect(await readlink(join(root, "dangling"))).toBe("/nowhere");
    const script = await lstat(join(root, "run.sh"));
    expect([script.mode & 0o777, script.mtimeMs]).toEqual([0o755, 1_000_000_000_000]);
    expect((await lstat(join(root, "a", "empty"))).mode & 0o777).toBe(0o500);
  });

  it("keeps what else is there, and replaces what has the same name", async () => {
    await writeFile(join(root, "other"), "other");
    await writeFile(join(root, "a"), "old");
    await mkdir(join(root, "b", "c"), { recursive: true });
    await unpack([
      [{ name: "a/x" }, "new"],
      [{ name: "b" }, "file"],
    ]);
    expect(await readFile(join(root, "a", "x"), "utf8")).toBe("new");
    expect(await readFile(join(root, "b"), "utf8")).toBe("file");
    expect(await readFile(join(root, "other"), "utf8")).toBe("other");
  });

  it("of which a part is wanted", async () => {
    const files = await unpack(
      [
        [{ name: "src/x/a" }, "a"],
        [{ name: "src/xy" }, "no"],
        [{ name: "b" }, "no"],
      ],
      "src/x",
    );
    expect([files, await readdir(root)]).toEqual([1, ["a"]]);
  });
});

describe("a hostile archive", () => {
  it.each(["../out", "a/../../out", "a/.."])("with an entry %j is refused", async (name) => {
    await expect(unpack([[{ name }, "evil"]])).rejects.toThrow();
    expect(await readdir(dir)).toEqual(["root"]);
  });

  it("writes absolute names below its folder", async () => {
    await unpack([[{ name: `${dir}/out` }, "evil"]]);
    expect(await readdir(dir)).toEqual(["root"]);
  });

  it("does not write through links, its own or those that are there", async () => {
    await mkdir(join(dir, "outside"));
    await writeFile(join(dir, "outside", "file"), "mine");
    await symlink(join(dir, "outside"), join(root, "there"));
    await symlink(join(dir, "outside", "file"), join(root, "also"));
    await unpack([
      [{ name: "link", type: "symlink", linkname: join(dir, "outside") }],
      [{ name: "link/file" }, "evil"],
      [{ name: "there/file" }, "evil"],
      [{ name: "also" }, "evil"],
    ]);
    expect(await readFile(join(dir, "outside", "file"), "utf8")).toBe("mine");
    expect(await readFile(join(root, "also"), "utf8")).toBe("evil");
    expect(await readFile(join(root, "there", "file"), "utf8")).toBe("evil");
    expect((await lstat(join(root, "link"))).isSymbolicLink()).toBe(true);
  });

  it("makes hard links to its own files only", async () => {
    await writeFile(join(dir, "secret"), "mine");
    await symlink(join(dir, "secret"), join(root, "way"));
    await unpack([
      [{ name: "a" }, "a"],
      [{ name: "b", type: "link", linkname: "a" }],
      [{ name: "c", type: "link", linkname: "way" }],
    ]);
    expect((await lstat(join(root, "a"))).nlink).toBe(2);
    expect((await readdir(root)).sort()).toEqual(["a", "b", "way"]);
    await expect(unpack([[{ name: "d", type: "link", linkname: "../secret" }]])).rejects.toThrow("outside");
  });

  it("leaves no set-user-id behind", async () => {
    await unpack([[{ name: "a", mode: 0o6755 }, "a"]]);
    expect((await lstat(join(root, "a"))).mode & 0o7777).toBe(0o755);
  });

  it("that is cut or no archive at all is an error, and no half file stays", async () => {
    const archive = pack();
    archive.entry({ name: "a" }, "x".repeat(200_000));
    archive.finalize();
    const bytes = zstdCompressSync(await bytesOf(archive));
    await expect(extractArchive(pieces(bytes.subarray(0, bytes.length - 10)), "", root)).rejects.toThrow();
    await expect(extractArchive(pieces(Buffer.from("<html>")), "", root)).rejects.toThrow();
    expect(await readdir(root)).toEqual([]);
  });
});

it.each([
  ["w:", { workspace: "w", path: "" }],
  ["w:/a/b", { workspace: "w", path: "a/b" }],
  ["notebook-7:a:b", { workspace: "notebook-7", path: "a:b" }],
  ["./w:a", { path: "./w:a" }],
  ["/w:a", { path: "/w:a" }],
  [".", { path: "." }],
  ["a/b", { path: "a/b" }],
])("cp %s", (text, place) => {
  expect(placeOf(text)).toEqual(place);
});
